"""Reading MMSA files: what comes out, what is refused, and that nothing in a file is ever run."""

import builtins
import codecs
import logging
import operator
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from selfmm_hf.data.mmsa import DataError, read_mmsa

SHARED = Path(__file__).resolve().parents[2] / "shared"
STEPS = {"audio": 5, "vision": 7}
WIDTHS = {"audio": 3, "vision": 2}


def tiny_split(name: str, rows: int = 3) -> dict:
    """Random frames with zero padding; row 1 has no audio, row 2 no text."""
    rng = np.random.default_rng(len(name))
    split = {
        "raw_text": [f"text {row} ä" for row in range(rows)],
        "id": [f"{name}$_${row}" for row in range(rows)],
        "text_bert": np.zeros((rows, 3, 6), dtype=np.float32),
        "text": np.zeros((rows, 6, 1), dtype=np.float32),
        "audio_lengths": [5, 0, 2][:rows],
        "vision_lengths": [1, 7, 3][:rows],
        "annotations": ["Positive"] * rows,
        "classification_labels": np.ones(rows, dtype=np.int64),
        "regression_labels": np.array([1.5, -3.0, 0.0][:rows], dtype=np.float32),
    }
    for row, count in enumerate([4, 2, 0][:rows]):
        split["text_bert"][row, 0, :count] = [101, 7592, 2088, 102][4 - count :]
        split["text_bert"][row, 1, :count] = 1
    for modality, steps in STEPS.items():
        split[modality] = rng.normal(size=(rows, steps, WIDTHS[modality])).astype(np.float32)
        for row, length in enumerate(split[f"{modality}_lengths"]):
            split[modality][row, length:] = 0
    return split


def tiny_file() -> dict:
    return {name: tiny_split(name) for name in ("train", "valid", "test")}


def write(path: Path, data: object, protocol: int = 4) -> Path:
    path.write_bytes(data if isinstance(data, bytes) else pickle.dumps(data, protocol))
    return path


def numpy_1_spelling(data: bytes) -> bytes:
    """Protocol 2 spells globals as lines, so the two names can be swapped without breaking lengths."""
    data = data.replace(b"cnumpy._core.", b"cnumpy.core.")  # nothing to swap where numpy is 1
    assert b"cnumpy.core.multiarray\n" in data
    return data


def pad(rows: list[np.ndarray], steps: int) -> np.ndarray:
    return np.stack([np.pad(row, ((0, steps - len(row)), (0, 0))) for row in rows])


def check_tiny(samples: dict, data: dict) -> None:
    assert list(samples) == ["train", "validation", "test"]
    for name, rows in samples.items():
        source = data[{"validation": "valid"}.get(name, name)]
        assert [row["id"] for row in rows] == source["id"]
        assert [row["raw_text"] for row in rows] == source["raw_text"]
        assert [row["label"] for row in rows] == [1.5, -3.0, 0.0]
        assert [row["input_ids"] for row in rows] == [[101, 7592, 2088, 102], [2088, 102], []]
        assert all(type(token) is int for row in rows for token in row["input_ids"])
        assert all(set(row) == {"id", "raw_text", "audio", "vision", "input_ids", "label"} for row in rows)
        for modality, steps in STEPS.items():
            frames = [row[modality] for row in rows]
            assert [len(row) for row in frames] == source[f"{modality}_lengths"]
            assert all(row.dtype == np.float32 and row.flags.writeable and row.flags.owndata for row in frames)
            np.testing.assert_array_equal(pad(frames, steps), source[modality])


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_reads_each_protocol(tmp_path, protocol):
    data = tiny_file()
    check_tiny(read_mmsa(write(tmp_path / "tiny.pkl", data, protocol)), data)


