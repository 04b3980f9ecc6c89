"""The clips of a table on a Ray cluster: what one machine makes of them, nothing lost and nothing twice."""

import csv
import json
import shutil
import wave
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from conftest import command
from datasets import load_dataset
from test_pipeline import recogniser  # noqa: F401
from transformers import pipeline

from selfmm_hf import SelfMMConfig, SelfMMModel, SelfMMProcessor

for package in ("ray", "ai_edge_litert", "av", "librosa", "pebble"):
    pytest.importorskip(package)

from selfmm_hf.clips.extract import extract_clips  # noqa: E402
from selfmm_hf.cluster.features import Extraction  # noqa: E402
from selfmm_hf.cluster.fetching import local  # noqa: E402
from selfmm_hf.cluster.predictions import Prediction  # noqa: E402
from selfmm_hf.cluster.results import Results, absolute, hashes  # noqa: E402
from selfmm_hf.cluster.run import run_on_cluster  # noqa: E402
from selfmm_hf.cluster.table import read_table  # noqa: E402
from selfmm_hf.cluster.worker import Worker, _where  # noqa: E402
from selfmm_hf.data import DataError, load_splits  # noqa: E402
from selfmm_hf.hub.model_folder import save_loadable  # noqa: E402
from selfmm_hf.model.feature_extraction_selfmm import SelfMMFeatureExtractor  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

