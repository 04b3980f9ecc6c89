"""From clips to a data set of one's own, through whatever may happen on the way."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import fresh
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import test_decoding
from conftest import command
from filelock import FileLock

for package in ("ai_edge_litert", "av", "librosa", "pebble", "PIL", "soxr"):
    pytest.importorskip(package)

from test_decoding import write_clip  # noqa: E402
from test_face_landmarks import draw_face  # noqa: E402
from test_pipeline import recogniser  # noqa: E402, F401

import selfmm_cli as cli  # noqa: E402
from selfmm_hf.clips import extract as extraction  # noqa: E402
from selfmm_hf.clips import one_clip  # noqa: E402
from selfmm_hf.clips.extract import ExtractionError, extract_clips  # noqa: E402
from selfmm_hf.clips.folder import ExtractionFolder  # noqa: E402
from selfmm_hf.clips.job import WorkError  # noqa: E402
from selfmm_hf.data import DataError, load_splits  # noqa: E402
from selfmm_hf.data.recipe import find_recipe  # noqa: E402
from selfmm_hf.model.feature_extraction_selfmm import SelfMMFeatureExtractor  # noqa: E402
from selfmm_hf.model.transcription_selfmm import load_transcriber  # noqa: E402
from selfmm_hf.storage.tables import plain_cell  # noqa: E402
from selfmm_hf.storage.whole_files import CannotWrite  # noqa: E402

pytestmark = pytest.mark.usefixtures("forked_workers")

ODD = 'v/1 é$_$\'; x\n&"y"'  # an id
CLIPS = {
    ODD: "mp4", "v/2": "mkv", "face only": "mp4", "sound only": "wav", "neither": "mp4", "cut": "mkv",
    "text": "mp4", "zero": "mp4", "late": "mov", "dies": "mp4",
}  # fmt: skip
FAILING = {"text", "zero", "dies", "nowhere"}
SPLITS = {"v/2": "valid", "cut": "test"}


class Dying(SelfMMFeatureExtractor):
    """Takes its process with it where it sees a certain clip."""

    def extract(self, clip):
        if Path(str(clip)).stem == "dies":
            os.write(2, b"some library: assertion failed\n")
            os.kill(os.getpid(), signal.SIGSEGV)
        return super().extract(clip)


class Stillborn(SelfMMFeatureExtractor):
    """Takes its process with it before any clip is read."""

    def extract(self, clip):
        os.kill(os.getpid(), signal.SIGKILL)


class Hanging(SelfMMFeatureExtractor):
    """Never comes to the end of a certain clip, and has the others at once."""

    def extract(self, clip):
        while Path(str(clip)).stem == "late":
            time.sleep(60)
        return super().extract({"audio": np.ones((3, 33)), "vision": np.ones((3, 41))})


class Halting(SelfMMFeatureExtractor):
    """Waits where so many clips are finished."""

    def extract(self, clip):
        folder, lines = os.environ.get("HALT", "/: 99").split(":")
        while len(journal(Path(folder))) >= int(lines):
            time.sleep(0.02)
        return super().extract(clip)


def write_table(path, rows, columns=("id", "text", "label", "split")):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def content(folder):
    """All files but their times."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def journal(folder):
    """Its whole lines."""
    file = folder / "extraction.jsonl"
    lines = file.read_bytes().splitlines(keepends=True) if file.exists() else []
    return [json.loads(line) for line in lines if line.endswith(b"}\n")]


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """A folder of clips of a second, and a table of them."""
    root = tmp_path_factory.mktemp("media")
    clips = root / "clips"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(test_decoding, "WIDTH", 128)
        patch.setattr(test_decoding, "HEIGHT", 128)
        for name, ending in CLIPS.items():
            path = clips / f"{name}.{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            with pytest.MonkeyPatch.context() as drawn:
                if name != "neither":
                    drawn.setattr(test_decoding, "picture", lambda number: draw_face(smile=number / 12, size=128))
                video = None if name == "sound only" else "mpeg4"
                audio = {"face only": None, "neither": None, "sound only": "pcm_s16le"}.get(name, "aac")
                write_clip(path, video, audio, seconds=1.0)
    (clips / "text.mp4").write_text("I am a film\n" * 1000)
    (clips / "zero.mp4").write_bytes(b"")
    whole = (clips / "cut.mkv").read_bytes()
    (clips / "cut.mkv").write_bytes(whole[: len(whole) // 3])
    (clips / "v" / "2.txt").write_text("a transcript beside the clip")
    rows = [
        (name, "" if name == "late" else f'"{name}",\nsaid', round(row / 3 - 1, 2), SPLITS.get(name, "train"))
        for row, name in enumerate([*CLIPS, "nowhere"])
    ]
    write_table(root / "table.csv", rows)
    write_table(root / "good.csv", [row for row in rows if row[0] not in FAILING])
    return root


@pytest.fixture(scope="module")
def extracted(media):
    """The folder, and what has come of it; two processes, of which one dies twice."""
    out = media / "out"
    return out, extract_clips(media / "clips", media / "table.csv", out, Dying(), workers=2)


@pytest.fixture
def copy(extracted, tmp_path):
    """A copy of the folder, to go on with."""
    shutil.copytree(extracted[0], tmp_path / "out")
    return tmp_path / "out"


@pytest.fixture
def inline(monkeypatch):
    """Clips are extracted in this process; gives the ids of those that are."""
    seen = []

    def work(tasks, job, workers_asked):
        for task in tasks:
            seen.append(task.id)
            yield task, one_clip.extract(task, job)

    monkeypatch.setattr(extraction, "work", work)
    return seen


def test_features_are_those_of_the_extractor(media, extracted):
    out, result = extracted
    extractor = SelfMMFeatureExtractor()
    assert list(result.done) == [name for name in CLIPS if name not in FAILING]
    for name in set(result.done) - {"cut"}:
        features, absent = extractor.extract(media / "clips" / f"{name}.{CLIPS[name]}")
        assert result.done[name].absent == absent
        for modality, frames in features.items():
            path = out / modality / f"{name}.npy"
            assert path.exists() == (modality not in absent)
            if modality not in absent:
                np.testing.assert_array_equal(np.load(path), frames, strict=True)
    assert result.done["neither"].absent == {"audio": "no sound", "vision": "no face"}
    assert result.done["face only"].absent == {"audio": "no sound"}
    assert result.done["sound only"].absent == {"vision": "no picture"}
    assert result.done[ODD].seconds == pytest.approx(1, abs=0.1)


def test_the_share_of_pictures_with_a_face_is_in_the_journal_and_in_the_table(media, extracted, copy, inline):
    out, _ = extracted
    shares = {record["id"]: record["face_share"] for record in journal(out)}
    assert shares[ODD] == 1 and shares["neither"] == 0 and shares["sound only"] is None
    rows = {row["id"]: row["face_share"] for row in csv.DictReader((out / "table.csv").read_text("utf-8").splitlines())}
    assert rows["v/2"] == "1" and rows["neither"] == "0" and rows["sound only"] == ""
    # A journal that was written before.
    old = [{name: value for name, value in record.items() if name != "face_share"} for record in journal(copy)]
    (copy / "extraction.jsonl").write_text("".join(json.dumps(record) + "\n" for record in old))
    again = extract_clips(media / "clips", media / "good.csv", copy, Dying())
    assert inline == [] and {record.face_share for record in again.done.values()} == {None}
    assert "face_share" not in (copy / "table.csv").read_text("utf-8")
    assert len(load_splits("custom", str(copy))["train"]) == 5


def test_what_fails_fails_alone_and_is_told(extracted):
    out, result = extracted
    with (out / "failures.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["id", "clip", "reason"] and [tuple(row) for row in rows] == result.failures
    reasons = {clip: (file, reason) for clip, file, reason in rows}
    assert reasons["text"][0] == "text.mp4" and "not a sound or video file" in reasons["text"][1]
    assert "is empty (0 bytes)" in reasons["zero"][1]
    died = "the process that read it died (SIGSEGV; some library: assertion failed)"
    assert reasons["dies"] == ("dies.mp4", died)
    assert reasons["nowhere"] == ("", "there is no media file 'nowhere.*'")
    assert set(reasons) == FAILING
    damaged = {clip: record.warnings for clip, record in result.done.items() if record.warnings}
    assert list(damaged) == ["cut"] and "damaged or cut off" in damaged["cut"][0]
    assert len(damaged["cut"]) == len(set(damaged["cut"]))


def test_it_is_a_data_set_and_nothing_else_is_left(extracted, capsys):
    out, result = extracted
    splits = load_splits("custom", str(out))
    assert {split: len(samples) for split, samples in splits.items()} == {"train": 5, "validation": 1, "test": 1}
    assert splits["train"]["id"][0] == ODD and splits["train"]["text"][0] == f'"{ODD}",\nsaid'
    assert splits["train"].frames("vision", 0).shape == (10, 41)
    assert find_recipe("custom", str(out)).recipe == SelfMMFeatureExtractor().recipe
    cli.main(["data", "inspect", str(out)])
    assert "belong to no id" not in capsys.readouterr().out
    features = {f"{name}/{clip}.npy" for clip, one in result.done.items() for name, n in one.frames.items() if n}
    others = {"table.csv", "failures.csv", "extraction.jsonl", "preprocessor_config.json"}
    assert content(out).keys() == features | others
    assert [line["id"] for line in journal(out)] == list(result.done)


def test_again_there_is_only_the_table_to_write(media, copy, inline):
    before = content(copy)
    lines = (media / "good.csv").read_text().replace("valid", "dev").replace("-1.0,", "2.5,")
    changed = copy.with_name("changed.csv")
    changed.write_text(lines)
    result = extract_clips(media / "clips", changed, copy, Dying())
    assert inline == [] and result.computed == 0 and not result.failures
    after = content(copy)
    assert before.keys() - after.keys() == {"failures.csv"}
    assert {name for name in after if before[name] != after[name]} == {"table.csv"}
    assert after["table.csv"].count(b'"dev"') == 1 and b",2.5," in after["table.csv"]


def test_what_changed_is_computed_again(media, copy, inline):
    clips = copy.with_name("clips")
    shutil.copytree(media / "clips", clips)
    os.utime(clips / "v" / "2.mkv", ns=(0, 5))  # touched
    shutil.copy2(clips / "neither.mp4", clips / "late.mov")  # another clip, without sound and face
    (clips / "face only.mp4").unlink()  # gone: its features stay
    (copy / "audio" / "sound only.npy").write_bytes(b"\x93NUMPY")  # cut off, as when the power fails
    expected = np.load(copy / "vision" / "v" / "2.npy")
    result = extract_clips(clips, media / "good.csv", copy, Dying())
    assert sorted(inline) == ["late", "sound only", "v/2"] and result.gone == 1
    assert not (copy / "audio" / "late.npy").exists() and not (copy / "vision" / "late.npy").exists()
    np.testing.assert_array_equal(np.load(copy / "vision" / "v" / "2.npy"), expected)
    assert len(np.load(copy / "audio" / "sound only.npy")) == 44
    assert len(load_splits("custom", str(copy))["train"]) == 5


def test_clips_that_leave_the_table_leave_the_folder(media, copy, inline):
    rows = [("v/2", "", 1, "train"), ("cut", "", 1, "dev"), ("sound only", "", -1, "test")]
    table = write_table(copy.with_name("three.csv"), rows)
    extract_clips(media / "clips", table, copy, Dying())
    assert inline == []
    assert sorted(path.name for path in (copy / "audio").iterdir()) == ["cut.npy", "sound only.npy", "v"]
    assert [path.name for path in (copy / "audio" / "v").iterdir()] == ["2.npy"]
    rows = [(split, "", number, split, "sound only.wav") for number, split in enumerate(("train", "dev", "test"))]
    table = write_table(copy.with_name("renamed.csv"), rows, ("id", "text", "label", "split", "clip"))
    extract_clips(media / "clips", table, copy, Dying())
    assert not (copy / "vision").exists()  # a folder without files is no modality
    assert load_splits("custom", str(copy))["train"].widths == {"audio": 33}


def test_a_torn_journal_is_mended(media, copy, inline):
    before = content(copy)
    whole = (copy / "extraction.jsonl").read_bytes()
    lines = whole.splitlines(keepends=True)
    torn = [*lines[:2], b"\0\0\0\n", b'{"id": 5}\n', b"[]\n", *lines[2:-1], lines[-1][: len(lines[-1]) // 2]]
    (copy / "extraction.jsonl").write_bytes(b"".join(torn))
    extract_clips(media / "clips", media / "good.csv", copy, Dying())
    assert inline == ["late"]
    after = content(copy)
    assert {name for name in after if after[name] != before[name]} == {"table.csv"} - {"table.csv"}


@pytest.mark.parametrize("where", ["id", "frames", "a linked folder", "the folder of parts"])
def test_nothing_outside_the_folder_is_deleted(media, copy, tmp_path, where):
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "weights.npy").write_bytes(b"mine")
    lines = (copy / "extraction.jsonl").read_text().splitlines()
    stranger = json.loads(lines[0]) | {"id": "../../victim/weights"}
    if where == "frames":
        stranger = json.loads(lines[0]) | {"id": "weights", "frames": {"../../victim": 4}}
    elif where == "a linked folder":
        stranger["id"] = "weights"
        for name in ("audio", "vision"):
            (copy / name).rename(tmp_path / name)
            (copy / name).symlink_to(victim)
    elif where == "the folder of parts":
        stranger = json.loads(lines[0])
        (copy / ".part").symlink_to(victim)
    (copy / "extraction.jsonl").write_text("\n".join([*lines, json.dumps(stranger), ""]))
    try:
        extract_clips(media / "clips", media / "good.csv", copy, Dying())
    except (DataError, ExtractionError) as error:
        assert re.search("would lie outside the folder|is a link to a folder", str(error)), error
    else:
        assert where in ("frames", "the folder of parts")
    assert (victim / "weights.npy").read_bytes() == b"mine"


def test_a_spreadsheet_computes_nothing_in_the_failures(tmp_path):
    folder = ExtractionFolder(tmp_path)
    (tmp_path / ".part").mkdir()
    folder.write_failures([("=1+1", "@SUM(A1)", "-2+3|cmd"), ("plain", "a=b.mp4", "\tempty")])
    with (tmp_path / "failures.csv").open(newline="") as file:
        rows = [*csv.reader(file)]
    assert [plain_cell(name) for name in ("-1", "+0.5", "-1+1")] == ["-1", "+0.5", "'-1+1"]  # classes
    assert rows[1:] == [["'=1+1", "'@SUM(A1)", "'-2+3|cmd"], ["plain", "a=b.mp4", "'\tempty"]]


def test_another_recipe_is_refused(media, copy):
    before = content(copy)
    slower = Dying(vision={"kind": "face", "frame_rate": 5.0})
    with pytest.raises(ExtractionError, match=r"another recipe: vision frame_rate is 10.0, expected 5.0"):
        extract_clips(media / "clips", media / "good.csv", copy, slower)
    assert content(copy) == before
    (copy / "preprocessor_config.json").unlink()
    with pytest.raises(ExtractionError, match=r"recipe of the features there, cannot be read .* Put it back"):
        extract_clips(media / "clips", media / "good.csv", copy, Dying())


def test_folders_of_others_are_refused(media, copy, tmp_path, monkeypatch):
    def extract(out, table=media / "good.csv"):
        extract_clips(media / "clips", table, out, Dying())

    monkeypatch.setattr("selfmm_hf.storage.file_lock.PATIENCE", 0)
    with FileLock(copy / ".part" / "lock"), pytest.raises(CannotWrite, match="Another process is writing"):
        extract(copy)
    assert (copy / ".part" / "lock").exists()
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("\\end")
    with pytest.raises(ExtractionError, match=r"was not made by `selfmm extract`: it holds 'thesis.tex'"):
        extract(other)
    assert [path.name for path in other.iterdir()] == ["thesis.tex"]
    with pytest.raises(ExtractionError, match=r"thesis.tex is a file; name a new folder"):
        extract(other / "thesis.tex")
    with pytest.raises(ExtractionError, match="is the output of this command; name the table"):
        extract(copy, copy / "table.csv")
    with pytest.raises(OSError, match=r"thesis\.tex"):
        extract(other / "thesis.tex" / "out")


FULL = [("a", "train"), ("b", "dev"), ("c", "test")]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("a", 1, "train")], "split 'validation' is missing or empty"),
        ([("../a", 1, "train")], r"column 'id', row 0 .* names files outside the folder"),
        ([("a//b", 1, "train")], r"row 0 \(id 'a//b'\): it cannot be the name of feature files"),
        ([("é" * 150, 1, "train")], "it cannot be the name of feature files"),
        ([("é" * 150 + "/a", 1, "train")], "keep each part below 240 bytes"),
        ([(name, "good" if name == "c" else 1, split) for name, split in FULL], "expected numbers .* 'good' in row 2"),
        ([(name, 3.2, split) for name, split in FULL], r"the label is 3.2, .* \[-3, 3\]"),
        ([(name, 1, split) for name, split in FULL], r"none of the 3 rows .* id 'a', there is no media file 'a.\*'"),
        ([("v/2", 1, "train", "../2.mkv"), *[(name, 1, split, "") for name, split in FULL]], "expected a path within"),
        ([("x", 1, "train", ""), *[(name, 1, split, "") for name, split in FULL]], "'x.mp4' and 'x.wav' both fit"),
    ],
)
def test_tables_are_checked_before_anything_is_written(media, tmp_path, rows, message):
    clips = tmp_path / "clips"
    clips.mkdir()
    (clips / "x.wav").touch()
    (clips / "x.mp4").touch()
    columns = ("id", "label", "split", "clip")[: len(rows[0])]
    table = write_table(tmp_path / "table.csv", rows, columns)
    with pytest.raises((DataError, ExtractionError), match=message):
        extract_clips(clips, table, tmp_path / "out", Dying())
    assert not (tmp_path / "out").exists()