def test_reads_numpy_1_spelling_and_text_path(tmp_path):
    data = tiny_file()
    path = write(tmp_path / "tiny.pkl", numpy_1_spelling(pickle.dumps(data, 2)))
    check_tiny(read_mmsa(str(path)), data)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_other_spellings_of_the_same_columns(tmp_path, protocol):
    data = tiny_file()
    for split in data.values():
        split["raw_text"], split["id"] = np.array(split["raw_text"]), np.array(split["id"])[:, None]
        split["audio_lengths"] = np.array(split["audio_lengths"], dtype=np.float64)
        split["vision_lengths"] = [np.int64(length) for length in split["vision_lengths"]]
        split["regression_labels"] = split["regression_labels"][:, None].astype(">f8")
        split["text_bert"] = np.asfortranarray(split["text_bert"].astype(np.int64))
        split["audio"] = np.asfortranarray(split["audio"].astype(np.float64))
        split["vision"] = np.ascontiguousarray(split["vision"].transpose(1, 0, 2)).transpose(1, 0, 2)
        split["annotations"] = np.array(split["annotations"], dtype=object)  # not needed, so not looked at
    check_tiny(read_mmsa(write(tmp_path / "tiny.pkl", data, protocol)), tiny_file())


def test_unimodal_labels(tmp_path):
    data = tiny_file()
    for split in data.values():
        for factor, letter in enumerate("TAV", start=1):
            split[f"regression_labels_{letter}"] = split["regression_labels"] * factor
    rows = read_mmsa(write(tmp_path / "sims.pkl", data))["test"]
    assert rows[0]["unimodal_labels"] == {"text": 1.5, "audio": 3.0, "vision": 4.5}
    del data["test"]["regression_labels_A"]
    with pytest.raises(DataError, match=r"'test', column 'regression_labels_A': missing"):
        read_mmsa(write(tmp_path / "sims.pkl", data))


def test_aligned_file_takes_lengths_from_the_tokens(tmp_path):
    data = tiny_file()
    for split in data.values():
        del split["audio_lengths"], split["vision_lengths"]
        split["audio"], split["vision"] = np.ones((3, 6, 3), np.float32), np.ones((3, 6, 2), np.float32)
    rows = read_mmsa(write(tmp_path / "aligned.pkl", data))["train"]
    assert [row["audio"].shape for row in rows] == [(4, 3), (2, 3), (0, 3)]
    assert [row["vision"].shape for row in rows] == [(4, 2), (2, 2), (0, 2)]


def test_word_vectors_without_text_bert(tmp_path):
    data = tiny_file()
    for split in data.values():
        del split["text_bert"]
        split["text"] = np.ones((3, 6, 4), np.float32)
    rows = read_mmsa(write(tmp_path / "whole.pkl", data))["train"]
    assert [row["text"].shape for row in rows] == [(6, 4)] * 3 and "input_ids" not in rows[0]
    for split in data.values():
        split["text"] = np.ones((3, STEPS["audio"], 4), np.float32)
    rows = read_mmsa(write(tmp_path / "steps.pkl", data))["train"]
    assert [len(row["text"]) for row in rows] == [5, 0, 2]
    for split in data.values():
        split["text_lengths"] = [1, 2, 3]
    rows = read_mmsa(write(tmp_path / "lengths.pkl", data))["train"]
    assert [len(row["text"]) for row in rows] == [1, 2, 3]


@pytest.mark.parametrize("protocol", [4, 5])
def test_empty_split(tmp_path, protocol):
    data = tiny_file() | {"valid": tiny_split("valid", 0)}
    assert read_mmsa(write(tmp_path / "tiny.pkl", data, protocol))["validation"] == []


