"""From a feature file to Arrow."""

import hashlib
import pickle

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import mmsa_file
from datasets import Array2D, Dataset, List, Value, concatenate_datasets
from test_verify import column, narrower

from selfmm_hf.data import BUILDERS, LABEL_RANGES, DataError, Mosi, Sims, find_builder, load_splits
from selfmm_hf.data.builder import FeatureBuilder, FeatureConfig, published_as
from selfmm_hf.data.prepare import prepare
from selfmm_hf.data.safe_pickle import load_pickle


def built(builder):
    builder.download_and_prepare()
    return builder.as_dataset()


def test_columns_types_and_rows(tmp_path):
    file = mmsa_file(tmp_path / "mosi.pkl")
    splits = built(Mosi(config_name="unaligned", data_files=str(file), cache_dir=tmp_path / "cache"))
    assert {split: len(rows) for split, rows in splits.items()} == {"train": 18, "validation": 5, "test": 5}
    assert splits["train"].features == {
        "id": Value("string"),
        "text": Value("string"),
        "audio": Array2D((None, 7), "float32"),
        "vision": Array2D((None, 6), "float32"),
        "label": Value("float32"),
        "input_ids": List(Value("int32")),
    }
    source = pickle.loads(file.read_bytes())
    for split, rows in splits.items():
        expected = source[split.replace("validation", "valid")]
        assert rows["id"][:] == expected["id"] and rows["text"][:] == expected["raw_text"]
        assert np.array_equal(np.float32(rows["label"]), expected["regression_labels"])
        for row, clip in enumerate(rows.with_format("numpy")):
            assert clip["input_ids"].tolist() == [2, 5, 6, 3]
            for name in ("audio", "vision"):
                length = expected[f"{name}_lengths"][row]
                assert clip[name].dtype == np.float32
                assert np.array_equal(clip[name], expected[name][row, :length]), (split, row, name)


def test_human_unimodal_labels_are_columns(tmp_path):
    def labels(factor):
        return lambda rows: np.linspace(-factor, factor, rows, dtype=np.float32)

    columns = {f"regression_labels_{letter}": labels(number / 3) for number, letter in enumerate("TAV", start=1)}
    file = mmsa_file(tmp_path / "sims.pkl", limit=1.0, **columns)
    rows = built(Sims(config_name="unaligned", data_files=str(file)))["test"]
    found = [np.ptp(rows[f"label_{name}"]) for name in ("text", "audio", "vision")]
    assert found == pytest.approx([2 / 3, 4 / 3, 2])


def test_aligned_files(tmp_path):
    data = pickle.loads(mmsa_file(tmp_path / "file.pkl").read_bytes())
    for split in data.values():
        del split["audio_lengths"], split["vision_lengths"]
        split["audio"] = np.pad(split["audio"], ((0, 0), (0, 2), (0, 0)))  # as many steps as there are tokens
        split["vision"] = np.pad(split["vision"], ((0, 0), (0, 3), (0, 0)))
    (tmp_path / "file.pkl").write_bytes(pickle.dumps(data))
    builder = find_builder("mosi", str(tmp_path / "file.pkl"))
    assert builder.config.name == "aligned"
    assert {len(clip["audio"]) for clip in built(builder)["train"]} == {4}
    with pytest.raises(DataError, match="is aligned, not unaligned: ask for the configuration aligned"):
        built(find_builder("mosi", str(tmp_path / "file.pkl"), "unaligned"))
    with pytest.raises(DataError, match="CH-SIMS has no configuration aligned; expected"):
        find_builder("sims", str(tmp_path / "file.pkl"))