CLIPS = 9
SPLITS = ["train", "train", "dev", "test"]
ROWS = dict(zip(range(1, 7), "abcdef", strict=True))  # their numbers, and ids


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """A folder of sounds of a quarter of a second, one of them no sound, and their table."""
    root = tmp_path_factory.mktemp("media")
    (root / "clips" / "v").mkdir(parents=True)
    rows = []
    for number in range(CLIPS):
        name = f"v/{number}.wav"
        with wave.open(str(root / "clips" / name), "wb") as file:
            file.setparams((1, 2, 16000, 0, "NONE", None))
            tone = np.sign(np.sin(np.arange(4000) * (0.1 + number / 100))) * (np.arange(4000) < 2500)
            file.writeframes((9000 * tone).astype(np.int16).tobytes())
        rows.append([f"v/{number}", name, f'word "{number}",\nsaid', number / 3, SPLITS[number % 4]])
    (root / "clips" / "v" / "0.wav").write_bytes(b"no sound")
    rows += [["gone", "gone.wav", "", 0, "train"], ["out", "../table.csv", "", 0, "train"]]
    rows += [
        ["odd label", "v/1.wav", "", "much", "train"],
        ["odd split", "v/1.wav", "", 1, "trial"],
        ["", "", "", 1, "test"],
    ]
    with (root / "table.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["id", "clip", "text", "label", "split"], *rows])
    good = rows[1:CLIPS]
    with (root / "good.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["id", "clip", "text", "label", "split"], *good])
    return root


def rows_of(folder, name):
    return [row for file in sorted(folder.glob(f"{name}-*.parquet")) for row in pq.read_table(file).to_pylist()]


def work():
    return Extraction(SelfMMFeatureExtractor(vision=None))


@pytest.fixture
def worker(media, monkeypatch):
    """Makes what an actor is, in this process; it ends with the test."""
    made = []

    def make(out, work, known=()):
        results = Results(str(out))
        results.begin(work)
        made.append(Worker(str(media / "clips"), results, work, np.array(known, np.uint64)))
        return made[-1]

    yield make
    for one in made:
        one.processes.close()


def table_of(media, name="table.csv"):
    with (media / name).open(encoding="utf-8", newline="") as file:
        return pa.Table.from_pylist(list(csv.DictReader(file)))


def test_the_data_set_is_that_of_one_machine(media, tmp_path, worker, forked_workers):
    out = tmp_path / "out"
    counts = [{"done": CLIPS - 1, "failed": 6, "warned": 0, "before": 0}]
    assert worker(out, work())(table_of(media)).to_pylist() == counts
    reasons = {row["id"]: row["reason"] for row in rows_of(out, "failures")}
    assert set(reasons) == {"v/0", "gone", "out", "odd label", "odd split", ""}
    assert "there is no file" in reasons["gone"] and "expected a path within" in reasons["out"]
    assert "expected a finite number, got 'much'" in reasons["odd label"] and "'trial'" in reasons["odd split"]

    extract_clips(media / "clips", media / "good.csv", tmp_path / "one", SelfMMFeatureExtractor(vision=None))
    ours, theirs = load_splits("custom", str(out)), load_splits("custom", str(tmp_path / "one"))
    for split in ours:
        assert ours[split]["id"] == theirs[split]["id"] and ours[split]["text"] == theirs[split]["text"]
        np.testing.assert_array_equal(ours[split].labels, theirs[split].labels)
        assert all(map(len, ours[split]["audio"]))
        for one, other in zip(ours[split]["audio"], theirs[split]["audio"], strict=True):
            np.testing.assert_array_equal(one, other)
    files = {split: [str(file) for file in sorted(out.glob(f"{split}-*"))] for split in ours}
    assert load_dataset("parquet", data_files=files)["train"].num_rows == len(ours["train"])
    torn = out / f".{next(out.glob('train-*')).name}.part"  # of a killed process
    torn.mkdir()
    (torn / torn.name.strip(".").removesuffix(".part")).write_bytes(b"PAR1")
    assert load_splits("custom", str(out))["train"]["id"] == ours["train"]["id"]
    shutil.rmtree(torn)

    # A node dies after it has written, and another one does its work again: each clip is there once.
    before = {file: file.read_bytes() for file in out.iterdir()}
    assert worker(out, work())(table_of(media)).to_pylist() == counts
    assert before == {file: file.read_bytes() for file in out.iterdir()}

    # Started again, it does what is missing, and tries what has failed.
    (lost,) = out.glob("validation-*.parquet")
    missing = [row["id"] for row in rows_of(out, "validation")]
    lost.unlink()
    results = Results(str(out))
    rest = worker(out, work(), results.done(["train", "validation", "test"]))
    assert not list(out.glob("failures-*"))
    before = CLIPS - 1 - len(missing)
    assert rest(table_of(media)).to_pylist() == [{"done": len(missing), "failed": 6, "warned": 0, "before": before}]
    assert {row["id"] for row in rows_of(out, "validation")} == set(missing)
    assert len(list(out.glob("train-*"))) == len(list(out.glob("failures-*"))) == 1
    with pytest.raises(ValueError, match=r"has results of another preprocessor_config\.json; name another folder"):
        worker(out, Extraction(SelfMMFeatureExtractor(vision=None, max_seconds=9.0)))


def test_the_place_in_a_video_is_kept(media, tmp_path, worker, forked_workers):
    """`--context_utterances` goes by it, also where the ids tell another order."""
    rows = {"id": ["v/2", "v/1", "v/3"], "clip": ["v/1.wav"] * 3, "label": [1] * 3, "split": ["train"] * 3}
    rows |= {"video": ["a", "a", " "], "position": ["0.5", "7", "1"]}
    assert worker(tmp_path / "out", work())(pa.table(rows))["done"].to_pylist() == [2]
    (failure,) = rows_of(tmp_path / "out", "failures")
    assert failure["id"] == "v/3" and "column 'video': expected the video" in failure["reason"]
    found = [(row["id"], row["video"], row["position"]) for row in rows_of(tmp_path / "out", "train")]
    assert found == [("v/2", "a", 0.5), ("v/1", "a", 7.0)]
    row = {name: values[0] for name, values in rows.items()}
    for wrong, reason in (({"position": "nan"}, "expected a finite number"), ({"video": 3}, "expected the video")):
        with pytest.raises(DataError, match=reason):
            work().task(0, row | wrong)
    del row["position"]
    with pytest.raises(DataError, match="column 'position': missing; video and position belong together"):
        work().task(0, row)


def test_predictions_are_those_of_the_pipeline(media, tmp_path, worker, forked_workers, model_folder, capsys):
    table = pa.table({"clip": ["v/1.wav", "v/0.wav", "v/2.wav"], "text": ["good", "good", None]})
    work = Prediction(str(model_folder))
    assert worker(tmp_path / "out", work)(table).to_pylist() == [{"done": 2, "failed": 1, "warned": 0, "before": 0}]
    rows = rows_of(tmp_path / "out", "predictions")
    assert [row["id"] for row in rows] == ["v/1.wav", "v/2.wav"] and rows[0]["audio"] is not None is rows[0]["vision"]
    (media / "clips" / "v" / "1.txt").write_text("good")
    names = [str(media / "clips" / "v" / f"{number}.wav") for number in (1, 2)]
    command("predict", *names, "--model", model_folder, "--output", tmp_path / "one.csv")
    with (tmp_path / "one.csv").open(encoding="utf-8", newline="") as file:
        for row, line in zip(rows, csv.DictReader(file), strict=True):
            numbers = {name: float(line.pop(name) or "nan") for name in ("score", "text", "audio", "vision")}
            assert {name: row[name] or np.nan for name in numbers} == pytest.approx(numbers, abs=1e-6, nan_ok=True)
            assert (row["label"], row["transcript"] or "") == (line["label"], line["transcript"])
    changed = json.loads((tmp_path / "out" / "model.json").read_text()) | {"sha256": "0" * 64}
    (tmp_path / "out" / "model.json").write_text(json.dumps(changed))
    with pytest.raises(ValueError, match=r"has results of another model\.json"):
        worker(tmp_path / "out", work)


def test_predictions_whose_columns_would_have_the_same_name_end_it(tmp_path, monkeypatch):
    pipe = Mock()
    pipe.model.config = SelfMMConfig(modalities=["audio", "score"], score_dim=4)
    monkeypatch.setattr("selfmm_hf.cluster.predictions.load_pipeline", lambda *_, **__: pipe)
    with pytest.raises(ValueError, match="would have two columns 'score'"):
        Prediction("name/model").job(tmp_path).begin()


def test_predictions_know_what_was_said_before(media, tmp_path, worker, forked_workers, model_folder):
    processor = SelfMMProcessor.from_pretrained(model_folder)
    processor.context_utterances, processor.max_text_tokens = 2, 20
    model = SelfMMModel.from_pretrained(model_folder, text_pooling="mean")
    save_loadable(tmp_path / "model", model, processor)
    contexts = [["bad movie"], [], ["a", "bad", "movie"]]
    table = pa.table({"id": ["a", "b", "c"], "clip": ["v/1.wav"] * 3, "text": ["good"] * 3, "context": contexts})
    work = Prediction(str(tmp_path / "model"))
    assert worker(tmp_path / "out", work)(table)["done"].to_pylist() == [3]
    pipe = pipeline("multimodal-sentiment", model=str(tmp_path / "model"))
    clip = {"audio": str(media / "clips" / "v" / "1.wav"), "text": "good"}
    mine = [pipe({**clip, "context": context})["unimodal"]["text"] for context in contexts]
    assert [row["text"] for row in rows_of(tmp_path / "out", "predictions")] == pytest.approx(mine, abs=1e-6)
    assert abs(mine[0] - mine[1]) > 1e-4 and mine[0] == pytest.approx(mine[2], abs=1e-6)
    assert work.task(0, {"clip": "a", "context": "one text"}).context == ["one text"]
    assert work.task(0, {"clip": "a", "context": " "}).context is None
    with pytest.raises(DataError, match=r"column 'context': expected a text or a list of texts, got \[1\]"):
        work.task(0, {"clip": "a", "context": [1]})


def test_the_same_id_twice_is_told(media, tmp_path, worker, forked_workers):
    table, out = table_of(media), tmp_path / "out"
    for rows in (table.slice(1, 2), table.slice(2, 1)):
        worker(out, work())(rows)
    with pytest.raises(
        DataError, match=r"1 ids are there twice, with a row each, such as 'v/2' in validation-\w+\.parquet"
    ):
        Results(str(out)).check_ids(work().names())


def test_a_row_that_has_changed_is_told(media, tmp_path, worker, forked_workers, recogniser):  # noqa: F811
    rows = [(name, f"v/{number}.wav", "" if name == "f" else name, number, "train") for number, name in ROWS.items()]
    names, out = ["id", "clip", "text", "label", "split"], tmp_path / "out"

    def counts(work, rows):
        results = Results(str(out))
        results.begin(work)
        done = results.done(work.names())
        table = pa.table({name: [str(row[place]) for row in rows] for place, name in enumerate(names)})
        (found,) = worker(out, work, done)(table).to_pylist()
        return found, {row["id"]: row["reason"] for row in rows_of(out, "failures")}

    assert counts(work(), rows)[0] == {"done": 6, "failed": 0, "warned": 0, "before": 0}
    before = rows_of(out, "train")
    spelt = [(*row[:3], f"{row[3]}.0", row[4]) for row in rows]
    assert counts(work(), spelt) == ({"done": 0, "failed": 0, "warned": 0, "before": 6}, {})
    changed = [
        ("a", "v/2.wav", *rows[0][2:]),
        (*rows[1][:2], "other words", *rows[1][3:]),
        (*rows[2][:3], 0.5, "train"),
        (*rows[3][:4], "test"),
        rows[5],
        ("a", "gone.wav", "a", 1, "train"),
    ]
    found, reasons = counts(work(), changed)
    assert found == {"done": 0, "failed": 5, "warned": 0, "before": 6} and reasons.keys() == set("abcd")
    assert all("this id has a result, but of another clip, text, label, split" in one for one in reasons.values())
    hearing = Extraction(SelfMMFeatureExtractor(vision=None), transcriber=str(recogniser))
    found, reasons = counts(hearing, rows)
    assert found == {"done": 0, "failed": 1, "warned": 0, "before": 6} and reasons.keys() == {"f"}
    assert rows_of(out, "train") == before


def test_a_folder_with_a_table_of_its_own_is_refused(media, tmp_path):
    for name in ("table.csv", "table.parquet", "extraction.jsonl"):
        (tmp_path / name).touch()
        with pytest.raises(ValueError, match=rf"has {name}, beside which results are not read; name another folder"):
            Results(str(tmp_path)).begin(work())
        (tmp_path / name).unlink()
    assert not list(tmp_path.iterdir())


def test_a_clip_that_is_cut_off_is_told(media, tmp_path, worker, forked_workers):
    whole = (media / "clips" / "v" / "1.wav").read_bytes()
    (media / "clips" / "cut.wav").write_bytes(whole[:4000])
    table = pa.table({"id": ["a", "b"], "clip": ["cut.wav", "v/1.wav"], "label": [1, 1], "split": ["train"] * 2})
    assert worker(tmp_path, work())(table).to_pylist() == [{"done": 2, "failed": 0, "warned": 1, "before": 0}]
    (row,) = rows_of(tmp_path, "warnings")
    assert row["id"] == "a" and "'cut.wav' is damaged or cut off" in row["warning"]
    assert {one["id"] for one in rows_of(tmp_path, "train")} == {"a", "b"}


def test_a_cell_of_another_kind_fails_its_row_alone(media, tmp_path, worker, forked_workers):
    rows = {"id": ["a", "b", "c"], "clip": ["v/1.wav", "gone.wav", "gone.wav"], "label": [1.0, 1.0, 1.0]}
    table = pa.table({**rows, "split": ["train"] * 3, "text": [float("nan"), 5.0, None]})
    assert worker(tmp_path / "numbers", work())(table).to_pylist() == [
        {"done": 0, "failed": 3, "warned": 0, "before": 0}
    ]
    reasons = {row["id"]: row["reason"] for row in rows_of(tmp_path / "numbers", "failures")}
    assert reasons["a"] == "column 'text': expected text, got nan" and "there is no file" in reasons["c"]
    table = pa.table({**rows, "split": [["train"]] * 3})
    assert worker(tmp_path / "lists", work())(table).to_pylist() == [{"done": 0, "failed": 3, "warned": 0, "before": 0}]
    table = pa.table({**rows, "split": ["train"] * 3, "id": [["a"], ["b"], ["c"]]})
    assert worker(tmp_path / "ids", work())(table).to_pylist() == [{"done": 0, "failed": 3, "warned": 0, "before": 0}]


def test_a_folder_whose_name_is_a_pattern_is_resumed(tmp_path):
    results = Results(str(tmp_path / "run[1]*"))
    results.begin(work())
    results.write_table("train-1.parquet", pa.table({"id": ["a"]}), hashes(["a"]))
    results.write("failures-1.parquet", b"")
    results.begin(work())
    assert len(results.done(work().names())) == 1 and not list((tmp_path / "run[1]*").glob("failures-*"))


@pytest.mark.parametrize("content", [b"", b"PAR1 cut off", None])
def test_results_that_cannot_be_read_are_named(tmp_path, content):
    results = Results(str(tmp_path))
    results.begin(work())
    if content is None:
        pq.write_table(pa.table({"clip": ["a"]}), tmp_path / "test-1.parquet")
    else:
        (tmp_path / "test-1.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"test-1\.parquet cannot be read: .* Delete it; its clips are done again"):
        results.done(work().names())


def test_relative_paths_hold_in_the_folders_of_other_machines(media, tmp_path, worker, model_folder, monkeypatch):
    """The processes of a cluster that runs already work in the folder in which it was started."""
    (tmp_path / "driver").mkdir()
    monkeypatch.chdir(tmp_path / "driver")
    (tmp_path / "driver" / "model").symlink_to(model_folder)
    (tmp_path / "driver" / "clips").symlink_to(media / "clips")
    results, root = Results("out"), absolute("clips")
    predicting = Prediction("model", transcriber="model")
    monkeypatch.chdir(tmp_path)
    assert results.out == str(tmp_path / "driver" / "out")
    assert _where("clips", root, {"id": "a", "clip": "clips/v/1.wav"}) == f"{tmp_path}/driver/clips/v/1.wav"
    assert predicting.job(tmp_path).load.args[::2] == (str(tmp_path / "driver" / "model"),) * 2
    assert Prediction("name/model", transcriber="name/asr").job(tmp_path).load.args[::2] == ("name/model", "name/asr")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("table.txt", "is neither .csv nor .parquet"),
        ("none.csv", "cannot be read: FileNotFoundError"),
        ("twice.csv", "column 'text' is there twice"),
        ("latin.csv", "cannot be read: ArrowInvalid: .* invalid UTF8 data"),
        ("classes/table.csv", r"task\.yaml lies beside it, but on a cluster labels are scores"),
        ("short.csv", "lacks columns that a cluster needs: split. It has id, clip, label"),
    ],
)
def test_tables_are_looked_at_before_a_cluster_starts(tmp_path, table, message):
    (tmp_path / "twice.csv").write_text("id,clip,label,split,text,text\n1,2,3,test,a,b\n")
    (tmp_path / "short.csv").write_text("id,clip,label\n1,2,3\n")
    (tmp_path / "classes").mkdir()
    (tmp_path / "classes" / "table.csv").write_text("id,clip,label,split\n1,2,3,test\n")
    (tmp_path / "classes" / "task.yaml").write_text("problem_type: single_label_classification\n")
    (tmp_path / "latin.csv").write_bytes("id,clip,label,split,text\n1,2,3,test,é\n".encode("latin-1"))
    with pytest.raises(DataError, match=message):
        run_on_cluster(str(tmp_path), str(tmp_path / table), str(tmp_path / "out"), work())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_the_folder_of_a_table_is_no_column(tmp_path, ending):
    file = tmp_path / "text=good" / f"table.{ending}"
    file.parent.mkdir()
    table = pa.table({"clip": ["a.wav"]})
    pq.write_table(table, file) if ending == "parquet" else pa.csv.write_csv(table, file)
    assert read_table(str(file), Prediction("name/model")).keywords["partitioning"] is None


def test_what_no_clip_is_to_blame_for_ends_it(media, tmp_path, worker, forked_workers):
    with pytest.raises(ValueError, match=r"^There is no folder .*none, and it is not"):
        worker(tmp_path / "out", Prediction(str(tmp_path / "none")))(table_of(media))


@pytest.mark.parametrize("options", [["--ray_address", "auto"], ["--table", "x"], ["--gpus_per_worker", "1"]])
def test_options_of_a_cluster_need_it(options, capsys):
    assert command("predict", "clip.mp4", *options) == 2
    assert "--engine ray" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options", [["--text", "good"], ["--context", "x"], ["--window_seconds", "1"], ["--json"], ["--output", "a.csv"]]
)
def test_options_that_a_cluster_has_not_are_refused(options, tmp_path, capsys):
    places = ["--table", tmp_path / "table.csv", "--output_dir", tmp_path / "out"]
    assert command("predict", tmp_path, "--engine", "ray", *places, *options) == 2
    assert f"{options[0]} does nothing with --engine ray" in capsys.readouterr().err


def test_files_in_a_store_are_fetched_and_left(tmp_path):
    from fsspec.implementations.memory import MemoryFileSystem

    MemoryFileSystem().pipe_file("/clips/1.wav", b"sound")
    with local("memory://clips/1.wav", tmp_path) as path:
        assert Path(path).read_bytes() == b"sound" and Path(path).suffix == ".wav"
    assert not list(tmp_path.iterdir())
    results = Results("memory://results")
    results.begin(work())
    results.write("train-1.parquet", b"")
    assert local("memory://clips/1.wav", tmp_path) and results._of(MemoryFileSystem(), "/results", ["train"])