def test_non_finite_frames_are_zeroed_and_reported(tmp_path, caplog):
    data = tiny_file()
    data["valid"]["audio"][0, 1] = [np.nan, -np.inf, np.inf]
    data["valid"]["audio"][1] = np.nan  # padding only
    data["test"]["vision"] = data["test"]["vision"].astype(np.float64)
    data["test"]["vision"][1, 6, 1] = 1e300
    with caplog.at_level(logging.WARNING):
        samples = read_mmsa(write(tmp_path / "tiny.pkl", data))
    assert not samples["validation"][0]["audio"][1].any() and samples["validation"][0]["audio"][0].all()
    assert samples["test"][1]["vision"][6, 1] == 0
    assert [record.getMessage().split(", ", 1)[1] for record in caplog.records] == [
        "split 'valid', column 'audio': 3 values that are NaN or infinite were set to 0",
        "split 'test', column 'vision': 1 values that are NaN or infinite were set to 0",
    ]


# ---- what is refused


def refused(path: Path, match: str | None = None) -> None:
    with pytest.raises(DataError, match=match) as caught:
        read_mmsa(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message and len(message) < 600


def test_files_that_are_no_pickles(tmp_path):
    refused(tmp_path / "absent.pkl", "no such file")
    refused(tmp_path, "not a file")
    refused(write(tmp_path / "empty.pkl", b""), "empty")
    refused(write(tmp_path / "zip.pkl", b"PK\x03\x04rest"), r"not a pickle .* b'PK\\x03\\x04rest'")
    refused(write(tmp_path / "page.pkl", b"<html>\n<body>"), "not a pickle")
    refused(write(tmp_path / "old.pkl", tiny_file(), 0), "not a pickle of protocol 2 to 5")
    refused(write(tmp_path / "new.pkl", b"\x80\x06N."), "not a pickle of protocol 2 to 5")
    refused(write(tmp_path / "one.pkl", b"\x80"), "not a pickle")


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_every_truncation_is_an_error(tmp_path, protocol):
    data = pickle.dumps(tiny_file(), protocol)
    for end in range(1, len(data), 37):
        refused(write(tmp_path / "cut.pkl", data[:end]))


def test_random_damage_gives_an_error_or_samples(tmp_path):
    clean, rng = pickle.dumps(tiny_file(), 4), np.random.default_rng(0)
    for _ in range(300):
        data = bytearray(clean)
        for position in rng.integers(2, len(data), 3):
            data[position] = rng.integers(256)
        path = write(tmp_path / "damaged.pkl", bytes(data))
        try:
            read_mmsa(path)
        except DataError as error:
            assert "\n" not in str(error)


def change(column: str, value: object, split: str = "valid"):
    def apply(data: dict) -> None:
        data[split][column] = value(data[split][column]) if callable(value) else value

    return apply


def drop(*columns: str):
    def apply(data: dict) -> None:
        for column in columns:
            del data["valid"][column]

    return apply


def put(column: str, where: tuple, value: float):
    def apply(data: dict) -> None:
        data["valid"][column][where] = value

    return apply


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: data.pop("test"), "split 'test' is missing"),
        (lambda data: data.update(train=[1]), "split 'train' is missing"),
        (drop("id"), "'valid', column 'id': missing"),
        (drop("raw_text"), "'valid', column 'raw_text': missing"),
        (drop("audio"), "'valid', column 'audio': missing"),
        (drop("text_bert"), "'valid', column 'text_bert': missing"),
        (drop("regression_labels"), "'regression_labels': missing, and classification_labels do not"),
        (drop("regression_labels", "classification_labels"), "'regression_labels': missing; an MMSA"),
        (change("id", ["a", "b", "a"]), r"'id', row 2 \(id 'a'\): the same id occurs twice"),
        (change("id", ["a", 7, "b"]), "'id', row 1: expected text, got int"),
        (change("id", {}), "'id': expected a list or an array"),
        (change("id", np.array("a")), "'id': expected a list or an array"),
        (change("id", np.zeros((3, 2), "U3")), r"'id': expected one value per sample, .* \(3, 2\)"),
        (change("raw_text", ["a"]), "'raw_text': has 1 rows, but column 'id' has 3"),
        (change("raw_text", ["a", None, "b"]), r"'raw_text', row 1 \(id 'valid\$_\$1'\): expected text"),
        (change("audio", lambda a: a[:2]), "'audio': has 2 rows"),
        (change("audio", lambda a: a[0]), "'audio': has 5 rows"),
        (change("audio", lambda a: a[:, 0]), r"'audio': expected an array .* float32 \(3, 3\)"),
        (change("audio", lambda a: a.tolist()), "'audio': expected an array .* a list"),
        (change("audio", lambda a: a.astype(object)), "'audio': an array of Python objects"),
        (change("audio", lambda a: a.astype("U3")), "'audio': expected an array of numbers"),
        (change("audio", lambda a: a.astype(complex)), "dtype 'c16'"),
        (change("audio", lambda a: a[:, :, :2]), "'valid', column 'audio': 2 values wide, expected 3"),
        (change("vision", lambda a: a[:, :, :0], "train"), "'vision': 0 values wide, expected at least one"),
        (change("vision", np.zeros(3, [("a", "f4")])), "dtype 'V4'"),
        (
            change("audio_lengths", [5, 6, 1]),
            r"'audio_lengths', row 1 \(id .*: audio length 6 is not .* 0..5",
        ),
        (change("audio_lengths", [5, 1, -1]), "row 2 .* audio length -1"),
        (change("audio_lengths", [5, 1, 0.5]), "row 2 .* audio length 0.5"),
        (change("audio_lengths", [5, 1, "1"]), "row 2 .* expected a number, got str"),
        (change("audio_lengths", [5, 1, 10**400]), "row 2 .* expected a finite number"),
        (drop("audio_lengths", "text_bert"), "column 'text_bert': missing"),
        (
            put("regression_labels", (1,), np.nan),
            r"'regression_labels', row 1 \(id .*: expected a finite number",
        ),
        (put("regression_labels", (2,), -np.inf), "'regression_labels', row 2"),
        (change("regression_labels", np.zeros((3, 2))), "'regression_labels': expected one value per sample"),
        (put("text_bert", (0, 0, 1), -1), r"'text_bert', row 0 \(id .*: token ids must be whole numbers"),
        (put("text_bert", (1, 0, 1), 2.5), "'text_bert', row 1 .*: token ids"),
        (put("text_bert", (1, 0, 1), np.nan), "'text_bert', row 1 .*: token ids"),
        (put("text_bert", (1, 0, 1), np.inf), "'text_bert', row 1 .*: token ids"),
        (put("text_bert", (1, 1, 0), 0), "'text_bert', row 1 .*: the attention mask"),
        (put("text_bert", (2, 1, 0), 2), "'text_bert', row 2 .*: the attention mask"),
        (change("text_bert", lambda a: a[:, :2]), "'text_bert': expected shape"),
    ],
)
def test_layout_errors(tmp_path, spoil, message):
    data = tiny_file()
    spoil(data)
    refused(write(tmp_path / "tiny.pkl", data), message)


