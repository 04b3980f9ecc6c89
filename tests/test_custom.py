"""Folders of one's own: what comes out, what is refused, and that nothing in a folder is run or leads out of it."""

import csv
import io
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import command

from selfmm_hf.data import DataError, find_builder, load_splits
from selfmm_hf.data.custom import Custom, is_custom
from selfmm_hf.data.custom.folder import read_folder
from selfmm_hf.data.mmsa import Rules
from selfmm_hf.data.targets import score

WIDTHS = {"audio": 3, "vision": 2}
# Frames of each clip; None: no file.
CLIPS = {
    "0001": ("train", 0.5, 'A text, with "quotes"\nand lines.', {"audio": 5, "vision": 1}),
    "video_1/0003": ("train", -3.0, "", {"audio": None, "vision": 7}),
    "v.2": ("valid", 1.0, "NA", {"audio": 2, "vision": None}),
    "ä": ("test", 3.0, "null", {"audio": 0, "vision": 4}),
}


def save(path: Path, frames: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, frames)


def rows_of(clips=CLIPS) -> list[dict]:
    return [
        {"id": clip, "text": text, "label": label, "split": split, "mood": "extra"}
        for clip, (split, label, text, _) in clips.items()
    ]


def write_table(folder: Path, rows: list[dict], suffix: str = ".csv", start: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"table{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
        return
    with path.open("w", newline="", encoding="utf-8") as file:
        file.write(start)
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def frames_of(clip: str, name: str, count: int) -> np.ndarray:
    return np.random.default_rng(len(clip) + len(name)).normal(size=(count, WIDTHS[name]))


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "own data"
    write_table(folder, rows_of())
    for clip, (*_, lengths) in CLIPS.items():
        for name, count in lengths.items():
            if count is not None:
                save(folder / name / f"{clip}.npy", frames_of(clip, name, count))
    return folder


def change(folder: Path, **cells) -> None:
    """Rewrites cells of the first row."""
    first, *others = rows_of()
    write_table(folder, [first | cells, *(dict.fromkeys(cells, "") | row for row in others)])


def samples(folder: Path, **rules) -> dict[str, dict]:
    tables = read_folder(folder, Rules(task=score(3.0), **rules))
    return {sample["id"]: sample for table in tables.values() for sample in table.samples()}


def build(folder: Path, **options) -> tuple[Custom, dict]:
    builder = Custom(data_dir=folder, cache_dir=str(folder.parent / "cache"), **options)
    builder.download_and_prepare()
    return builder, builder.as_dataset().with_format("numpy")


@pytest.mark.parametrize("table", [".csv", ".parquet"])
def test_round_trip(folder, table):
    (folder / "table.csv").unlink()
    write_table(folder, rows_of(), table)
    builder, splits = build(folder)
    assert {split: list(rows["id"]) for split, rows in splits.items()} == {
        "train": ["0001", "video_1/0003"],
        "validation": ["v.2"],
        "test": ["ä"],
    }
    assert splits["train"].column_names == ["id", "text", "audio", "vision", "label"]
    for rows in splits.values():
        for sample in rows:
            _, label, text, lengths = CLIPS[str(sample["id"])]
            assert (sample["text"], sample["label"]) == (text, label)
            for name, count in lengths.items():
                expected = frames_of(str(sample["id"]), name, count or 0).astype(np.float32)
                np.testing.assert_array_equal(np.reshape(sample[name], (-1, WIDTHS[name])), expected)
    told = "\n".join(builder.notices)
    assert "split 'train': no audio in 1 of 2 rows, first in row 1 (id 'video_1/0003')" in told
    assert "split 'train': no words in 1 of 2 rows" in told and "split 'validation': no vision in 1 of 1" in told
    assert builder.config.name == "default" and builder.origin.name == "own data" and not builder.origin.published
    assert len(builder.origin.sha256) == 64


def test_loads_as_samples(folder, monkeypatch, tmp_path):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    assert is_custom(folder) and not is_custom(folder / "audio") and not is_custom(folder / "table.csv")
    splits = load_splits("custom", str(folder))
    assert splits["train"].widths == WIDTHS
    assert list(splits["train"].lengths("audio")) == [5, 0]
    builder = find_builder("custom", str(folder), label_range=1.0, cache_dir=str(tmp_path / "cache"))
    assert isinstance(builder, Custom) and builder.label_range == 1
    assert Custom(data_dir=folder, cache_dir=str(tmp_path / "cache")).label_range == 3


def test_changed_files_are_read_again(folder):
    first, splits = build(folder)
    assert build(folder)[0].cache_dir == first.cache_dir
    save(folder / "audio" / "0001.npy", np.ones((4, 3)))
    again, changed = build(folder)
    assert again.cache_dir != first.cache_dir and len(changed["train"][0]["audio"]) == 4
    assert len(splits["train"][0]["audio"]) == 5


def test_utf8_with_a_mark_and_optional_columns(folder):
    rows = [row | {"label_text": 0.25, "label_audio": -1, "label_vision": "1e0"} for row in rows_of()]
    write_table(folder, rows, start="\ufeff")
    _, splits = build(folder)
    assert [splits["test"][0][f"label_{name}"] for name in ("text", "audio", "vision")] == [0.25, -1, 1]


def test_large_texts_with_lines(folder):
    change(folder, text="line\n" * 400_000)
    assert samples(folder)["0001"]["text"] == "line\n" * 400_000


@pytest.mark.parametrize("name", list(WIDTHS))
def test_a_modality_may_be_missing_as_a_whole(folder, name):
    for path in sorted((folder / name).rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    with pytest.raises(DataError, match=f"{name}: no file in this folder belongs to a clip"):
        read_folder(folder)
    (folder / name).rmdir()
    found = samples(folder)
    assert all(name not in sample for sample in found.values())


def test_word_vectors(folder):
    save(folder / "word_vectors" / "0001.npy", np.ones((6, 4), np.float16))
    found = samples(folder)
    assert found["0001"]["word_vectors"].tolist() == np.ones((6, 4)).tolist()
    assert found["v.2"]["word_vectors"].shape == (0, 4)


def test_what_not_finite_becomes(folder):
    save(folder / "audio" / "v.2.npy", np.array([[1, np.nan, 3], [-np.inf, 1e300, 6]]))
    zero = read_folder(folder)["validation"]
    assert next(iter(zero.samples()))["audio"].tolist() == [[1, 0, 3], [0, 0, 6]]
    list(zero.samples())
    assert any("audio that are not finite (set to 0) in 1 of 1 rows (3 values)" in notice for notice in zero.notices())
    assert np.isnan(samples(folder, not_finite="keep")["v.2"]["audio"][0, 1])
    with pytest.raises(DataError, match=r"'validation', column 'audio', row 0 \(id 'v.2'\): audio/v.2.npy: 3 values"):
        samples(folder, not_finite="refuse")


def test_files_of_no_clip_are_told(folder):
    save(folder / "audio" / "1.npy", np.ones((1, 3)))
    (folder / "audio" / "v.2.npz").write_bytes(b"of another kind")
    (folder / "audio" / ".DS_Store").touch()
    builder, _ = build(folder)
    assert any("2 files in audio belong to no id, first 'audio/1.npy'" in notice for notice in builder.notices)
    save(folder / "position" / "v.2.npy", np.ones((1, 3)))
    builder, splits = build(folder)
    assert any(notice.endswith("no modality is called position; rename the folder") for notice in builder.notices)
    assert "position" not in splits["train"].column_names


@pytest.mark.parametrize("limit", [0, -1, 9.0, float("nan"), float("inf")])
def test_ranges_that_nobody_scores(folder, limit):
    with pytest.raises(DataError, match="label_range is 3, scored as MOSI, or 1, scored as SIMS"):
        Custom(data_dir=folder, label_range=limit)


AT_FIRST = r"table.csv, split 'train', column '{}', row 0 \(id '0001'\): "


@pytest.mark.parametrize(
    "cells, message",
    [
        ({"label": ""}, AT_FIRST.format("label") + "expected a number, got ''"),
        ({"label": "good"}, r"column 'label': expected numbers .* got 'good' in row 0 \(id '0001'\)"),
        ({"label": "nan"}, AT_FIRST.format("label") + "expected a finite number"),
        ({"label": 3.5}, AT_FIRST.format("label") + r"the label is 3.5, .* \[-3, 3\]"),
        ({"id": "v.2"}, r"column 'id', row 2 \(id 'v.2'\): row 0 has the same id"),
        ({"id": ""}, r"column 'id', row 0 .*expected text that is not empty"),
        ({"id": "../0001"}, r"column 'id', row 0 \(id '../0001'\): names files outside"),
        ({"id": "a/../../0001"}, "names files outside the folder"),
        ({"id": "a\\..\\0001"}, "names files outside the folder"),
        ({"id": "/etc/passwd"}, "names files outside the folder"),
        ({"split": "training"}, r"column 'split', row 0 \(id '0001'\): expected one of train, .*, got 'training'"),
    ],
)  # fmt: skip
def test_faulty_cells(folder, cells, message):
    change(folder, **cells)
    with pytest.raises(DataError, match=message):
        samples(folder)


def test_a_split_that_is_a_list(tmp_path):
    write_table(tmp_path, [one | {"split": ["train"]} for one in rows_of()], ".parquet")
    with pytest.raises(DataError, match=r"column 'split', row 0 .*: expected one of train, .*, got \['train'\]"):
        read_folder(tmp_path)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_missing_splits(folder, split):
    other = "test" if split == "train" else "train"
    rows = [row | {"split": {"valid": "validation"}.get(row["split"], row["split"])} for row in rows_of()]
    write_table(folder, [row | {"split": other if row["split"] == split else row["split"]} for row in rows])
    with pytest.raises(DataError, match=f"split '{split}' is missing or empty"):
        read_folder(folder)


@pytest.mark.parametrize("column", ["id", "label", "split"])
@pytest.mark.parametrize("table", [".csv", ".parquet"])
def test_missing_columns(tmp_path, column, table):
    write_table(tmp_path, [{name: one[name] for name in one if name != column} for one in rows_of()], table)
    with pytest.raises(DataError, match=f"table{table}: column '{column}' is missing; expected id.*got '.*'mood'"):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "the table is damaged"),
        (b"id,text,label,split\n1,a,1,train,more\n", "the table is damaged.*Expected 4 columns, got 5"),
        (b"id,text,label,split\n1,\xff,1,train\n", "expected text in UTF-8"),
        (b"id,text,label,split\n", "split 'train' is missing or empty"),
        (b"id;text;label;split\n1;a;1;train\n", "column 'id' is missing.*got 'id;text;label;split'"),
        (b"id,text,label,split,id\n1,a,1,train,1\n", "column 'id' is there twice"),
    ],
)  # fmt: skip
def test_faulty_tables(tmp_path, content, message):
    (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_folder(tmp_path)


def test_no_table_or_two(folder):
    write_table(folder, rows_of(), ".parquet")
    with pytest.raises(DataError, match="the folder has both"):
        build(folder)
    for suffix in (".csv", ".parquet"):
        (folder / f"table{suffix}").unlink()
    with pytest.raises(DataError, match=r"expected table.csv or table.parquet; the folder has neither"):
        build(folder)


def test_faulty_parquet_tables(tmp_path):
    path = tmp_path / "table.parquet"
    path.write_bytes(b"PAR1 cut off")
    with pytest.raises(DataError, match=r"table\.parquet: the table is damaged"):
        read_folder(tmp_path)
    write_table(tmp_path, [row | {"id": 7} for row in rows_of()], ".parquet")
    with pytest.raises(DataError, match="expected text that is not empty, got int"):
        read_folder(tmp_path)
    write_table(tmp_path, [row | {"label": None} for row in rows_of()], ".parquet")
    with pytest.raises(DataError, match=r"column 'label', row 0 .*expected a number, got None"):
        read_folder(tmp_path)
    long = pa.array(["x" * 2**20]).dictionary_encode()
    repeated = pa.DictionaryArray.from_arrays(pa.array(np.zeros(5000, np.int32)), long.dictionary)
    pq.write_table(pa.table({"id": repeated, "text": repeated, "label": repeated, "split": repeated}), path)
    with pytest.raises(DataError, match=r"it expands to 20,\d+,\d+,\d+ bytes"):
        read_folder(tmp_path)


def header(shape: str, dtype: str = "<f8") -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


class Evil:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


FAULTY = {
    "one dimension": (npy(np.ones(3)), r"expected an array of shape \(frames, width\), got \(3,\); one frame"),
    "three dimensions": (npy(np.ones((2, 3, 1))), r"got \(2, 3, 1\)"),
    "another width": (npy(np.ones((2, 4))), "4 values wide, expected 3"),
    "text": (npy(np.array([["a", "b"]])), "an array of dtype <U1; save plain numbers"),
    "complex": (npy(np.ones((2, 3), complex)), "an array of dtype complex128"),
    "fields": (npy(np.ones(2, [("a", "f4")])), "an array of dtype"),
    "empty": (b"", "damaged or cut off"),
    "no array": (b"hello", "damaged or cut off"),
    "cut off": (npy(np.ones((2, 3)))[:-1], "announces .* but 47 bytes follow"),
    "cut header": (npy(np.ones((2, 3)))[:30], "damaged or cut off"),
    "absurd": (header("(1000000000000, 3)"), "announces"),
    "absurder": (header(f"({10**60}, 3)"), "announces"),
    "negative": (header("(-1, -3)") + bytes(24), "announces"),
    "no shape": (header("('a', 3)"), "damaged or cut off"),
    "code in the header": (header("__import__('os').abort()"), "damaged or cut off"),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTY)
def test_faulty_files(folder, case):
    content, message = FAULTY[case]
    (folder / "audio" / "v.2.npy").write_bytes(content)
    where = r"table.csv, split 'validation', column 'audio', row 0 \(id 'v.2'\): audio/v.2.npy: .*"
    with pytest.raises(DataError, match=where + message):
        samples(folder)


@pytest.mark.parametrize("name", ["table.csv", "table.parquet", "audio/v.2.npy"])
def test_damaged_bytes(folder, name):
    """Each is read, or refused as data; none ends the process (the columns of a Parquet footer did)."""
    if name == "table.parquet":
        (folder / "table.csv").unlink()
        write_table(folder, rows_of(), ".parquet")
    content, rng = (folder / name).read_bytes(), np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(content)
        damaged[rng.integers(len(content))] ^= 1 << rng.integers(8)
        (folder / name).write_bytes(damaged)
        try:
            samples(folder)
        except DataError as error:
            assert str(folder) in str(error)


def test_faults_come_through_the_builder_as_they_are(folder):
    (folder / "audio" / "v.2.npy").write_bytes(b"hello")
    with pytest.raises(DataError, match=r"'validation', column 'audio', row 0 \(id 'v.2'\): audio/v.2.npy: damaged"):
        build(folder)


def test_nothing_is_run(folder, tmp_path):
    (folder / "audio" / "0001.npy").write_bytes(npy(np.array([[Evil(tmp_path / "ran")]], dtype=object)))
    with pytest.raises(DataError, match=r"row 0 \(id '0001'\): .*never read"):
        samples(folder)
    assert not (tmp_path / "ran").exists()


def test_widths_of_nothing(folder):
    save(folder / "audio" / "0001.npy", np.ones((2, 0)))
    with pytest.raises(DataError, match=r"column 'audio', row 0 \(id '0001'\): audio/0001.npy: frames without values"):
        read_folder(folder)


def test_links_that_lead_out(folder, tmp_path):
    save(tmp_path / "elsewhere" / "0001.npy", np.ones((2, 3)))
    path = folder / "audio" / "0001.npy"
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere" / "0001.npy")
    with pytest.raises(DataError, match=r"row 0 \(id '0001'\): .*0001.npy is a link that leads out of the folder"):
        samples(folder)
    path.unlink()
    path.symlink_to(folder / "audio" / "v.2.npy")
    assert len(samples(folder)["0001"]["audio"]) == 2
    (folder / "word_vectors").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="word_vectors is a link to a folder"):
        read_folder(folder)
    (folder / "word_vectors").unlink()
    (folder / "table.csv").rename(tmp_path / "table.csv")
    (folder / "table.csv").symlink_to(tmp_path / "table.csv")
    with pytest.raises(DataError, match=r"table\.csv is a link that leads out"):
        read_folder(folder)


def test_a_table_of_words_alone_is_a_data_set_and_one_of_nothing_is_not(tmp_path):
    write_table(tmp_path, rows_of())
    assert not read_folder(tmp_path)["train"].widths
    write_table(tmp_path, [{**row, "text": " "} for row in rows_of()])
    with pytest.raises(DataError, match="neither words nor features; expected text, a folder audio, vision"):
        read_folder(tmp_path)


def test_words_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    write_table(tmp_path / "own", rows_of())
    splits = load_splits("custom", str(tmp_path / "own"))
    assert splits["train"].widths == {} and splits["train"]["text"][0].startswith("A text")
    for where in (tmp_path / "own", tmp_path / "out"):
        assert command("data", "inspect", where, "--png", tmp_path / "one.png") == 0
        if where.name == "own":
            options = ["--data", where, "--output_dir", tmp_path / "out"]
            assert command("data", "prepare", "custom", *options) == 0
    assert command("data", "verify", tmp_path / "out", "--source", tmp_path / "own") == 0


def test_a_data_set_without_words_says_nothing_of_them(folder):
    write_table(folder, [{name: value for name, value in row.items() if name != "text"} for row in rows_of()])
    assert not any("no words in" in notice for notice in build(folder)[0].notices)