def test_what_is_named_must_be_there(media, tmp_path):
    for clips, table, message in (
        ("nowhere", "good.csv", "There is no folder"),
        ("clips", "nothing.csv", "is no file; expected the table"),
        ("clips", "clips/v/2.txt", "is neither .csv nor .parquet"),
    ):
        with pytest.raises(DataError, match=message):
            extract_clips(media / clips, media / table, tmp_path / "out", Dying())
    table = write_table(tmp_path / "folds.csv", [("v/2", 1, "p")], ("id", "label", "subject"))
    with pytest.raises(DataError, match="column 'split' is missing") as raised:
        extract_clips(media / "clips", table, tmp_path / "out", SelfMMFeatureExtractor())
    assert "--data_config" not in str(raised.value)  # which is no option of this command
    for recipe, message in (
        ({"audio": None, "vision": None}, "Neither audio nor vision"),
        ({"audio": {"kind": "features", "dim": 5}}, "computed by another program"),
    ):
        with pytest.raises(ExtractionError, match=message):
            extract_clips(media / "clips", media / "good.csv", tmp_path / "out", Dying(**recipe))
    assert not (tmp_path / "out").exists()


def test_parquet_and_named_clips(media, tmp_path, inline):
    table = {
        "id": ["1", "2", "3"], "label": [1, 2, -3], "split": ["train", "val", "test"],
        "clip": ["v/2.mkv", "late.mov", None], "label_text": [0.5, 1, 1], "label_audio": [1.0, 1, 1],
        "label_vision": [1.0, 1, 1], "video": ["007", "007", "b"], "position": [10, 2, 1],
        "subject": [1, 2, 3], "fold": ["x", "y", "z"],
    }  # fmt: skip
    pq.write_table(pa.table(table), tmp_path / "table.parquet")
    clips = tmp_path / "clips"
    shutil.copytree(media / "clips", clips)
    (clips / "3.WAV").symlink_to(media / "clips" / "sound only.wav")
    extract_clips(clips, tmp_path / "table.parquet", tmp_path / "out", Dying(vision=None))
    assert inline == ["1", "2", "3"]
    splits = load_splits("custom", str(tmp_path / "out"))
    assert splits["train"]["label_text"] == [0.5] and splits["test"]["text"] == [""]
    assert splits["test"].frames("audio", 0).shape == (44, 33)
    assert (splits["train"]["video"], splits["train"]["position"]) == (["007"], [10.0])
    rows = csv.DictReader((tmp_path / "out" / "table.csv").read_text("utf-8").splitlines())
    assert [(row["subject"], row["fold"]) for row in rows] == [("1", "x"), ("2", "y"), ("3", "z")]
    assert load_splits("custom", str(tmp_path / "out"), config="fold1of3")["test"]["id"] == ["1"]