def test_file_without_lengths_and_tokens(tmp_path):
    data = tiny_file()
    for split in data.values():
        del split["text_bert"], split["audio_lengths"]
    refused(write(tmp_path / "tiny.pkl", data), "'train', column 'audio_lengths': missing")


def test_aligned_file_with_fewer_frames_than_tokens(tmp_path):
    data = tiny_file()
    for split in data.values():
        del split["vision_lengths"]
        split["vision"] = split["vision"][:, :3]
    refused(write(tmp_path / "aligned.pkl", data), "'text_bert', row 0 .*: vision length 4 is not .* 0..3")


# ---- hostile files: each would create the marker, or exhaust the machine, in a plain `pickle.load`


class Call:
    """Pickles as a call of `function`, which is what a hostile file is made of."""

    def __init__(self, function, *arguments, state=None):
        self.value = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.value


def dtype(code: str, *state: object) -> Call:
    return Call(np.dtype, code, False, True, state=state or (3, "<", None, None, None, -1, -1, 0))


RECONSTRUCT = np.zeros(0).__reduce__()[0]
SCALAR = np.float64(0).__reduce__()[0]
FROMBUFFER = np.zeros(1).__reduce_ex__(5)[0]


def array(*state: object) -> Call:
    return Call(RECONSTRUCT, np.ndarray, (0,), b"b", state=state)


