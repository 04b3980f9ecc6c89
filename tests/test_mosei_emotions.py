"""CMU-MOSEI's emotions: joined by id from a table or the SDK's file, held against the sentiment, refused otherwise."""

import csv
import sys

import numpy as np
import pytest
from conftest import command, mmsa_file

from selfmm_hf.data import DataError, find_builder, load_splits
from selfmm_hf.data.mosei_emotions import EMOTIONS
from selfmm_hf.data.prepare import prepare
from selfmm_hf.data.safe_pickle import load_pickle
from selfmm_hf.data.verify import verify_folder
from selfmm_hf.model.task_selfmm import Task


@pytest.fixture
def file(tmp_path):
    ids = iter("abc")  # the videos of the splits
    return mmsa_file(
        tmp_path / "mosei.pkl", id=lambda rows: (lambda video: [f"{video}$_${row}" for row in range(rows)])(next(ids))
    )


def intensities(clip: int) -> list[float]:
    return [(clip + number) % 4 / 3 * (4.0 if clip == 2 else 1.0) for number in range(6)]


def clips(file):
    """Ids and sentiments."""
    data, _ = load_pickle(file)
    for split in data.values():
        yield from zip(split["id"], split["regression_labels"].value.tolist(), strict=True)


def write(file, sentiment=True, change=None, names=EMOTIONS[::-1]):
    rows = []
    for number, (clip, score) in enumerate(clips(file)):
        row = {"id": clip} | {name: intensities(number)[EMOTIONS.index(name)] for name in names}
        rows.append(row | ({"sentiment": score} if sentiment else {}))
    rows = change(rows) if change else rows
    path = file.with_name("emotions.csv")
    with path.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.mark.parametrize("sentiment", [True, False])
def test_present_or_absent(file, sentiment, tmp_path):
    builder = find_builder("mosei", str(file), emotions=write(file, sentiment, lambda rows: rows[::-1]))
    prepare(builder, tmp_path / "out")
    train = load_splits("mosei", str(tmp_path / "out"))["train"]
    assert train.task == Task(EMOTIONS, "multi_label_classification")
    assert train["label"] == [[float(value > 0) for value in intensities(row)] for row in range(18)]
    assert any("the emotions are those of emotions.csv, joined by id (SHA-256" in one for one in builder.notices)
    assert list(verify_folder(tmp_path / "out", file, emotions=tmp_path / "emotions.csv")) == []


def test_intensities_up_to_three(file, tmp_path):
    options = {"problem_type": "regression", "emotions": write(file)}
    builder = find_builder("mosei", str(file), **options)
    prepare(builder, tmp_path / "out")
    train = load_splits("mosei", str(tmp_path / "out"))["train"]
    assert train.task == Task(EMOTIONS, "regression", ((0.0, 3.0),) * 6)
    np.testing.assert_allclose(train.labels, np.minimum([intensities(row) for row in range(18)], 3), rtol=1e-6)
    assert train.labels[2].max() == 3
    with pytest.raises(DataError, match=r"Emotions of CMU-MOSEI come together: multi_label_classification, or their"):
        _ = find_builder("mosei", str(file), problem_type="single_label_classification", emotions=tmp_path / "a").task


def test_another_table_is_not_taken_from_the_cache(file):
    def labels():
        builder = find_builder("mosei", str(file), emotions=file.with_name("emotions.csv"))
        builder.download_and_prepare()
        return builder.as_dataset()["train"]["label"][0]

    write(file)
    assert labels() == [0, 1, 1, 1, 0, 1]
    write(file, change=lambda rows: [row | {"happy": 1} for row in rows])
    assert labels() == [1, 1, 1, 1, 0, 1]