def test_labels_of_any_kind_are_taken_along(media, tmp_path, inline):
    clips = {"train": "v/2", "dev": "late", "test": "sound only"}
    rows = [(clip, split, number, number + 2) for number, (split, clip) in enumerate(clips.items())]
    table = write_table(tmp_path / "labels.csv", rows, ("id", "split", "label:valence", "label:arousal"))
    with pytest.raises(DataError, match=r"write task\.yaml beside it"):
        extract_clips(media / "clips", table, tmp_path / "out", Dying(vision=None))
    assert not (tmp_path / "out").exists()
    (tmp_path / "task.yaml").write_text("scales: {valence: [-1, 2], arousal: [1, 5]}")
    extract_clips(media / "clips", table, tmp_path / "out", Dying(vision=None))
    splits = load_splits("custom", str(tmp_path / "out"))
    assert splits["test"].task.names == ("valence", "arousal") and splits["test"]["label"] == [[2, 4]]


def test_a_split_without_clips(media, tmp_path, inline):
    rows = [("v/2", "", 1, "train"), ("late", "", 1, "dev"), ("zero", "", 1, "test")]
    table, out = write_table(tmp_path / "table.csv", rows), tmp_path / "out"
    with pytest.raises(ExtractionError, match=r"split 'test' has no clip left; 1 clips failed, see failures.csv"):
        extract_clips(media / "clips", table, out, Dying(audio=None))
    assert not (out / "table.csv").exists() and "is empty" in (out / "failures.csv").read_text()
    rows = [("neither", "", 1, split) for split in ("train", "dev", "test")]
    rows = [(f"{number}", *row[1:], "neither.mp4") for number, row in enumerate(rows)]
    table = write_table(tmp_path / "table.csv", rows, ("id", "text", "label", "split", "clip"))
    with pytest.raises(ExtractionError, match="no clip has any vision"):
        extract_clips(media / "clips", table, out, Dying(audio=None))
    assert content(out).keys() == {"extraction.jsonl", "preprocessor_config.json"}