def hostile_objects(marker: str) -> dict[str, object]:
    command = f"touch {marker}"
    code = f"open({marker!r}, 'w').close()"
    loads = pickle.dumps(Call(os.system, command))
    payload = Call(os.system, command)
    return {
        "os.system": payload,
        "eval": Call(eval, code),
        "exec": Call(exec, code),
        "getattr": Call(getattr, Call(__import__, "os"), "system"),
        "import": Call(__import__, "antigravity"),
        "open": Call(builtins.open, marker, "w"),
        "loads": Call(pickle.loads, loads),
        "methodcaller": Call(operator.methodcaller, "system", command),
        "np.load": Call(np.load, marker, None, True),
        "np.save": Call(np.save, marker, [1]),
        "codecs decode": Call(codecs.decode, loads, "rot13"),
        "encode with another codec": Call(codecs.encode, "text", "rot13"),
        "encode without codec": Call(codecs.encode, "text"),
        "encode of bytes": Call(codecs.encode, b"text", "latin1"),
        "object array": np.array([payload], dtype=object),
        "nested": [{"a": ([payload], {"b": payload})}],
        "state": array(1, (1,), dtype("f4"), False, payload),
        "object scalar": Call(SCALAR, dtype("O8"), b"12345678"),
        "scalar of too few bytes": Call(SCALAR, dtype("f8"), b""),
        "giant ndarray": Call(np.ndarray, (2**40,)),
        "giant reconstruct": Call(RECONSTRUCT, np.ndarray, (2**40,), b"b"),
        "subclass": Call(RECONSTRUCT, np.matrix, (0,), b"b"),
        "reconstruct of a dtype": Call(RECONSTRUCT, np.dtype, (0,), b"b"),
        "giant state": array(1, (2**40,), dtype("f4"), False, b"few bytes"),
        "giant product": array(1, (2**39,) * 8, dtype("f4"), False, b""),
        "negative shape": array(1, (-1, -4), dtype("f4"), False, b"0123456789abcdef"),
        "shape of floats": array(1, (1.0,), dtype("f4"), False, b"0123"),
        "state of text": array(1, (4,), dtype("i1"), False, "0123"),
        "state of lists": array(1, (2,), dtype("O8"), False, [payload, payload]),
        "short state": array(1, (4,)),
        "frombuffer too small": Call(FROMBUFFER, b"", dtype("f4"), (2**40,), "C"),
        "frombuffer axes": Call(FROMBUFFER, b"0123", dtype("f4"), (1,), "K", (5,)),
        "dtype metadata": dtype("f4", 4, "<", None, None, None, -1, -1, 0, {"a": 1}),
        "dtype fields": dtype("f4", 3, "|", None, ("a",), {"a": (dtype("f4"), 0)}, 4, 1, 16),
        "dtype subarray": dtype("f4", 3, "|", (dtype("f4"), (2**40,)), None, None, 4, 1, 0),
        "void dtype": dtype("V8"),
        "zero width text": array(1, (2**39,), dtype("U0"), False, b""),
        "dtype of text": Call(np.dtype, "f4,O"),
        "dtype of a list": Call(np.dtype, [("a", "O")]),
    }


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("name", list(hostile_objects("x")))
def test_hostile_objects(tmp_path, name, protocol):
    marker = tmp_path / "marker"
    payload = hostile_objects(str(marker))[name]
    for data in (payload, tiny_file() | {"extra": [payload]}):
        refused(write(tmp_path / "hostile.pkl", data, protocol))
        assert not marker.exists()


