"""Published layouts that are not MMSA's: recognized by name, read where they have what is needed, told otherwise."""

import io
import os
import pickle
import subprocess
import sys
from typing import ClassVar

import fresh
import numpy as np
import pytest
from test_mmsa import rows_of, tiny_file
from test_safe_pickle import guarded, write

from selfmm_hf.data import find_builder, load_splits
from selfmm_hf.data.mmsa import DataError, Rules, read_mmsa

WORDS = [["it", "sp", "was", "good"], ["bad"], ["so", "so"]]
SCORES = [2.4, -3.0, 0.0]


def frames(row, width, dtype=np.float64):
    return np.arange(1, len(WORDS[row]) * width + 1, dtype=dtype).reshape(-1, width) + row


def tuples(words=lambda words: words, label=lambda score: np.float32([[score]]), inner=lambda *parts: parts):
    """As for MAG-BERT: `((words, vision, acoustic), label, segment)`."""
    return {
        split: [
            (inner(words(WORDS[row]), frames(row, 4), frames(row, 5)), label(SCORES[row]), f"{split}vid[{row}]")
            for row in range(3)
        ]
        for split in ("train", "dev", "test")
    }


def read(path, rules=None):
    with guarded():
        tables = read_mmsa(path, rules)
    return tables, {split: rows_of(table) for split, table in tables.items()}