def test_words_are_filled_in(media, copy, recogniser, monkeypatch):  # noqa: F811
    transcriber = load_transcriber(str(recogniser), "cpu")
    tasks = []

    def work(those, job, workers_asked):
        tasks.extend((task.id, task.known is not None) for task in those)
        return ((task, one_clip.extract(task, job, transcriber)) for task in those)

    monkeypatch.setattr(extraction, "work", lambda *arguments: _Closing(work(*arguments)))
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*.npy")}
    for _ in range(2):
        result = extract_clips(media / "clips", media / "good.csv", copy, Dying(), str(recogniser))
    assert tasks == [("late", True)]  # the only one without words; its features are there already
    assert before == {path: path.stat().st_mtime_ns for path in copy.rglob("*.npy")}
    assert result.texts["late"] and result.texts["late"] == result.done["late"].transcript
    texts = load_splits("custom", str(copy))["train"]["text"]
    assert texts[-1] == result.texts["late"] and texts[0] == f'"{ODD}",\nsaid'
    again = extract_clips(media / "clips", media / "good.csv", copy, Dying())
    assert again.heard == 1 and again.texts == result.texts and len(tasks) == 1  # it stays


class _Closing:
    def __init__(self, rows):
        self.rows, self.close = rows, rows.close

    def __iter__(self):
        return self.rows