@pytest.mark.parametrize("name", ["os.system", "eval", "nested", "object array"])
def test_the_hostile_objects_do_run_in_a_plain_unpickler(tmp_path, name):
    marker = tmp_path / "marker"
    pickle.loads(pickle.dumps(hostile_objects(str(marker))[name]))
    assert marker.exists()


GLOBAL_CALL = b"\x80\x04c%b\n(V%b\ntR."


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"os\nsystem", "os.system"),
        (b"numpy\nos.system", "numpy.os.system"),
        (b"numpy\ndtype.__class__", "numpy.dtype.__class__"),
        (b"numpy.core.multiarray\n__builtins__", "__builtins__"),
        (b"numpy dtype\n", "numpy.dtype."),
        (b"builtins\ngetattr", "builtins.getattr"),
        (b"selfmm_hf.data.mmsa\nread_mmsa", "selfmm_hf.data.mmsa.read_mmsa"),
    ],
)
def test_the_refused_global_is_named(tmp_path, name, shown):
    refused(write(tmp_path / "lines.pkl", GLOBAL_CALL % (name, b"touch x")), f"asks for '.*{shown}'")
    module, _, attribute = name.partition(b"\n")
    pushes = b"".join(b"\x8c" + bytes([len(text)]) + text for text in (module, attribute))
    refused(write(tmp_path / "stack.pkl", b"\x80\x04" + pushes + b"\x93."), f"asks for '.*{shown}'")


@pytest.mark.parametrize(
    "body",
    [
        b"cnumpy\ndtype\n}b.",  # state of a class
        b"cnumpy\ndtype\n)\x81.",  # NEWOBJ
        b"cnumpy\ndtype\n)}\x92.",  # NEWOBJ_EX
        b"(inumpy\ndtype\n.",  # INST
        b"(cnumpy\ndtype\no.",  # OBJ
        b"cnumpy\ndtype\nN\x86b.",
        b"cnumpy\nndarray\n(K\x01tR.",
        b"]}b.",  # state of a list
        b"Pos\n.",  # persistent ids
        b"NQ.",
        b"\x82\x01.",  # extension registry
        b"\x97.",  # out-of-band buffer
        b"N)R.",  # call of a plain value
        b"\x8c\x06systemN\x85R.",
        b"a.",  # nothing to append to
        b"e.",
        b"(e.",
        b"u.",
        b"}(Nu.",
        b"}NNs.",  # a key that is not text
        b"}(((ttNu.",
        b"}\x8c\x01a(s.",
        b"t.",
        b"h\x07.",  # memo that was never set
        b"q\x00.",
        b".",
        b"",
        b"\xff",
        b"0.",
        b"2.",
        b"S'os'\n.",
        b"I1\n.",
        b"\x8f.",  # set
        b"\x8e" + struct.pack("<Q", 2**62) + b"x.",  # BINBYTES8 longer than the file
        b"\x8e" + struct.pack("<Q", 2**64 - 1) + b"x.",
        b"\x96" + struct.pack("<Q", 2**40) + b"x.",
        b"\x8d" + struct.pack("<Q", 2**40) + b"x.",
        b"B" + struct.pack("<I", 2**32 - 1) + b"x.",
        b"\x95" + struct.pack("<Q", 2**60) + b"N.",  # frame longer than the file
        b"Nr\xff\xff\xff\xff.",  # memo bomb: a plain unpickler makes room for 2**33 entries
        b"\x8b" + struct.pack("<i", -1) + b".",
        b"\x8b" + struct.pack("<i", 2**31 - 1) + b".",
        b"\x8c\x01\xff.",  # not UTF-8
        b"]" * 200_000 + b"a" * 199_999 + b".",  # deep nesting
        b"(" * 200_000 + b"t" * 200_000 + b".",
        b")" + b"\x85" * 300_000 + b"Ns.",
        b"}" + b")" + b"\x85" * 300_000 + b"Ns.",  # a deep key, whose hash would overflow the C stack
        b"]" + b"q\x00h\x00h\x00\x86" * 5000 + b".",
    ],
)
def test_hostile_opcodes(tmp_path, body):
    refused(write(tmp_path / "hostile.pkl", b"\x80\x04" + body))