def test_published_files_are_known_by_their_checksums(tmp_path, monkeypatch, caplog):
    file = mmsa_file(tmp_path / "file.pkl")
    sha1 = hashlib.sha1(file.read_bytes()).hexdigest()
    builder = Mosi(config_name="unaligned", data_files=str(file), cache_dir=tmp_path / "1")
    built(builder)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    assert builder.origin == ("file.pkl", sha256, False, None)
    assert any(
        f"not the published file of CMU-MOSI, unaligned: its SHA-256 is {sha256}" in one for one in builder.notices
    )

    known = FeatureConfig(name="unaligned", checksums=("0" * 64, sha1))
    monkeypatch.setattr(Mosi, "BUILDER_CONFIGS", (known,))
    monkeypatch.setattr(Mosi, "builder_configs", {"unaligned": known})
    builder = Mosi(config_name="unaligned", data_files=str(file), cache_dir=tmp_path / "2")
    built(builder)
    assert builder.origin[2:] == (True, "CMU-MOSI") and not any("not the published" in one for one in builder.notices)
    with pytest.raises(DataError, match="is the published file of CMU-MOSI, unaligned, not of CMU-MOSEI, unaligned"):
        built(find_builder("mosei", str(file), cache_dir=tmp_path / "3"))


def test_checksums_are_of_the_published_kind_and_each_of_one_file():
    all_of_them = [
        one for builder in FeatureBuilder.__subclasses__() for config in builder.BUILDER_CONFIGS
        for one in config.checksums
    ]  # fmt: skip
    assert len(all_of_them) == len(set(all_of_them)) == 10
    assert all(len(one) in (40, 64) and int(one, 16) for one in all_of_them)
    assert published_as({"sha1": "a00c73e92f66896403c09dbad63e242d5af756f8"}) == (Sims, "unaligned")


def test_a_fault_among_the_frames_is_told_as_it_is(tmp_path):
    def spoilt(rows):
        frames = np.zeros((rows, 4, 7), np.float32)
        frames[3, 0, 2] = np.inf
        return frames

    file = mmsa_file(tmp_path / "file.pkl", audio=spoilt)
    builder = find_builder("mosi", str(file), not_finite="refuse")
    with pytest.raises(DataError, match=r"split 'train', column 'audio', row 3 \(id 'train3\$_\$1'\): 1 values"):
        builder.download_and_prepare()
    assert find_builder("mosi", str(file), not_finite="zero").config_id != builder.config_id
    kept = built(find_builder("mosi", str(file), not_finite="keep"))["train"]
    assert np.isinf(kept[3]["audio"]).sum() == 1


def test_a_changed_file_is_read_again(tmp_path):
    file = mmsa_file(tmp_path / "file.pkl")
    assert load_splits("mosi", str(file))["train"]["text"][0] != "new"
    mmsa_file(file, raw_text=lambda rows: ["new"] * rows)
    assert load_splits("mosi", str(file))["train"]["text"][0] == "new"


def test_the_same_id_in_two_splits_is_told(tmp_path):
    file = mmsa_file(tmp_path / "file.pkl", id=lambda rows: [f"clip{row}" for row in range(rows)])
    builder = find_builder("mosi", str(file))
    built(builder)
    assert any("the id 'clip0' is in train and in validation" in notice for notice in builder.notices)


def test_each_data_set_has_its_range_and_language():
    assert LABEL_RANGES == {
        "demo": 3.0,
        "mosi": 3.0,
        "mosei": 3.0,
        "sims": 1.0,
        "simsv2": 1.0,
        "iemocap": None,
        "custom": 3.0,
    }
    assert {name: builder.LANGUAGE for name, builder in BUILDERS.items() if builder.CITATION} == {
        "mosi": "en", "mosei": "en", "sims": "zh", "simsv2": "zh", "iemocap": "en",
    }  # fmt: skip


def _rated(label):
    return lambda _: {"label": label}