def test_what_no_clip_is_to_blame_for_ends_it(media, tmp_path, monkeypatch):
    arguments = (media / "clips", media / "good.csv", tmp_path / "out", Halting(audio=None), "no/such-model")
    with pytest.raises(ExtractionError, match="The transcriber no/such-model cannot be loaded: OSError: "):
        extract_clips(*arguments)
    assert content(tmp_path / "out").keys() == {"extraction.jsonl", "preprocessor_config.json"}

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", full)
        task = one_clip.Task("v/2", "v/2.mkv")
        job = one_clip.Job(media / "clips", tmp_path / "out", Halting(audio=None))
        with pytest.raises(CannotWrite, match=r"vision/v/2\.npy cannot be written: \[Errno 28\] No space left"):
            one_clip.extract(task, job)


def test_processes_that_die_before_any_clip_end_it(media, tmp_path):
    with pytest.raises(WorkError, match=r"The processes died before .* Set fewer --workers"):
        extract_clips(media / "clips", media / "good.csv", tmp_path / "out", Stillborn())
    assert content(tmp_path / "out").keys() == {"extraction.jsonl", "preprocessor_config.json"}


def test_a_clip_beyond_the_time_limit_fails_alone_and_is_tried_again(media, tmp_path, request):
    arguments = media / "clips", media / "good.csv", tmp_path / "out"
    result = extract_clips(*arguments, Hanging(), time_limit=5)
    assert len(result.done) == 6 and "late" not in result.done
    reason = "it was not finished within 5 s; --time_limit allows more"
    assert result.failures == [("late", "late.mov", reason)]
    assert reason in (tmp_path / "out" / "failures.csv").read_text()
    inline = request.getfixturevalue("inline")
    result = extract_clips(*arguments, SelfMMFeatureExtractor())
    assert inline == ["late"] and not result.failures and len(result.done) == 7