def put(**cells):
    return lambda rows: [rows[0] | cells, *rows[1:]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:3] + rows[5:],
         r"'train', column 'id', row 3 \(id 'a\$_\$3'\): emotions.csv has no such id, nor those of 1 other clips of "
         r"the split; it has e.g. 'a\$_\$0'"),
        (put(sentiment=3.3),
         r"row 0 \(id 'a\$_\$0'\): the sentiment is .*, but 3.3 in emotions.csv: the id means another clip there"),
        (put(happy=""), r"emotions.csv, row 0 \(id 'a\$_\$0'\), happy: expected an intensity from 0 to 3, got ''"),
        (put(fear="nan"), "fear: expected an intensity from 0 to 3, got 'nan'"),
        (put(sad=-1), "sad: expected an intensity from 0 to 3, got '-1'"),
        (lambda rows: [rows[0], *rows], r"emotions.csv, row 1 \(id 'a\$_\$0'\): the same id occurs twice"),
        (lambda rows: [{name: row[name] for name in row if name != "fear"} for row in rows],
         "emotions.csv: column 'fear' is missing; expected id, happy, sad, .*, got id, disgust"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said_in_a_line(file, change, message):
    builder = find_builder("mosei", str(file), emotions=write(file, change=change))
    with pytest.raises(DataError, match=message) as error:
        builder.download_and_prepare()
    assert "\n" not in str(error.value)


def test_commands(file, tmp_path, capsys):
    extra = {"id": "z$_$0", "sentiment": 0} | dict.fromkeys(EMOTIONS, 0)
    emotions = write(file, change=lambda rows: [*rows, extra])
    options = ["--data", file, "--output_dir", tmp_path / "out", "--emotions", emotions]
    assert command("data", "prepare", "mosei", *options) == 0
    capsys.readouterr()
    assert command("data", "inspect", tmp_path / "out") == 0
    assert "happy  sad  anger" in capsys.readouterr().out
    assert "1 of its clips are not in the data" in (tmp_path / "out" / "README.md").read_text()
    assert command("data", "verify", tmp_path / "out", "--source", file, "--emotions", emotions) == 0
    assert command("data", "prepare", "mosi", *options) == 2
    assert "--emotions is for mosei, not mosi" in capsys.readouterr().err
    assert command("data", "prepare", "mosei", *options[:-1], tmp_path / "none", "--overwrite") == 2
    assert "none is no file; expected a .csv with the columns id, happy" in capsys.readouterr().err


# ---- the SDK's file


def csd(file, change=lambda values: values):
    h5py = pytest.importorskip("h5py")
    path = file.with_name("CMU_MOSEI_Labels.csd")
    videos: dict[str, list] = {}
    for number, (clip, score) in enumerate(clips(file)):
        videos.setdefault(clip.split("$")[0], []).append([score, *intensities(number)])
    with h5py.File(path, "w") as out:
        for video, values in videos.items():
            out[f"All Labels/data/{video}/features"] = change(np.array(values, dtype=np.float32))
            out[f"All Labels/data/{video}/intervals"] = np.zeros((len(values), 2))
        out["All Labels/metadata/name"] = "labels"
    return path


def test_a_csd(file):
    builder = find_builder("mosei", str(file), emotions=csd(file))
    builder.download_and_prepare()
    labels = builder.as_dataset()["train"]["label"]
    assert labels[:] == [[float(value > 0) for value in intensities(row)] for row in range(18)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda values: values[::-1], "the sentiment is .*: the id means another clip there"),
        (lambda values: values[:-1], r"CMU_MOSEI_Labels.csd has no such id"),
        (lambda values: values[:, :5], "is not like the SDK's CMU_MOSEI_Labels.csd .*has 5 values a segment"),
    ],
)
def test_a_csd_that_does_not_fit(file, change, message):
    builder = find_builder("mosei", str(file), emotions=csd(file, change))
    with pytest.raises(DataError, match=message):
        builder.download_and_prepare()


def test_what_is_no_csd(file):
    pytest.importorskip("h5py")
    path = file.with_name("CMU_MOSEI_Labels.csd")
    path.write_bytes(b"no HDF5")
    with pytest.raises(DataError, match=r"is not like the SDK's CMU_MOSEI_Labels\.csd"):
        find_builder("mosei", str(file), emotions=path).download_and_prepare()


def test_a_csd_without_h5py(file, monkeypatch):
    path = file.with_name("CMU_MOSEI_Labels.csd")
    path.write_bytes(b"of no matter")
    builder = find_builder("mosei", str(file), emotions=path)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(DataError, match=r"is HDF5, which needs h5py: pip install h5py; or give a \.csv"):
        builder.download_and_prepare()