def _spoilt(column, value):
    """Of the fourth clip of the training split."""
    return lambda row: {column: value if row["id"] == "train3$_$1" else row[column]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.remove_columns("label"), "column 'label': expected Value.*got nothing"),
        (lambda rows: rows.cast_column("label", Value("float64")), r"column 'label': expected Value\('float32'\)"),
        (lambda rows: rows.select([]) if len(rows) == 18 else rows, "no data"),
        (lambda rows: concatenate_datasets([rows, rows.select([0]).map(_rated(9.0))]), "row 18 .*label is 9"),
        (lambda rows: concatenate_datasets([rows, rows.select([0]).map(_rated(None))]), "label is None"),
        (lambda rows: rows.map(lambda row: {"label": row["label"] / 4}), "no label is beyond"),
        (
            lambda rows: rows.map(_spoilt("text", None)),
            r"split 'train', column 'text', row 3 \(id 'train3\$_\$1'\): .*null",
        ),
        (
            lambda rows: rows.map(_spoilt("id", None)),
            r"split 'train', column 'id', row 3 \(id None\): the value is null",
        ),
        (lambda rows: rows.map(_spoilt("id", "train1$_$1")), "split 'train', .*ids occur twice, .* in rows 1 and 3"),
        (
            lambda rows: rows.map(_spoilt("audio", [[1.0] * 6 + [float("nan")]])),
            r"split 'train', column 'audio', row 3 \(id 'train3\$_\$1'\): values that are not finite, first in frame 0",
        ),
        (
            lambda rows: rows.cast_column("audio", List(List(Value("float32")))),
            r"split 'train', column 'audio': expected Array2D.*width.*, got List",
        ),
        (
            lambda rows: rows if len(rows) == 18 else rows.remove_columns("audio"),
            r"split 'validation', column 'audio', row 0 \(id 'valid0\$_\$1'\): null instead of frames",
        ),
    ],
)
def test_parquet_of_others_is_checked(tmp_path, change, message):
    splits = built(find_builder("mosi", str(mmsa_file(tmp_path / "file.pkl"))))
    (tmp_path / "parquet").mkdir()
    for split, rows in splits.items():
        rows = change(rows)
        rows = Dataset.from_dict(rows[:], rows.features)  # in one piece
        rows.to_parquet(tmp_path / "parquet" / f"{split}.parquet")
    with pytest.raises(DataError, match=message) as caught:
        load_splits("mosi", str(tmp_path / "parquet"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("prepared", [True, False])
def test_a_frame_of_another_width_shifts_no_others(tmp_path, prepared):
    """In a prepared folder, and in anybody's Parquet files, as a repository has them."""
    folder = tmp_path / "out"
    prepare(find_builder("mosi", str(mmsa_file(tmp_path / "file.pkl"))), folder)
    (train,) = folder.glob("unaligned/train-*")
    table = pq.read_table(train)
    pq.write_table(column(table, "audio", narrower(table)), train)
    if not prepared:
        (folder / "unaligned" / "origin.json").unlink()
    message = r"split 'train', column 'audio', row 2 \(id 'train2\$_\$1'\): frame 1 has 6 values, expected 7"
    with pytest.raises(DataError, match=message):
        load_splits("mosi", str(folder))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("nothing.pkl", "There is no file or folder nothing.pkl"),
        ("/nothing/here", "There is no file or folder"),
        ("./no/folder", "There is no file or folder"),
        ("no-such/repository", "no-such/repository cannot be loaded as a file, a folder or a repository"),
        (".", "cannot be loaded as a folder of `selfmm data prepare`"),
    ],
)
def test_what_is_not_there(tmp_path, monkeypatch, data, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=message):
        load_splits("mosi", data)


def test_the_real_file_padded_back_is_the_file(shared):
    file = shared / "data" / "mosi" / "unaligned_50.pkl"
    splits = load_splits("mosi", str(file))
    source, _ = load_pickle(file)
    for split, samples in splits.items():
        expected = source[split.replace("validation", "valid")]
        assert samples["id"] == expected["id"] and samples["text"] == expected["raw_text"]
        for name in ("audio", "vision"):
            padded = np.zeros_like(expected[name].value)
            for row in range(len(samples)):
                frames = samples[row][name]
                padded[row, : len(frames)] = frames
            assert np.array_equal(padded, expected[name].value)