def test_commands(media, tmp_path, inline, capsys):
    def extract(*options):
        return command("extract", media / "clips", "--output_dir", tmp_path / "out", *options)

    assert extract("--table", media / "good.csv", "--audio", "none") == 0
    out = capsys.readouterr().out
    assert "7 clips, 0.00 hours" in out and "computed 7 in" in out
    assert "clips with a face in fewer than half of the frames: 1, see face_share in table.csv" in out
    assert "no face: 1, no picture: 1, no words: 1" in out and "damaged: 1, all in extraction.jsonl" in out
    rows = [("v/2", "", 1, "train"), ("late", "", 1, "dev"), ("cut", "", 1, "test"), ("zero", "", 1, "test")]
    table = write_table(tmp_path / "table.csv", rows)
    assert extract("--table", table, "--recipe", tmp_path / "out" / "preprocessor_config.json") == 1
    out = capsys.readouterr().out
    assert "nothing was left to compute" in out and "FAILED, left out: 1, all in failures.csv" in out
    assert extract("--table", table) == 2
    assert "another recipe: audio kind is None, expected 'librosa33'" in capsys.readouterr().err
    assert extract("--table", table, "--recipe", "x", "--audio", "none") == 2
    assert extract("--table", table, "--workers", "0") == 2
    assert extract("--table", table, "--max_seconds", "nan") == 2
    assert "must be a positive number of seconds" in capsys.readouterr().err
    assert extract("--table", table, "--device", "cuda:99") == 2
    assert "--device cuda:99 cannot be used: " in capsys.readouterr().err


