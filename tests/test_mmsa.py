"""Reading MMSA files: what comes out, what is noticed, and what is refused by which name."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from test_safe_pickle import Call, guarded, numpy_1_spelling, resident, spot, write, write_sparse

from selfmm_hf.data.mmsa import DataError, FeatureTable, Rules, read_mmsa
from selfmm_hf.data.targets import score

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


def pad(rows: list[np.ndarray], steps: int) -> np.ndarray:
    return np.stack([np.pad(row, ((0, steps - len(row)), (0, 0))) for row in rows])


def rows_of(table: FeatureTable) -> list[dict]:
    with guarded():
        return list(table.samples())


def read(path: Path, rules: Rules | None = None) -> dict[str, list[dict]]:
    with guarded():
        tables = read_mmsa(path, rules)
    return {split: rows_of(table) for split, table in tables.items()}


def check_tiny(samples: dict, data: dict) -> None:
    assert list(samples) == ["train", "validation", "test"]
    for name, rows in samples.items():
        source = data[{"validation": "valid"}.get(name, name)]
        assert [row["id"] for row in rows] == source["id"]
        assert [row["text"] for row in rows] == source["raw_text"]
        assert [row["label"] for row in rows] == [1.5, -3.0, 0.0]
        assert all(type(row["label"]) is float for row in rows)
        assert [row["input_ids"].tolist() for row in rows] == [[101, 7592, 2088, 102], [2088, 102], []]
        assert all(row["input_ids"].dtype == np.int32 for row in rows)
        assert all(set(row) == {"id", "text", "audio", "vision", "input_ids", "label"} for row in rows)
        for modality, steps in STEPS.items():
            frames = [row[modality] for row in rows]
            assert [len(row) for row in frames] == source[f"{modality}_lengths"]
            assert all(row.dtype == np.float32 and row.flags.writeable and row.flags.owndata for row in frames)
            assert all(row.flags.c_contiguous for row in frames)
            np.testing.assert_array_equal(pad(frames, steps), source[modality])


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_reads_each_protocol(tmp_path, protocol):
    data = tiny_file()
    tables = read_mmsa(write(tmp_path / "tiny.pkl", data, protocol))
    check_tiny({split: rows_of(table) for split, table in tables.items()}, data)
    for table in tables.values():
        assert len(table) == 3 and table.padded == STEPS and table.widths == WIDTHS
        assert list(table.columns) == ["id", "text", "audio", "vision", "label", "input_ids"]


def test_reads_numpy_1_spelling_and_text_path(tmp_path):
    data = tiny_file()
    path = write(tmp_path / "tiny.pkl", numpy_1_spelling(pickle.dumps(data, 2)))
    check_tiny(read(str(path)), data)


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
        split["annotations"] = np.array([*split["annotations"][:-1], None])  # not needed, so not looked at
    check_tiny(read(write(tmp_path / "tiny.pkl", data, protocol)), tiny_file())


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_data_set_of_mmsa_fet(tmp_path, protocol):
    """All columns are arrays, `align` one of objects, and there is a `config` beside the splits."""
    data = tiny_file()
    for split in data.values():
        for column in ("id", "raw_text", "annotations"):
            split[column] = np.array(split[column])
        for column in ("audio_lengths", "vision_lengths"):
            split[column] = np.array(split[column])
        split["align"] = np.array([[(0, 1), (1, 2)], [], [(0, 3)]], dtype=object)
    config = {"audio": {"tool": "librosa", "args": {"mfcc": {"n_mfcc": 20}}}, "align": None, "sizes": (1, 2.5, True)}
    check_tiny(read(write(tmp_path / "fet.pkl", data | {"config": config}, protocol)), tiny_file())


def test_object_arrays_of_text_are_read(tmp_path):
    """Some files keep sentences in arrays of dtype object; those that hold text and nothing else are read."""
    data = tiny_file()
    for split in data.values():
        split["raw_text"] = np.array(split["raw_text"], dtype=object)
    check_tiny(read(write(tmp_path / "object.pkl", data)), tiny_file())


def test_numpy_text_in_lists_is_read(tmp_path):
    data = tiny_file()
    for split in data.values():
        split["id"], split["raw_text"] = list(np.array(split["id"])), list(np.array(["", "a", " "]))
    samples = read(write(tmp_path / "scalars.pkl", data))
    assert [row["text"] for row in samples["train"]] == ["", "a", " "]


def test_unimodal_labels(tmp_path):
    data = tiny_file()
    for split in data.values():
        for factor, letter in enumerate("TAV", start=1):
            split[f"regression_labels_{letter}"] = split["regression_labels"] * factor
    row = read(write(tmp_path / "sims.pkl", data))["test"][0]
    assert (row["label"], row["label_text"], row["label_audio"], row["label_vision"]) == (1.5, 1.5, 3.0, 4.5)
    refused(
        tmp_path / "sims.pkl",
        r"'train', column 'regression_labels_A', row 1 .*: the label is -6",
        Rules("keep", score(3)),
    )
    del data["test"]["regression_labels_A"]
    refused(write(tmp_path / "sims.pkl", data), r"'test', column 'regression_labels_A': missing")


def test_aligned_file_takes_lengths_from_the_tokens(tmp_path):
    data = tiny_file()
    for split in data.values():
        del split["audio_lengths"], split["vision_lengths"]
        split["audio"], split["vision"] = np.ones((3, 6, 3), np.float32), np.ones((3, 6, 2), np.float32)
    rows = read(write(tmp_path / "aligned.pkl", data))["train"]
    assert [row["audio"].shape for row in rows] == [(4, 3), (2, 3), (0, 3)]
    assert [row["vision"].shape for row in rows] == [(4, 2), (2, 2), (0, 2)]


def test_word_vectors_without_text_bert(tmp_path):
    data = tiny_file()
    for split in data.values():
        del split["text_bert"]
        split["text"] = np.ones((3, 6, 4), np.float32)
    table = read_mmsa(write(tmp_path / "whole.pkl", data))["train"]
    assert table.widths == WIDTHS | {"word_vectors": 4} and table.padded == STEPS | {"word_vectors": 6}
    rows = rows_of(table)
    assert [row["word_vectors"].shape for row in rows] == [(6, 4)] * 3 and "input_ids" not in rows[0]
    assert rows[0]["text"] == "text 0 ä"
    for split in data.values():
        split["text"] = np.ones((3, STEPS["audio"], 4), np.float32)
    rows = read(write(tmp_path / "steps.pkl", data))["train"]
    assert [len(row["word_vectors"]) for row in rows] == [5, 0, 2]
    for split in data.values():
        split["text_lengths"] = [1, 2, 3]
    rows = read(write(tmp_path / "lengths.pkl", data))["train"]
    assert [len(row["word_vectors"]) for row in rows] == [1, 2, 3]


def test_word_vectors_beside_tokens_are_left_out(tmp_path):
    data = tiny_file()
    for split in data.values():
        split["text"] = np.ones((3, 6, 768), np.float32)
    assert "word_vectors" not in read(write(tmp_path / "both.pkl", data))["train"][0]


@pytest.mark.parametrize("left_out", [("audio",), ("vision",), ("audio", "vision"), ("text_bert",)])
def test_a_modality_may_be_missing_from_all_splits(tmp_path, left_out):
    data = tiny_file()
    for split in data.values():
        for column in left_out:
            del split[column]
            if column != "text_bert":
                del split[f"{column}_lengths"]
        del split["text"]
    tables = read_mmsa(write(tmp_path / "some.pkl", data))
    kept = {"audio", "vision", "text_bert"} - set(left_out)
    assert set(tables["test"].columns) == {"id", "text", "label"} | (kept - {"text_bert"}) | (
        {"input_ids"} if "text_bert" in kept else set()
    )
    assert len(rows_of(tables["test"])) == 3


def test_a_split_may_be_the_same_as_another(tmp_path):
    data = tiny_file()
    data["valid"] = data["test"]
    samples = read(write(tmp_path / "same.pkl", data))
    assert [row["id"] for row in samples["validation"]] == [row["id"] for row in samples["test"]]


def test_samples_can_be_taken_again(tmp_path):
    data = tiny_file()
    data["train"]["audio"][0, 0] = np.nan
    table = read_mmsa(write(tmp_path / "tiny.pkl", data))["train"]
    first, notices = rows_of(table), table.notices()
    again = rows_of(table)
    assert table.notices() == notices and len(notices) == 3
    np.testing.assert_array_equal(first[2]["vision"], again[2]["vision"])


# ---- views of the file


def test_nothing_is_copied_before_it_is_asked_for(tmp_path):
    table = read_mmsa(write(tmp_path / "tiny.pkl", tiny_file()))["train"]
    file = np.frombuffer(table.mapped, np.uint8)
    for name, array in table.arrays.items():
        assert np.shares_memory(array, file) and not array.flags.owndata, name
        for row in table.samples():
            assert not np.shares_memory(row[name], file)


def large_file(path: Path, rows: int, steps: int, order: str = "C") -> Path:
    """Of zeros in `audio` of the training split, rows x steps KiB."""
    data = tiny_file()
    data["train"] = {
        "id": [str(row) for row in range(rows)],
        "raw_text": ["text"] * rows,
        "audio": spot((rows, steps, 256)),
        "audio_lengths": [steps] * rows,
        "vision": np.zeros((rows, 1, 2), np.float32),
        "vision_lengths": np.ones(rows, np.int64),
        "regression_labels": np.zeros(rows, np.float32),
    }
    for split in ("valid", "test"):
        del data[split]["text_bert"], data[split]["text"]
        data[split]["audio"] = np.zeros((3, 5, 256), np.float32)
    return write_sparse(path, data, rows * steps * 1024)


def test_a_file_larger_than_the_memory_is_read_row_by_row(tmp_path):
    path = large_file(tmp_path / "large.pkl", rows=3000, steps=1024)  # 3 GB
    assert path.stat().st_size > 3 * 10**9
    before = resident()
    table = read_mmsa(path)["train"]
    assert len(table) == 3000 and resident() - before < 64 * 2**20
    samples = table.samples()
    for _ in range(10):
        assert next(samples)["audio"].shape == (1024, 256)
    assert resident() - before < 128 * 2**20
    samples.close()


def test_rows_that_were_read_are_given_back(tmp_path):
    path = large_file(tmp_path / "large.pkl", rows=2048, steps=256)  # 512 MB
    table = read_mmsa(path)["train"]
    before, most = resident(), 0
    for row, sample in enumerate(table.samples()):
        assert sample["audio"].shape == (256, 256)
        if row % 64 == 63:
            most = max(most, resident())
    assert most - before < 192 * 2**20  # of which 64 MB are the rows read at once
    assert not table.notices()


# ---- what is noticed


def test_values_that_are_not_finite(tmp_path):
    data = tiny_file()
    data["valid"]["audio"][0, 1] = [np.nan, -np.inf, np.inf]
    data["test"]["vision"] = data["test"]["vision"].astype(np.float64)
    data["test"]["vision"][1, 6, 1] = 1e300  # beyond float32
    data["test"]["vision"][2, 1, 0] = np.nan
    path = write(tmp_path / "tiny.pkl", data)
    tables = read_mmsa(path)
    valid, test = rows_of(tables["validation"]), rows_of(tables["test"])
    assert not valid[0]["audio"][1].any() and valid[0]["audio"][0].all()
    assert test[1]["vision"][6, 1] == 0 and test[2]["vision"][1, 0] == 0
    assert tables["validation"].notices()[0] == (
        f"{path}, split 'valid': values of audio that are not finite (set to 0) in 1 of 3 rows (3 values), "
        "first in row 0 (id 'valid$_$0')"
    )
    count = tables["test"].counts["values of vision that are not finite (set to 0)"]
    assert (count.rows, count.values, count.first) == (2, 2, "row 1 (id 'test$_$1')")

    tables = read_mmsa(path, Rules("keep"))
    valid, test = rows_of(tables["validation"]), rows_of(tables["test"])
    np.testing.assert_array_equal(valid[0]["audio"][1], np.float32([np.nan, -np.inf, np.inf]))
    assert test[1]["vision"][6, 1] == np.inf
    assert "values of audio that are not finite (kept)" in tables["validation"].counts

    tables = read_mmsa(path, Rules(not_finite="refuse"))
    rows_of(tables["train"])
    expected = r"'valid', column 'audio', row 0 \(id 'valid\$_\$0'\): 3 values are not finite, the first in frame 1"
    with pytest.raises(DataError, match=expected):
        rows_of(tables["validation"])
    with pytest.raises(DataError, match=r"'test', column 'vision', row 1 .*: 1 values .* frame 6"):
        rows_of(tables["test"])


@pytest.mark.parametrize("kind", ["<f4", ">f4", "<f8", ">f8", "<f2"])
def test_signaling_nan_is_like_any_other(tmp_path, kind):
    """The processor reports these where they are converted, which numpy makes a warning of."""
    bits = {"2": 0x7C01, "4": 0x7F800001, "8": 0x7FF0000000000001}[kind[-1]]
    signaling = np.array([bits], kind.replace("f", "u")).view(kind)
    data = tiny_file()
    for column, where in (("audio", (0, 0, 0)), ("audio", (2, 4, 0)), ("vision", (0, 6, 0))):
        data["train"][column] = data["train"][column].astype(kind)
        data["train"][column][where] = signaling[0] if kind == "<f2" else 0
        data["train"][column].view(kind.replace("f", "u"))[where] = bits
    table = read_mmsa(write(tmp_path / "tiny.pkl", data))["train"]
    assert rows_of(table)[0]["audio"][0, 0] == 0
    assert table.counts["values of audio that are not finite (set to 0)"].values == 1
    assert table.counts["frames of audio beyond the stated length (left out)"].rows == 1
    data["train"]["text_bert"] = data["train"]["text_bert"].astype(kind)
    data["train"]["text_bert"].view(kind.replace("f", "u"))[0, :2, 1] = bits
    refused(write(tmp_path / "tokens.pkl", data), "'text_bert', row 0 .*: the attention mask must be of ones and zeros")


def test_frames_beyond_the_stated_length(tmp_path):
    data = tiny_file()
    data["valid"]["audio"][1, 4] = 1
    data["valid"]["vision"][0, 3] = np.nan  # not looked at, beyond that it is there
    table = read_mmsa(write(tmp_path / "tiny.pkl", data), Rules("refuse"))["validation"]
    assert [len(row["audio"]) for row in rows_of(table)] == [5, 0, 2]
    assert {kind: count.first for kind, count in table.counts.items() if "beyond" in kind} == {
        "frames of vision beyond the stated length (left out)": "row 0 (id 'valid$_$0')",
        "frames of audio beyond the stated length (left out)": "row 1 (id 'valid$_$1')",
    }


def test_what_clips_lack(tmp_path):
    data = tiny_file()
    data["test"]["raw_text"][1] = " \n"
    table = read_mmsa(write(tmp_path / "tiny.pkl", data))["test"]
    rows_of(table)
    assert [notice.split("split 'test': ")[1] for notice in table.notices()] == [
        "no audio in 1 of 3 rows, first in row 1 (id 'test$_$1')",
        "no words in 1 of 3 rows, first in row 1 (id 'test$_$1')",
        "an attention mask of zeros, though there is text, in 1 of 3 rows, first in row 2 (id 'test$_$2')",
    ]


# ---- what is refused


def refused(path: Path, match: str | None = None, rules: Rules | None = None) -> None:
    with pytest.raises(DataError, match=match) as caught, guarded():
        read_mmsa(path, rules)
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message and len(message) < 600


def test_unknown_rules():
    with pytest.raises(DataError, match="not_finite must be one of zero, keep, refuse; got 'drop'"):
        Rules(not_finite="drop")


def test_files_that_are_no_mmsa_files(tmp_path):
    refused(tmp_path / "absent.pkl", "no such file")
    refused(write(tmp_path / "zip.pkl", b"PK\x03\x04rest"), "a zip archive")
    refused(write(tmp_path / "page.pkl", b"<html>\n<body>"), "a web page")
    for data in (None, [], {}, 1.5, "train", {"Train": {}}, [tiny_file()], np.zeros(3)):
        refused(
            write(tmp_path / "other.pkl", data), "split 'train' is missing; expected a dict of train, valid and test"
        )


def change(column: str, value: object, split: str = "valid"):
    def apply(data: dict) -> None:
        data[split][column] = value(data[split][column]) if callable(value) else value

    return apply


def drop(*columns: str, split: str = "valid"):
    def apply(data: dict) -> None:
        for column in columns:
            del data[split][column]

    return apply


def put(column: str, where: tuple, value: float):
    def apply(data: dict) -> None:
        data["valid"][column][where] = value

    return apply


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: data.pop("test"), "split 'test' is missing"),
        (lambda data: data.pop("valid"), "split 'valid' is missing"),
        (lambda data: data.update(train=[1]), "split 'train' is missing"),
        (lambda data: data.update(valid={}), "'valid', column 'id': missing"),
        (lambda data: data.update(valid=tiny_split("valid", 0)), "split 'valid' is empty"),
        (lambda data: data.update(train=tiny_split("train", 0)), "split 'train' is empty"),
        (drop("id"), "'valid', column 'id': missing; an MMSA feature file has this column in each split"),
        (drop("raw_text"), "'valid', column 'raw_text': missing"),
        (drop("audio"), "the splits 'train' and 'valid' differ in their columns, by audio"),
        (drop("audio", split="train"), "the splits 'train' and 'valid' differ in their columns, by audio"),
        (
            drop("audio", "vision", split="test"),
            "the splits 'train' and 'test' differ in their columns, by audio, vision",
        ),
        (drop("text_bert"), "the splits 'train' and 'valid' differ in their columns, by input_ids, word_vectors"),
        (drop("text_bert", "text"), "the splits 'train' and 'valid' differ in their columns, by input_ids"),
        (drop("audio", "vision", "text_bert", "text"), "'audio': missing, as are vision, text and text_bert"),
        (change("regression_labels_T", [0.0] * 3), "'valid', column 'regression_labels_A': missing"),
        (
            lambda data: data["test"].update({f"regression_labels_{letter}": [0.0] * 3 for letter in "TAV"}),
            "the splits 'train' and 'test' differ in their columns, by label_audio, label_text, label_vision",
        ),
        (drop("regression_labels"), "'valid', column 'regression_labels': missing, and classification_labels do not"),
        (drop("regression_labels", "classification_labels"), "'regression_labels': missing; an MMSA"),
        (change("id", ["a", "b", "a"]), r"'valid', column 'id', row 2 \(id 'a'\): the same id occurs twice"),
        (change("id", ["a", 7, "b"]), "'id', row 1: expected text, got int"),
        (change("id", ["a", b"7", "b"]), "'id', row 1: expected text, got"),
        (change("id", ["a", "\ud800", "b"]), r"'id', row 1: text that is no Unicode \(a lone surrogate\)"),
        (change("id", {}), "'id': expected a list or an array"),
        (change("id", "abc"), "'id': expected a list or an array"),
        (change("id", ("a", "b", "c")), "'id': expected a list or an array"),
        (change("id", np.array("a")), "'id': expected a list or an array"),
        (change("id", np.arange(3)), "'id', row 0: expected text, got int"),
        (change("id", np.array([b"a", b"b", b"c"])), "'id', row 0: expected text, got bytes"),
        (change("id", np.zeros((3, 2), "U3")), r"'id': expected one value per sample, .* \(3, 2\)"),
        (change("raw_text", ["a"]), "'raw_text': has 1 rows, but column 'id' has 3"),
        (change("raw_text", ["a", None, "b"]), r"'raw_text', row 1 \(id 'valid\$_\$1'\): expected text"),
        (change("raw_text", ["a", "b", "x\udfff"]), r"'raw_text', row 2 \(id .*: text that is no Unicode"),
        (change("raw_text", np.array(["a", "\ud800", "b"])), "'raw_text', row 1 .*: text that is no Unicode"),
        (change("raw_text", np.array(["a", None, "b"], object)), "'raw_text': an array of Python objects"),
        (change("audio", lambda a: a[:2]), "'audio': has 2 rows"),
        (change("audio", lambda a: a[0]), "'audio': has 5 rows"),
        (change("audio", lambda a: a[:, 0]), r"'audio': expected an array .* float32 \(3, 3\)"),
        (change("audio", lambda a: a[..., None]), r"'audio': expected an array .* float32 \(3, 5, 3, 1\)"),
        (change("audio", lambda a: a.tolist()), "'audio': expected an array .* a list"),
        (change("audio", lambda a: a.astype(object)), "'audio': an array of Python objects"),
        (change("audio", lambda a: a.astype("U3")), "'audio': expected an array of numbers"),
        (change("audio", lambda a: a.astype(complex)), "dtype 'c16'"),
        (change("audio", None), "'audio': expected a list or an array"),
        (change("audio", lambda a: a[:, :, :2]), "'valid', column 'audio': 2 values wide, expected 3 in each split"),
        (change("vision", lambda a: a[:, :, :0], "train"), "'vision': 0 values wide, expected at least one"),
        (change("vision", np.zeros(3, [("a", "f4")])), "dtype 'V4'"),
        (
            change("audio_lengths", [5, 6, 1]),
            r"'valid', column 'audio_lengths', row 1 \(id .*: audio length 6 is not a whole number in 0..5",
        ),
        (change("audio_lengths", [5, 1, -1]), "row 2 .* audio length -1"),
        (change("audio_lengths", [5, 1, 0.5]), "row 2 .* audio length 0.5"),
        (change("audio_lengths", [5, 1, "1"]), "row 2 .* expected a number, got str"),
        (change("audio_lengths", [5, 1, None]), "row 2 .* expected a number, got NoneType"),
        (change("audio_lengths", [5, 1, 10**400]), "row 2 .* expected a finite number"),
        (change("audio_lengths", [5, 1, float("nan")]), "row 2 .* expected a finite number"),
        (change("audio_lengths", 5), "'audio_lengths': expected a list or an array"),
        (change("vision_lengths", [1, 8, 3]), "'valid', column 'vision_lengths', row 1 .*: vision length 8 .* 0..7"),
        (drop("audio_lengths", "text_bert"), "column 'audio_lengths': missing"),
        (
            put("regression_labels", (1,), np.nan),
            r"'valid', column 'regression_labels', row 1 \(id .*: expected a finite number",
        ),
        (put("regression_labels", (2,), -np.inf), "'regression_labels', row 2"),
        (change("regression_labels", np.zeros((3, 2))), "'regression_labels': expected one value per sample"),
        (change("regression_labels", ["1", "2", "3"]), "'regression_labels', row 0 .*: expected a number, got str"),
        (change("regression_labels", [1.0, None, 2.0]), "'regression_labels', row 1 .*: expected a number"),
        (change("regression_labels", [1.0, -1e39, 2.0]), "'regression_labels', row 1 .*: expected a finite number"),
        (
            put("text_bert", (0, 0, 1), -1),
            r"'valid', column 'text_bert', row 0 \(id .*: token ids must be whole numbers",
        ),
        (put("text_bert", (1, 0, 1), 2.5), "'text_bert', row 1 .*: token ids"),
        (put("text_bert", (1, 0, 1), np.nan), "'text_bert', row 1 .*: token ids"),
        (put("text_bert", (1, 0, 1), np.inf), "'text_bert', row 1 .*: token ids"),
        (put("text_bert", (1, 0, 1), 2**31), "'text_bert', row 1 .*: token ids"),
        (put("text_bert", (1, 1, 0), 0), "'text_bert', row 1 .*: the attention mask must be ones, then zeros"),
        (put("text_bert", (2, 1, 0), 2), "'text_bert', row 2 .*: the attention mask must be of ones and zeros"),
        (put("text_bert", (2, 1, slice(2)), np.inf), "'text_bert', row 2 .*: the attention mask must be of ones"),
        (put("text_bert", (0, 1), np.nan), "'text_bert', row 0 .*: the attention mask must be of ones and zeros"),
        (change("text_bert", lambda a: a[:, :2]), "'text_bert': expected shape"),
        (change("text_bert", lambda a: a[:, 0]), "'text_bert': expected an array of numbers of shape"),
        (change("text_bert", [[101, 102]] * 3), "'text_bert': expected an array of numbers .* a list"),
    ],
)
def test_layout_errors(tmp_path, spoil, message):
    data = tiny_file()
    spoil(data)
    refused(write(tmp_path / "tiny.pkl", data), message)


def test_labels_out_of_range(tmp_path):
    path = write(tmp_path / "tiny.pkl", tiny_file())
    assert read(path, Rules(task=score(3.0))) and read(path, Rules())
    message = r"'train', column 'regression_labels', row 1 \(id 'train\$_\$1'\): sentiment is -3, .* in \[-2, 2\]"
    refused(path, message, Rules(task=score(2.0)))
    data = tiny_file()
    data["test"]["regression_labels"][2] = 3.0000005  # as float32 makes of 3
    assert read(write(tmp_path / "tiny.pkl", data), Rules(task=score(3.0)))


def test_tokens_of_another_vocabulary(tmp_path):
    data = tiny_file()
    data["test"]["text_bert"][2, 0, 3] = 99_999  # masked
    path = write(tmp_path / "tiny.pkl", data)
    assert read(path, Rules(vocabulary=7593))
    message = (
        r"'train', column 'text_bert', row 0 \(id .*: a token id is outside the vocabulary of 7592; the tokens are of"
    )
    refused(path, message, Rules(vocabulary=7592))


def test_one_text_repeated_without_end(tmp_path):
    """Each repetition takes two bytes of the file, and in a data set all that the text has."""
    data = tiny_file()
    data["valid"]["raw_text"] = ["x" * 2**20] * 3
    refused(write(tmp_path / "tiny.pkl", data), "'valid', column 'raw_text': one text is repeated so often")
    data["valid"]["raw_text"] = ["x" * 2**18] * 3
    assert read(write(tmp_path / "tiny.pkl", data))


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


def test_self_reference_is_no_split(tmp_path):
    data: dict = {}
    data["train"] = data["valid"] = data["test"] = data
    data["id"] = [data]
    refused(write(tmp_path / "cycle.pkl", data), "'id', row 0: expected text, got dict")


def test_what_a_column_could_be_instead(tmp_path):
    """Anything that is read may stand in any place."""
    dtype = Call(np.dtype, "f4", False, True, state=(3, "<", None, None, None, -1, -1, 0))
    others = [None, 1, "text", b"bytes", (), [], {}, np.dtype, np.ndarray, dtype, np.zeros(0), np.zeros((3, 0))]
    others += [Call(np.ndarray), [[]] * 3, [{}] * 3, [dtype] * 3, [np.zeros(1)] * 3, np.array([None] * 3), 2**70]
    for column in tiny_split("train"):
        if column in ("annotations", "classification_labels", "text"):
            continue
        for other in others:
            data = tiny_file()
            data["test"][column] = other
            refused(write(tmp_path / "tiny.pkl", data), f"split 'test', column '{column if column != 'id' else ''}")


def test_long_ids_are_cut_in_messages(tmp_path):
    data = tiny_file()
    data["train"]["id"][1] = data["train"]["id"][0] = "x\n" * 100_000
    refused(write(tmp_path / "id.pkl", data), "the same id")
    data["train"]["id"][1] = "y\n" * 100_000
    table = read_mmsa(write(tmp_path / "id.pkl", data))["train"]
    rows_of(table)
    assert all(len(notice) < 400 and "\n" not in notice for notice in table.notices())


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
    samples = read(path, Rules("keep", task=score(3.0), vocabulary=30522))
    assert tuple(map(len, samples.values())) == counts
    with path.open("rb") as file:
        data = pickle.load(file)  # trusted here, to compare with the arrays as they are
    for split, source in zip(samples.values(), data.values(), strict=True):
        for modality in ("audio", "vision"):
            padded = pad([row[modality] for row in split], source[modality].shape[1])
            np.testing.assert_array_equal(padded, source[modality])
            assert [len(row[modality]) for row in split] == source[f"{modality}_lengths"]
        ids = pad([row["input_ids"][:, None] for row in split], 50)[:, :, 0]
        np.testing.assert_array_equal(ids, source["text_bert"][:, 0])
        np.testing.assert_array_equal([row["label"] for row in split], source["regression_labels"])
        assert [row["id"] for row in split] == source["id"]
        assert [row["text"] for row in split] == source["raw_text"]


def test_mmmo():
    samples = read(published("mmmo/mmmo.pkl"))
    assert tuple(map(len, samples.values())) == (30, 10, 80)
    row = samples["test"][0]
    assert row["word_vectors"].shape == (17, 300) and row["audio"].shape == (17, 74) and "input_ids" not in row


def test_feature_extractor_output_of_one_clip_is_not_this_layout():
    for name in ("example.pkl", "feature_aligned.pkl", "feature_unaligned.pkl"):
        message = "split 'train' is missing; .* features of clips by MMSA-FET"
        refused(published(f"mmsa_fet_examples/{name}"), message)