def test_a_text_cannot_be_multiplied(tmp_path):
    text = b"X" + struct.pack("<I", 100_000) + b"x" * 100_000
    call = b"c_codecs\nencode\n" + text + b"q\x00X\x06\x00\x00\x00latin1\x86R0"
    again = b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R"
    refused(write(tmp_path / "bomb.pkl", b"\x80\x02" + call[:-1] + again * 50 + b"."), "expands to more")


def test_self_reference_is_no_split(tmp_path):
    data: dict = {}
    data["train"] = data["valid"] = data["test"] = data
    data["id"] = [data]
    refused(write(tmp_path / "cycle.pkl", data), "'id', row 0: expected text, got dict")


def test_huge_names_are_cut_in_messages(tmp_path):
    name = b"a\\n" * 100_000
    refused(write(tmp_path / "name.pkl", b"\x80\x04c" + name + b"\n" + name + b"\n."), "asks for")
    data = tiny_file()
    data["train"]["id"][1] = data["train"]["id"][0] = "x\n" * 100_000
    refused(write(tmp_path / "id.pkl", data), "the same id")


# ---- published files


def published(name: str) -> Path:
    path = SHARED / "data" / name
    if not path.exists():
        pytest.skip(f"the evaluation data (../shared/data/{name}) are not here")
    return path


@pytest.mark.parametrize(
    ("name", "counts"),
    [("mosi/unaligned_50.pkl", (1284, 229, 686)), ("mosi/bclstm_split.pkl", (1301, 146, 752))],
)
def test_mosi(name, counts):
    path = published(name)
    samples = read_mmsa(path)
    assert tuple(map(len, samples.values())) == counts
    with path.open("rb") as file:
        data = pickle.load(file)  # trusted here, to compare with the arrays as they are
    for split, source in zip(samples.values(), data.values(), strict=True):
        for modality in ("audio", "vision"):
            padded = pad([row[modality] for row in split], source[modality].shape[1])
            np.testing.assert_array_equal(padded, source[modality])
            assert [len(row[modality]) for row in split] == source[f"{modality}_lengths"]
        ids = pad([np.array(row["input_ids"])[:, None] for row in split], 50)[:, :, 0]
        np.testing.assert_array_equal(ids, source["text_bert"][:, 0])
        np.testing.assert_array_equal([row["label"] for row in split], source["regression_labels"])
        assert [row["id"] for row in split] == source["id"]
        assert [row["raw_text"] for row in split] == source["raw_text"]


def test_mmmo():
    samples = read_mmsa(published("mmmo/mmmo.pkl"))
    assert tuple(map(len, samples.values())) == (30, 10, 80)
    row = samples["test"][0]
    assert row["text"].shape == (17, 300) and row["audio"].shape == (17, 74) and "input_ids" not in row


def test_feature_extractor_output_is_not_this_layout():
    refused(published("mmsa_fet_examples/example.pkl"), "split 'train' is missing")
    refused(published("mmsa_fet_examples/feature_aligned.pkl"), "split 'train' is missing")


def test_object_arrays_of_text_are_read(tmp_path):
    """Some files keep sentences in arrays of dtype object; those that hold text and nothing else are read."""
    data = tiny_file()
    for split in data.values():
        split["raw_text"] = np.array(split["raw_text"], dtype=object)
    samples = read_mmsa(write(tmp_path / "object.pkl", data))
    assert [sample["raw_text"] for sample in samples["train"]] == list(data["train"]["raw_text"])