# In a group of processes of its own; a shell starts what it runs in the background deaf to Ctrl-C.
COMMAND = """
import os, signal
os.setsid()
print(os.getpid(), flush=True)
signal.signal(signal.SIGINT, signal.default_int_handler)
import selfmm_cli as cli
import selfmm_hf
from test_extraction import Halting
selfmm_hf.SelfMMFeatureExtractor = Halting
if __name__ == "__main__":
    cli.main()
"""


def ended(pid):
    """Whether a process is no more, or waits only to be buried."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_whatever_ends_it_it_goes_on_where_it_was(media, tmp_path, inline):
    clips, out, whole = tmp_path / "clips", tmp_path / "out", tmp_path / "whole"
    clips.mkdir()
    rows = []
    for number in range(12):
        os.link(media / "clips" / "v" / "2.mkv", clips / f"{number}.mkv")
        rows.append((str(number), "words", number / 6, ["train", "dev", "test"][number % 3]))
    table = write_table(tmp_path / "table.csv", rows)
    arguments = [
        "extract",
        str(clips),
        "--table",
        str(table),
        "--output_dir",
        str(out),
        "--audio",
        "none",
        "--workers",
        "1",
    ]
    finished = {}
    for number, (lines, signum) in enumerate([(1, signal.SIGKILL), (4, signal.SIGINT)]):
        process = subprocess.Popen(
            [fresh.python(), "-c", COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"HALT": f"{out}:{lines}", "PYTHONPATH": str(Path(__file__).parent)},
        )  # fmt: skip
        group = int(process.stdout.readline())
        deadline = time.monotonic() + 120
        while len(journal(out)) < lines and process.poll() is None:
            if time.monotonic() > deadline:
                process.kill()
                pytest.fail(f"no {lines} clips after two minutes: {process.communicate()}")
            time.sleep(0.01)
        at_work = [int(path.stem) for path in (out / ".part").glob("*.log")]
        os.kill(group, signum) if signum == signal.SIGKILL else os.killpg(group, signum)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == (-signal.SIGKILL if signum == signal.SIGKILL else 1), errors
        if signum == signal.SIGINT:
            assert errors.rstrip().endswith("\nselfmm: interrupted") and "Traceback" not in errors
            assert not (out / ".part").exists()
        assert len(at_work) == 1
        deadline = time.monotonic() + 30
        while not all(map(ended, at_work)):
            assert time.monotonic() < deadline, f"{at_work} are still there"
            time.sleep(0.05)
        assert not (out / "table.csv").exists()
        now = {line["id"]: (out / "vision" / f"{line['id']}.npy").stat().st_mtime_ns for line in journal(out)}
        assert finished.items() <= now.items() and len(now) == lines
        finished = now
        if number == 0:  # what a sudden end may leave
            with (out / "extraction.jsonl").open("ab") as file:
                file.write(b'{"id": "11", "cl')
    extract_clips(clips, table, out, Halting(audio=None))
    assert set(inline) == {str(number) for number in range(12)} - finished.keys()
    inline.clear()
    extract_clips(clips, table, whole, Halting(audio=None))
    assert len(inline) == 12 and content(out) == content(whole)
