"""A feature file becomes a folder that `load_dataset` reads without this package."""

import json
import os
import pickle
import re
import subprocess

import fresh
import numpy as np
import pytest
from conftest import mmsa_file
from datasets import load_dataset
from filelock import FileLock
from huggingface_hub import DatasetCard

from selfmm_hf.data import DataError, find_builder, load_splits
from selfmm_hf.data.prepare import prepare
from selfmm_hf.data.prepared import origins
from selfmm_hf.storage.whole_files import CannotWrite

STRANGER = """
import json, sys
sys.modules["selfmm_hf"] = None
from datasets import load_dataset
splits = load_dataset(sys.argv[1], sys.argv[2])
rows = {
    split: [[clip["id"], clip["audio"].tolist()] for clip in splits[split].with_format("numpy")]
    for split in splits
}
streams = load_dataset(sys.argv[1], sys.argv[2], streaming=True)
streamed = {split: [clip["id"] for clip in stream] for split, stream in streams.items()}
print(json.dumps([rows, streamed, str(splits["train"].features["audio"])]))
"""


@pytest.fixture
def file(tmp_path):
    return mmsa_file(tmp_path / "source.pkl")


def everything(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def aligned(file):
    data = pickle.loads(file.read_bytes())
    for split in data.values():
        del split["audio_lengths"], split["vision_lengths"]
        split["audio"] = np.pad(split["audio"], ((0, 0), (0, 2), (0, 0)))
        split["vision"] = np.pad(split["vision"], ((0, 0), (0, 3), (0, 0)))
    file = file.with_name("aligned.pkl")
    file.write_bytes(pickle.dumps(data))
    return file


def test_a_stranger_loads_the_folder(tmp_path, file):
    prepare(find_builder("mosi", str(file)), tmp_path / "out")
    process = subprocess.run(
        [fresh.python(), "-c", STRANGER, str(tmp_path / "out"), "unaligned"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.returncode == 0, process.stderr
    rows, streamed, kind = json.loads(process.stdout)
    source = pickle.loads(file.read_bytes())
    assert list(rows) == list(streamed) == ["train", "validation", "test"]
    for split, clips in rows.items():
        expected = source[split.replace("validation", "valid")]
        assert [name for name, _ in clips] == expected["id"] == streamed[split]
        for row, (_, frames) in enumerate(clips):
            assert np.array_equal(frames, expected["audio"][row, : expected["audio_lengths"][row]])
    assert kind == "Array2D(shape=(None, 7), dtype='float32')"


def test_what_is_in_the_folder(tmp_path, file):
    folder = tmp_path / "new" / "out"
    prepare(find_builder("mosi", str(file)), folder)
    assert sorted(re.sub("-[0-9a-f]{16}", "", name) for name in everything(folder)) == [
        "README.md",
        "unaligned/dataset_info.json",
        "unaligned/origin.json",
        *(f"unaligned/{split}-00000-of-00001.parquet" for split in ("test", "train", "validation")),
    ]
    assert os.listdir(folder.parent) == ["out"]
    assert not [name for name, content in everything(folder).items() if str(tmp_path).encode() in content]
    (origin,) = origins(folder)
    assert (origin["dataset"], origin["source"], origin["published"]) == ("mosi", "source.pkl", False)
    assert origin["rows"] == {"train": 18, "validation": 5, "test": 5} and origin["widths"] == {"audio": 7, "vision": 6}
    card = DatasetCard.load(folder / "README.md")
    assert card.data.configs[0]["config_name"] == "unaligned" and card.data.license == "other"
    assert card.data.dataset_info["splits"][0]["num_examples"] == 18
    assert origin["sha256"] in card.text and "no vision in 5 of 18 rows" in card.text and "zadeh2016mosi" in card.text


def test_training_samples_are_those_of_the_file(tmp_path, file):
    prepare(find_builder("mosi", str(file)), tmp_path / "out")
    prepared, direct = load_splits("mosi", str(tmp_path / "out")), load_splits("mosi", str(file))
    for split, samples in direct.items():
        for row in range(len(samples)):
            found, expected = prepared[split][row], samples[row]
            assert found.keys() == expected.keys()
            assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_two_configurations_in_one_folder(tmp_path, file):
    out = tmp_path / "out"
    prepare(find_builder("mosi", str(aligned(file))), out)
    prepare(find_builder("mosi", str(file)), out)
    assert [one["config"] for one in origins(out)] == ["unaligned", "aligned"]
    lengths = [load_splits("mosi", str(out), config)["train"].lengths("audio")[:4].tolist() for config in
               ("aligned", "unaligned", None)]  # fmt: skip
    assert lengths == [[4, 4, 4, 4], [1, 2, 3, 4], [1, 2, 3, 4]]


def test_nothing_is_lost_or_mixed(tmp_path, file):
    out = tmp_path / "out"
    prepare(find_builder("mosi", str(file)), out)
    before = everything(out)
    with pytest.raises(DataError, match=r"holds the configuration unaligned already: .*--overwrite"):
        prepare(find_builder("mosi", str(file)), out)
    with pytest.raises(DataError, match="holds mosi, not mosei"):
        prepare(find_builder("mosei", str(file)), out)
    spoilt = mmsa_file(tmp_path / "spoilt.pkl", audio=lambda rows: np.full((rows, 4, 7), np.nan, np.float32))
    with pytest.raises(DataError, match="not finite"):
        prepare(find_builder("mosi", str(spoilt), not_finite="refuse"), out, overwrite=True)
    assert everything(out) == before
    prepare(find_builder("mosi", str(mmsa_file(file, raw_text=lambda rows: ["new"] * rows))), out, overwrite=True)
    assert set(load_splits("mosi", str(out))["train"]["text"]) == {"new"} and len(everything(out)) == len(before)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match="not a data set of `selfmm data prepare`; name a new folder"):
        prepare(find_builder("mosi", str(file)), tmp_path / "other", overwrite=True)
    assert os.listdir(tmp_path / "other") == ["thesis.tex"]


def test_no_cache_of_other_data_is_taken(tmp_path, file):
    def texts(folder):
        prepared = load_splits("mosi", str(folder))["train"]["text"]
        assert load_dataset(str(folder), "unaligned")["train"]["text"][:] == prepared
        return set(prepared)

    new = mmsa_file(tmp_path / "new.pkl", raw_text=lambda rows: ["new"] * rows)
    prepare(find_builder("mosi", str(file)), tmp_path / "1" / "out")
    assert texts(tmp_path / "1" / "out") == {"good film", "bad film"}
    prepare(find_builder("mosi", str(new)), tmp_path / "2" / "out")  # of the same name, by which `datasets` caches
    assert texts(tmp_path / "2" / "out") == {"new"}
    prepare(find_builder("mosi", str(new)), tmp_path / "1" / "out", overwrite=True)
    assert texts(tmp_path / "1" / "out") == {"new"}
    (train,) = (tmp_path / "1" / "out").glob("unaligned/train-*")
    train.write_bytes(b"")
    with pytest.raises(DataError, match="cannot be loaded as a folder of `selfmm data prepare`"):
        load_splits("mosi", str(tmp_path / "1" / "out"))
    train.unlink()
    with pytest.raises(DataError, match=r"has no unaligned/train-.* any more; prepare the data set again"):
        load_splits("mosi", str(tmp_path / "1" / "out"))


def test_folders_that_cannot_be_trained_on(tmp_path, file):
    out = tmp_path / "out"
    prepare(find_builder("mosi", str(file), not_finite="keep"), out)
    with pytest.raises(DataError, match="training needs zero"):
        load_splits("mosi", str(out))
    for other in ("mosei", "custom"):
        with pytest.raises(DataError, match=f"holds the data set mosi, not {other}"):
            load_splits(other, str(out))
    with pytest.raises(DataError, match="is inside the data set in"):
        prepare(find_builder("mosi", str(file)), out / "unaligned" / "deep")
    with pytest.raises(DataError, match=r"which `datasets` reads as a pattern"):
        prepare(find_builder("mosi", str(file)), tmp_path / "odd [1]")
    odd = file.rename(tmp_path / "odd [1]*.pkl")
    prepare(find_builder("mosi", str(odd)), tmp_path / "even")


KILLED = """
import os, signal, sys
from pathlib import Path
from selfmm_hf.data import find_builder
from selfmm_hf.data.mmsa import FeatureTable
from selfmm_hf.data import prepare

samples, moment = FeatureTable.samples, sys.argv[3]

def until_killed(table):
    for row, sample in enumerate(samples(table)):
        if moment == "samples" and "test" in table.where and row == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        yield sample

def killed(*_):
    os.kill(os.getpid(), signal.SIGKILL)

FeatureTable.samples = until_killed
if moment == "card":
    prepare._card = killed
if moment == "move":
    prepare.move = killed
prepare.prepare(find_builder("mosi", sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.parametrize("moment", ["samples", "card", "move"])
def test_a_killed_process_leaves_nothing_that_looks_finished(tmp_path, file, moment):
    folder = tmp_path / "data" / "out"
    arguments = [fresh.python(), "-c", KILLED, str(file), str(folder), moment]
    assert subprocess.run(arguments, capture_output=True, timeout=120).returncode == -9
    assert not folder.exists() and all(name.startswith(".") for name in os.listdir(folder.parent))
    prepare(find_builder("mosi", str(file)), folder)  # again, as if nothing had been
    assert os.listdir(folder.parent) == ["out"] and len(load_splits("mosi", str(folder))["train"]) == 18


def test_one_process_at_a_time(tmp_path, file, monkeypatch):
    monkeypatch.setattr("selfmm_hf.storage.file_lock.PATIENCE", 0)
    (tmp_path / ".out.part").mkdir()
    with FileLock(tmp_path / ".out.part" / "lock"), pytest.raises(CannotWrite, match="Another process is writing"):
        prepare(find_builder("mosi", str(file)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_leaves_nothing(tmp_path, file, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("selfmm_hf.data.prepare._write_origin", full)
    with pytest.raises(OSError, match="No space left"):
        prepare(find_builder("mosi", str(file)), tmp_path / "data" / "out")
    assert os.listdir(tmp_path / "data") == []