class _Python2(pickle._Pickler):
    """Writes as Python 2 did by its protocol 2: text and the bytes of arrays are both `str`."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_either(self, value: str | bytes) -> None:
        data = value.encode() if isinstance(value, str) else value
        short = len(data) < 256
        self.write((b"U" if short else b"T") + len(data).to_bytes(1 if short else 4, "little") + data)
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = save_either


def as_python_2(data) -> bytes:
    file = io.BytesIO()
    _Python2(file, 2).dump(data)
    return file.getvalue().replace(b"cnumpy._core.", b"cnumpy.core.")


def check_tuples(path, aligned=True):
    tables, samples = read(path)
    assert [table.aligned for table in tables.values()] == [aligned] * 3
    for split, rows in samples.items():
        name = {"validation": "dev"}.get(split, split)
        assert [row["id"] for row in rows] == [f"{name}vid[{row}]" for row in range(3)]
        assert [row["text"] for row in rows] == ["it was good", "bad", "so so"]
        assert [row["label"] for row in rows] == pytest.approx(SCORES)
        for row, sample in enumerate(rows):
            np.testing.assert_array_equal(sample["vision"], frames(row, 4, np.float32))
            np.testing.assert_array_equal(sample["audio"], frames(row, 5, np.float32))
    assert "the tuple layout of MAG-BERT, MISA and MMIM" in tables["train"].notices()[0]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "words",
    [
        lambda words: words,
        tuple,
        np.array,
        lambda words: np.array(words, dtype=object),
        lambda words: np.array(words, dtype=object)[:, None],
        lambda words: np.array(words, dtype="S")[:, None],  # as the CMU SDK has them
    ],
)
@pytest.mark.parametrize(
    "label", [float, lambda score: np.float32([[score]]), lambda score: np.float64([[score, *range(6)]])]
)
def test_tuples_of_mag_bert(tmp_path, protocol, words, label):
    check_tuples(write(tmp_path / "mosi.pkl", tuples(words, label), protocol))


def test_tuples_with_the_words_as_a_fourth_and_their_lengths(tmp_path):
    def numbered(words, vision, acoustic):
        return np.arange(len(words)), vision, acoustic, words

    check_tuples(write(tmp_path / "misa.pkl", tuples(inner=numbered)))

    def with_lengths(words, vision, acoustic):
        return [], vision, acoustic, words, np.int64(len(vision)), np.int64(len(acoustic))

    check_tuples(write(tmp_path / "mmim.pkl", tuples(inner=with_lengths)), aligned=False)


def test_tuples_become_a_data_set(tmp_path):
    samples = load_splits("custom", str(write(tmp_path / "mine.pkl", tuples())))
    assert samples["train"].lengths("audio").tolist() == [4, 1, 2] and samples["test"].widths == {
        "audio": 5,
        "vision": 4,
    }
    assert find_builder("mosi", str(tmp_path / "mine.pkl")).config.name == "aligned"


def arrays(steps=(6, 6, 6), classes=1, front=True, ids=None):
    """As for MulT and MultiBench; the second clip has two frames of each, the others are full."""
    data = {}
    for split in ("train", "valid", "test"):
        data[split] = {}
        for name, count, width in zip(("text", "audio", "vision"), steps, (300, 5, 4), strict=True):
            values = np.arange(1, 3 * count * width + 1, dtype=np.float32).reshape(3, count, width)
            values[1, : count - 2] = 0
            data[split][name] = values if front else values[:, ::-1].copy()
        data[split]["labels"] = np.zeros((3, 1, classes), np.float32)
        data[split]["labels"][:, 0, 0] = SCORES
        if ids is not None:
            data[split]["id"] = ids
    return data


@pytest.mark.parametrize("front", [True, False])
@pytest.mark.parametrize("classes", [1, 7])
def test_arrays_of_mult(tmp_path, front, classes):
    data = arrays(
        classes=classes,
        front=front,
        ids=np.array([[b"vid_1", b"0.5", b"2.25"], [b"vid_2", b"", b"1"], [b"w_1", b"0", b"1"]]),
    )
    tables, samples = read(write(tmp_path / "mosi_data.pkl", data))
    assert tables["train"].aligned and tables["train"].widths == {"audio": 5, "vision": 4, "word_vectors": 300}
    for split, rows in samples.items():
        source = data[split.replace("validation", "valid")]
        assert [row["id"] for row in rows] == ["vid_1$_$0.5_2.25", "vid_2$_$_1", "w_1$_$0_1"]
        assert [row["label"] for row in rows] == pytest.approx(SCORES) and [row["text"] for row in rows] == [""] * 3
        for name, column in (("audio", "audio"), ("vision", "vision"), ("word_vectors", "text")):
            assert [len(row[name]) for row in rows] == [6, 2, 6]
            kept = source[column][1][-2:] if front else source[column][1][:2]
            np.testing.assert_array_equal(rows[1][name], kept)
    assert any("train without --text_encoder" in notice for notice in tables["train"].notices())


def test_arrays_of_multibench(tmp_path):
    for ids, expected in (
        (None, "train00002"),
        (["a", "b", "c"], "c"),
        (np.array([[1.0], [2.0], [7.0]]), "7.0"),
        (np.array([["a", "0", "1"], ["a", "1", "2"], ["c", "0", "1"]], dtype=object), "c$_$0_1"),
        (np.array([["a", 0.5, 1.0], ["a", 1.0, 2.0], ["c", 0.0, 1.5]], dtype=object), "c$_$0.0_1.5"),
    ):
        tables, samples = read(write(tmp_path / "raw.pkl", arrays((6, 20, 30), ids=ids)))
        assert not tables["train"].aligned and samples["train"][2]["id"] == expected
        assert any("made up" in notice for notice in tables["train"].notices()) is (ids is None)
    data = arrays()
    for split in data.values():
        split["audio"][:] = 0
        split["audio"][0, 3] = -np.inf  # as MulT's have it
    _, samples = read(write(tmp_path / "raw.pkl", data), Rules("zero"))
    assert [row["audio"].shape for row in samples["test"]] == [(1, 5), (0, 5), (0, 5)]


def test_the_validation_split_has_several_names(tmp_path):
    data = tiny_file()
    for name in ("dev", "val", "validation"):
        _, samples = read(write(tmp_path / "file.pkl", {name if one == "valid" else one: data[one] for one in data}))
        assert [row["id"] for row in samples["validation"]] == data["valid"]["id"]
    with pytest.raises(DataError, match="there are the splits 'valid' and 'dev'; leave one of them out"):
        read_mmsa(write(tmp_path / "file.pkl", data | {"dev": data["valid"]}))


def test_pickles_of_python_2(tmp_path):
    check_tuples(write(tmp_path / "old.pkl", as_python_2(tuples(label=float))))
    check_tuples(write(tmp_path / "old.pkl", as_python_2(tuples(words=lambda words: np.array(words, dtype=object)))))
    data = tiny_file()
    data["train"]["raw_text"] = ["größer", "gut " * 100, ""]
    data["train"]["audio"] = np.asfortranarray(data["train"]["audio"])
    data["test"]["raw_text"] = np.array(data["test"]["raw_text"], dtype=object)
    content = as_python_2(data)
    assert b"U\x04test" in content and b"T\x90\x01\x00\x00gut gut" in content
    expected, samples = (read(write(tmp_path / "file.pkl", one))[1] for one in (data, content))
    for split, rows in samples.items():
        for row, sample in enumerate(rows):
            assert all(np.array_equal(value, expected[split][row][name]) for name, value in sample.items())
    latin = content.replace("größer".encode(), "größer\N{NO-BREAK SPACE}\N{NO-BREAK SPACE}".encode("latin1"))
    _, samples = read(write(tmp_path / "latin1.pkl", latin))
    assert samples["train"][0]["text"].strip() == "größer"


def refused(path, match):
    with pytest.raises(DataError, match=match) as caught, guarded():
        read_mmsa(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message and len(message) < 600
    assert "do not open" not in message


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (tuples()["train"], r"one split in the tuple layout of MISA and MMIM, .*; make one file of the three"),
        (arrays()["train"], "one split in the layout of MulT and MultiBench: make one file of the three"),
        (tuples(words=lambda words: np.arange(len(words))), "'train', row 0: the words are not text but numbers of a"),
        (
            tuples(label=lambda score: np.zeros((4, 2))),
            "'train', row 0, labels: 8 values a clip, but a sentiment score",
        ),
        (tuples(label=lambda score: "good"), "'train', row 0, labels: expected an array of numbers"),
        (arrays(classes=8), "'train', labels: 8 values a clip, .*the emotions of IEMOCAP are 4 pairs"),
        (tuples() | {"dev": [1]}, "split 'valid' is missing"),
        (tuples() | {"test": [*tuples()["test"], (1, 2, 3)]}, r"'test', row 3: expected \(\(words, vision, acoustic\)"),
        (arrays(ids=["a", "b"]), "'train', column 'raw_text': has 3 rows, but column 'id' has 2"),
        (arrays(ids=["a", "b", "a"]), "the same id occurs twice"),
        ({"train": {}, "valid": {}, "test": {}}, "column 'id': missing"),
        (pickle.dumps(tuples(), 0), "perhaps one of protocol 0 or 1, as Python 2 saves by default"),
        (pickle.dumps(tuples(), 1), "perhaps one of protocol 0 or 1, as Python 2 saves by default"),
        ({"train": {1, 2}}, "a set, and only dicts, lists, text, numbers and numpy arrays are read|uses EMPTY_SET"),
    ],
)
def test_what_cannot_be_read_is_told_calmly(tmp_path, data, message):
    refused(write(tmp_path / "file.pkl", data), message)


@pytest.mark.parametrize("name", ["collections.OrderedDict", "collections.defaultdict"])
def test_harmless_objects_are_told_calmly(tmp_path, name):
    import collections

    made = getattr(collections, name.rpartition(".")[2])()
    made["train"] = {}
    refused(write(tmp_path / "file.pkl", made), f"holds a {type(made).__name__}, and only dicts, lists, text")


# ---- a file that becomes shorter

CUT = """
import os, sys
from pathlib import Path
from selfmm_hf.data.mmsa import DataError, read_mmsa
from selfmm_hf.data import safe_pickle

path, when = Path(sys.argv[1]), sys.argv[2]
opcodes = safe_pickle._opcodes

def cut(source):
    for number, one in enumerate(opcodes(source)):
        if number == 20 and when == "opening":
            os.truncate(path, 100)
        yield one

safe_pickle._opcodes = cut
try:
    table = read_mmsa(path)["train"]
    samples = table.samples()
    next(samples)
    os.truncate(path, 1000)
    list(samples)
except DataError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a mapped file cannot be cut there")
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("when", ["opening", "reading"])
def test_a_file_that_is_cut_off_while_it_is_read_is_an_error(tmp_path, when, order):
    data = tiny_file()
    rows = 3
    for split in data.values():
        split["audio"] = np.asarray(np.ones((rows, 5, 30_000), np.float32), order=order)
    path = write(tmp_path / "file.pkl", data)
    process = subprocess.run([fresh.python(), "-c", CUT, str(path), when], capture_output=True, text=True, timeout=120)
    assert process.returncode == 0, process
    expected = "become shorter while it was read" if when == "reading" else "damaged or cut off"
    assert process.stdout.startswith(str(path)) and expected in process.stdout
    assert os.path.getsize(path) < 2000
