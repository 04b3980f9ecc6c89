"""
Valid files, damaged at random. Whatever the damage: tables whose samples can all be read, or one [`DataError`]; no
other exception, no warning, nothing run, no end of waiting.
"""

import pickle
import pickletools
import random
import struct
import warnings
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_mmsa import tiny_file
from test_safe_pickle import guarded, numpy_1_spelling

from selfmm_hf.data.mmsa import NOT_FINITE, DataError, Rules, read_mmsa
from selfmm_hf.data.targets import score

PROTOCOLS = [2, 3, 4, 5]
SPLITS = ["train", "valid", "test"]


def property_test(examples: int):
    return settings(
        max_examples=examples,
        deadline=timedelta(seconds=10),
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


# ---- the valid files


def aligned(data: dict) -> None:
    for split in data.values():
        del split["audio_lengths"], split["vision_lengths"]
        split["audio"], split["vision"] = np.ones((3, 6, 3), np.float32), np.ones((3, 6, 2), np.float32)


def word_vectors(data: dict) -> None:
    for split in data.values():
        del split["text_bert"]
        split["text"], split["text_lengths"] = np.ones((3, 6, 4), np.float16), [1, 2, 3]


def arrays(data: dict) -> None:
    for split in data.values():
        for column in ("id", "raw_text", "annotations", "audio_lengths", "vision_lengths"):
            split[column] = np.array(split[column])
        split["align"] = np.array([[(0, 1)], [], None], dtype=object)
        split["text_bert"] = split["text_bert"].astype(np.int64)
    data["config"] = {"audio": {"tool": "librosa", "args": [1, 2.5, None, True]}}


def unimodal(data: dict) -> None:
    for split in data.values():
        split |= {f"regression_labels_{letter}": list(split["regression_labels"]) for letter in "TAV"}
        split["audio"] = np.asfortranarray(split["audio"].astype(">f8"))
        split["raw_text"] = np.array(split["raw_text"], dtype=object)


def files() -> dict[int, list[bytes]]:
    found: dict[int, list[bytes]] = {}
    for protocol in PROTOCOLS:
        found[protocol] = [pickle.dumps(tiny_file(), protocol)]
        for variant in (aligned, word_vectors, arrays, unimodal):
            data = tiny_file()
            variant(data)
            found[protocol].append(pickle.dumps(data, protocol))
    found[2].append(numpy_1_spelling(found[2][0]))
    return found


FILES = files()
# Where the opcodes of each file start.
STARTS = {file: [position for _, _, position in pickletools.genops(file)] for files in FILES.values() for file in files}
CODES = [opcode.code.encode("latin1") for opcode in pickletools.opcodes]


# ---- what must hold


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged")


def check(path: Path, content: bytes, rules: Rules | None = None) -> bool:
    """Whether the file could be read to its end."""
    path.unlink(missing_ok=True)  # the file before may still be mapped
    path.write_bytes(content)
    rules = rules or Rules()
    with guarded():
        try:
            tables = read_mmsa(path, rules)
            samples = [(table, list(table.samples()), table.notices()) for table in tables.values()]
        except DataError as error:
            message = str(error)
            assert message.startswith(str(path)) and "\n" not in message and len(message) < 1000
            return False
    assert list(tables) == ["train", "validation", "test"]
    for table, rows, notices in samples:
        assert len(rows) == len(table) > 0
        assert len({row["id"] for row in rows}) == len(rows)
        assert all(type(notice) is str and "\n" not in notice and len(notice) < 1000 for notice in notices)
        for row in rows:
            assert set(row) == set(tables["train"].columns)
            for name, value in row.items():
                check_value(name, value, table, rules)
    return True


def check_value(name: str, value: object, table, rules: Rules) -> None:
    if name in ("id", "text"):
        assert type(value) is str and value.encode().decode() == value
    elif name in table.arrays:
        assert value.dtype == np.float32 and value.shape[1] == table.widths[name] and value.flags.owndata
        assert len(value) <= table.padded[name]
        assert rules.not_finite == "keep" or np.isfinite(value).all()
    elif name == "input_ids":
        assert value.dtype == np.int32 and value.ndim == 1 and (value >= 0).all()
        assert rules.vocabulary is None or (value < rules.vocabulary).all()
    else:
        assert type(value) is float and np.isfinite(np.float32(value))
        assert rules.task is None or abs(value) <= rules.task.label_range + 1e-6


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_files_are_valid(folder, protocol):
    for file in FILES[protocol]:
        assert check(folder / "valid.pkl", file)


# ---- damage to the bytes

EXTREMES = [0, 1, 2, 3, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63]
EXTREMES += [2**64 - 1]
DAMAGES = ["flip", "set", "number", "opcode", "insert", "delete", "cut", "double", "splice", "zero", "swap", "move"]
DAMAGES += ["flip", "set"]  # which leave a file that can be read more often than the others


def damage(protocol: int, seed: int) -> bytes:
    """A valid file after some of what may befall it."""
    rng = random.Random(seed)
    file = rng.choice(FILES[protocol])
    content, starts = bytearray(file), STARTS[file]
    for _ in range(rng.choice([1, 1, 1, 2, 3, 6])):
        end = len(content)
        position = rng.choice([rng.randrange(2, end), rng.choice(starts)]) % end
        length = rng.choice([1, rng.randint(1, 12), rng.randint(1, end)])
        match rng.choice(DAMAGES):
            case "flip":
                content[position] ^= 1 << rng.randrange(8)
            case "set":
                content[position] = rng.randrange(256)
            case "insert":
                content[position:position] = rng.randbytes(rng.randint(1, 12))
            case "delete":
                del content[position : position + length]
            case "cut":
                del content[max(position, 2) :]
            case "double":
                content[position:position] = content[position : position + length]
            case "splice":
                other = rng.choice(FILES[rng.choice(PROTOCOLS)])
                start = rng.choice(STARTS[other])
                content[position : position + rng.randint(0, 20)] = other[start : start + length]
            case "opcode":
                content[position : position + 1] = rng.choice(CODES)
            case "number":
                kind = rng.choice("BHIQ")
                size = struct.calcsize(f"<{kind}")
                content[position + 1 : position + 1 + size] = struct.pack(f"<{kind}", rng.choice(EXTREMES) % 256**size)
            case "zero":
                content[position : position + length] = bytes(min(length, end - position))
            case "swap":
                other = rng.randrange(end)
                content[position], content[other] = content[other], content[position]
            case "move":
                part = content[position : position + length]
                del content[position : position + length]
                start = rng.randint(0, len(content))
                content[start:start] = part
        content += b"..."[len(content) :]
    return bytes(content)


@st.composite
def rules(draw) -> Rules:
    return Rules(
        draw(st.sampled_from(NOT_FINITE)),
        draw(st.sampled_from([None, score(3.0), score(1.0)])),
        draw(st.sampled_from([None, 30522, 1000])),
    )


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_damaged_bytes(folder, protocol):
    outcomes = []

    @property_test(150)
    @given(st.integers(0, 2**64), rules())
    def run(seed, rules):
        outcomes.append(check(folder / "bytes.pkl", damage(protocol, seed), rules))

    run()
    assert 0.01 < np.mean(outcomes) < 0.9  # else the damage is too great, or none


@property_test(100)
@given(content=st.binary(max_size=200), protocol=st.sampled_from(PROTOCOLS))
def test_bytes_that_never_were_a_file(folder, content, protocol):
    check(folder / "random.pkl", b"\x80" + bytes([protocol]) + content)


@st.composite
def program(draw) -> bytes:
    """Opcodes in any order, most of which have what they need."""
    known = (
        b"cnumpy\ndtype\n",
        b"cnumpy\nndarray\n",
        b"c_codecs\nencode\n",
        b"cos\nsystem\n",
        b"c__builtin__\nbytes\n",
    )
    known += (b"cnumpy.core.multiarray\n_reconstruct\n", b"cnumpy.core.multiarray\nscalar\n")
    known += (b"cnumpy._core.numeric\n_frombuffer\n", b"}\x8c\x02id]s", b"\x8c\x05train", b"\x8c\x06latin1")
    known += (
        b"\x8c\x02f4",
        b"\x8c\x02O8",
        b"\x8c\x02U1",
        b"\x8c\x02U0",
        b"\x8c\x01<",
        b"\x8c\x01C",
        b"C\x04abcd",
        b"C\x00",
    )
    known += (
        b"K\x00\x85",
        b"K\x01\x85",
        b"(K\x01",
        b"(K\x03",
        b"K\x01",
        b"J\xff\xff\xff\xff",
        b"\x8a\x08" + b"\x7f" * 8,
    )
    known += (b"\x85R", b"\x86R", b"\x87R", b")R", b"tR", b"tb", b"b", b"h\x00", b"h\x01", b"q\x00", b"q\x01", b"\x94")
    known += (
        b"]",
        b"}",
        b")",
        b"(",
        b"t",
        b"e",
        b"a",
        b"u",
        b"s",
        b"N",
        b"\x88",
        b"\x89",
        b"\x93",
        b".",
        b"\x85",
        b"\x86",
    )
    parts = draw(st.lists(st.sampled_from(known), min_size=1, max_size=40))
    return b"\x80\x04" + b"".join(parts) + b"."


@property_test(250)
@given(content=program())
def test_opcodes_in_any_order(folder, content):
    check(folder / "program.pkl", content)


# ---- damage to the values

ODD_VALUES = [float("nan"), float("inf"), -float("inf"), 1e300, -1e300, 3.5e38, 1e-320, -1, -0.5, 2.5, 2**31, 2**63]
ODD_VALUES += [10**400, -(10**400), True, None, "", "text", "\ud800", b"", (), [], {}, np.float32("nan"), np.int8(-3)]
ODD_VALUES += [np.zeros(0), np.array("text"), np.str_(""), "ä" * 1000, 10**20, np.array([[None]])]
KINDS = ["b1", "i1", "u1", "i2", ">i4", "i8", "u8", "f2", "f4", ">f4", "f8", "U2", "S3", "O", "c8", "M8[s]", "V4"]

CHANGES = ["put", "put", "put", "bits", "type", "drop", "move", "rows", "axis", "list", "array", "odd", "order"]
CHANGES += ["other", "twin"]
IMPOSSIBLE = (ValueError, TypeError, OverflowError, IndexError)  # then the column stays as it is


@st.composite
def spoilt(draw) -> bytes:
    """A file whose values are wrong, though it is a fine pickle."""
    data = tiny_file()
    draw(st.sampled_from([lambda data: None, aligned, word_vectors, arrays, unimodal]))(data)
    for _ in range(draw(st.integers(1, 4))):
        name = draw(st.sampled_from(SPLITS))
        if type(data.get(name)) is not dict or not data[name]:
            continue
        of = SPLITS if draw(st.booleans()) else [name]  # all of the splits, or one
        column = draw(st.sampled_from(sorted(data[name])))
        change = draw(changes())
        for split in of:
            if type(data.get(split)) is dict and column in data[split]:
                with warnings.catch_warnings(action="ignore"), suppress(*IMPOSSIBLE):
                    change(data, split, column)
    return pickle.dumps(data, draw(st.sampled_from(PROTOCOLS)))


@st.composite
def changes(draw):
    """What to do to a column of a split."""
    odd, kind = draw(st.sampled_from(ODD_VALUES)), draw(st.sampled_from(KINDS))
    seed, number = draw(st.integers(0, 2**32 - 1)), draw(st.integers(-3, 8))
    what = draw(st.sampled_from(CHANGES))

    def change(data: dict, split: str, column: str) -> None:
        columns, rng = data[split], np.random.default_rng(seed)
        value = columns[column]
        array = np.array(value, dtype=object) if isinstance(value, list) else np.asarray(value)
        if what == "put" and isinstance(value, list) and value:
            columns[column] = [odd if row == seed % len(value) else one for row, one in enumerate(value)]
        elif what == "put" and array.size and isinstance(odd, int | float):
            array = array.copy()
            array[tuple(rng.integers(0, array.shape))] = odd
            columns[column] = array
        elif what == "bits" and array.dtype.kind in "iufU":  # signaling NaN, characters that there are not
            noise = rng.integers(0, 256, array.nbytes, np.uint8)
            columns[column] = noise.view(array.dtype).reshape(array.shape)
        elif what == "type":
            columns[column] = array.astype(kind)
        elif what == "drop":
            del columns[column]
        elif what == "move":
            columns[f"{column}_"] = columns.pop(column)
        elif what == "rows":
            columns[column] = value[:number] if isinstance(value, list | np.ndarray) else value
        elif what == "axis" and array.ndim:
            views = (array.T, array[..., None], array[None], array[:0], array[..., :0], array[::-1], array[:1])
            columns[column] = [*views, np.asfortranarray(array), array.reshape(-1)][seed % 9]
        elif what == "list":
            columns[column] = array.tolist()
        elif what == "array":
            columns[column] = array
        elif what == "odd":
            columns[column] = odd
        elif what == "order":
            names = list(columns)
            rng.shuffle(names)
            data[split] = {one: columns[one] for one in names}
        elif what == "other":
            columns[column] = columns[sorted(columns)[seed % len(columns)]]
        elif what == "twin":
            data[split] = data[SPLITS[seed % 3]]

    return change


def test_spoilt_values(folder):
    outcomes = []

    @property_test(150)
    @given(spoilt(), rules())
    def run(content, rules):
        outcomes.append(check(folder / "values.pkl", content, rules))

    run()
    assert 0.05 < np.mean(outcomes) < 0.9
