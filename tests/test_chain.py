"""From clips to a trained model to a prediction of a new clip, without a line of glue; and one recipe all the way."""

import csv
import json
import os
import subprocess
from pathlib import Path

import fresh
import numpy as np
import pytest
from conftest import command

import selfmm_cli as cli
from selfmm_hf import SelfMMFeatureExtractor, SelfMMProcessor
from selfmm_hf.data import load_splits
from selfmm_hf.data.recipe import find_recipe

for package in ("ai_edge_litert", "av", "librosa", "PIL", "soxr"):
    pytest.importorskip(package)

from test_decoding import voice  # noqa: E402
from test_face_landmarks import draw_face  # noqa: E402

from selfmm_hf.data.synthetic.clip import write_clip  # noqa: E402
from selfmm_hf.data.synthetic.words import demo_text_config, demo_tokenizer  # noqa: E402

RATE = 22050
STRANGER = """
import json, sys
sys.modules["selfmm_hf"] = None
from transformers import pipeline
pipe = pipeline("multimodal-sentiment", model=sys.argv[1], trust_remote_code=True)
results = [pipe(path, text="the movie was good") for path in sys.argv[2:]]
results.append([frames.tolist() for frames in pipe.processor.feature_extractor.extract(sys.argv[2])[0].values()])
print("RESULTS" + json.dumps(results))
"""

SPACE = """
import json, sys
sys.modules["selfmm_hf"] = None
sys.path.insert(0, sys.argv[1])
import app
pipe = app.load(app.MODEL)
seen, pad = [], pipe.processor.pad
pipe.processor.pad = lambda clips: seen.extend(clips) or pad(clips)
app.judge(pipe, sys.argv[2], "the movie was good")
print("RESULTS" + json.dumps({name: seen[0][name].tolist() for name in ("audio", "vision")}))
"""


def make_clip(path, smile, seconds=0.8):
    pictures = [draw_face(smile=smile, opening=number % 3 / 3, size=128) for number in range(round(seconds * 10))]
    loud = voice(seconds, RATE) * (1 + 0.5 * smile)
    write_clip(path, loud, pictures)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A folder of clips with a table: the smile is the label."""
    folder = tmp_path_factory.mktemp("clips")
    splits = ["train"] * 4 + ["validation"] * 2 + ["test"] * 2
    with open(folder / "labels.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "text", "label", "split"])
        for number, split in enumerate(splits):
            smile = [-1.0, -0.4, 0.4, 1.0][number % 4]
            name = f"video_{number % 2}/{number:02d}"
            (folder / name).parent.mkdir(exist_ok=True)
            make_clip(folder / f"{name}.mp4", smile)
            words = "the movie was good" if smile > 0 else "the movie was bad"
            table.writerow([name, words, 3 * smile, split])
    return folder


@pytest.fixture(scope="module")
def text_encoder(tmp_path_factory):
    from transformers import BertModel

    folder = tmp_path_factory.mktemp("encoder")
    BertModel(demo_text_config()).save_pretrained(folder)
    demo_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def extracted(clips, forked_workers, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "features"
    assert command("extract", clips, "--table", clips / "labels.csv", "--output_dir", out, "--workers", 1) == 0
    return out


@pytest.fixture(scope="module")
def trained(extracted, text_encoder, tmp_path_factory):
    """A model trained on the prepared folder of the extracted features."""
    prepared, run = tmp_path_factory.mktemp("prepared") / "data", tmp_path_factory.mktemp("run") / "run"
    cli.main(["data", "prepare", "custom", "--data", str(extracted), "--output_dir", str(prepared)])
    options = {
        "dataset": "custom", "data": prepared, "text_encoder": text_encoder, "output_dir": run, "num_train_epochs": 2,
        "per_device_train_batch_size": 2, "disable_tqdm": "true", "use_cpu": "true",
    }  # fmt: skip
    cli.main(["train", *(part for name, value in options.items() for part in (f"--{name}", str(value)))])
    return run


def test_the_recipe_travels_from_the_clips_to_the_model(extracted, trained):
    extractor = SelfMMFeatureExtractor.from_pretrained(extracted)
    assert extractor.recipe == SelfMMFeatureExtractor().recipe and extractor.normalization == {}
    assert find_recipe("custom", str(extracted)).recipe == extractor.recipe
    processor = SelfMMProcessor.from_pretrained(trained / "model")
    assert processor.feature_extractor.recipe == extractor.recipe
    assert processor.tokenizer.vocab == demo_tokenizer().vocab
    train = load_splits("custom", str(extracted))["train"]
    frames = np.concatenate([train.frames("audio", row) for row in range(len(train))])
    mean = processor.feature_extractor.normalization["audio"]["mean"]
    np.testing.assert_allclose(mean, frames.mean(0), atol=1e-4 * np.abs(frames).max())


def test_a_new_clip_is_judged_in_a_fresh_process(clips, extracted, trained, tmp_path):
    """By `pipeline`, without the package; its features are those that `selfmm extract` has computed."""
    make_clip(tmp_path / "new.mp4", smile=0.7)
    known = next(clips.glob("video_0/*.mp4"))
    command = [fresh.python(), "-c", STRANGER, trained / "model", known, tmp_path / "new.mp4"]
    environment = os.environ | {"HF_MODULES_CACHE": str(tmp_path / "modules")}
    process = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment, cwd=tmp_path)
    assert process.returncode == 0, process.stderr[-2000:]
    *results, features = json.loads(process.stdout.split("RESULTS")[1])
    for result in results:
        assert result["present"] == {"text": True, "audio": True, "vision": True} and result["absent"] == {}
        assert abs(result["score"]) < 10
    for name, found in zip(("audio", "vision"), features, strict=True):
        stored = np.load(extracted / name / "video_0" / f"{known.stem}.npy")
        np.testing.assert_allclose(found, stored, atol=1e-5)


def test_the_space_computes_the_same_features(clips, extracted, trained, tmp_path):
    pytest.importorskip("gradio")
    known = next(clips.glob("video_0/*.mp4"))
    command = [fresh.python(), "-c", SPACE, Path(__file__).parents[1] / "spaces_demo", known]
    environment = os.environ | {"SELFMM_MODEL": str(trained / "model"), "HF_MODULES_CACHE": str(tmp_path / "modules")}
    process = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment, cwd=tmp_path)
    assert process.returncode == 0, process.stderr[-2000:]
    for name, found in json.loads(process.stdout.split("RESULTS")[1]).items():
        stored = np.load(extracted / name / "video_0" / f"{known.stem}.npy")
        np.testing.assert_allclose(found, stored, atol=1e-5)


def test_a_prediction_is_that_of_training(clips, extracted, trained, capsys):
    """What `train` has said of a test clip from its features, `predict` says of the clip itself."""
    import pyarrow.parquet as pq

    rows = {row["id"]: row for row in pq.read_table(trained / "predictions.parquet").to_pylist()}
    tested = [name for name, row in rows.items() if row["split"] != "train" and row["label"] > 0]
    name, text = tested[0], "the movie was good"
    cli.main(["predict", str(clips / f"{name}.mp4"), "--text", text, "--model", str(trained / "model"), "--json"])
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["score"] == pytest.approx(rows[name]["fusion"], abs=1e-4)
    assert result["unimodal"]["vision"] == pytest.approx(rows[name]["vision"], abs=1e-4)


def test_features_of_another_recipe_are_refused(clips, extracted, text_encoder, tmp_path, capsys):
    arguments = ["extract", clips, "--table", clips / "labels.csv", "--output_dir", extracted, "--audio", "none"]
    with pytest.raises(SystemExit) as exit_info:
        cli.main([*map(str, arguments)])
    assert exit_info.value.code == 2 and "from another recipe" in capsys.readouterr().err
    wrong = tmp_path / "wrong"
    lines = ["id,text,label,split"]
    for name in ("audio", "vision"):
        (wrong / name).mkdir(parents=True)
    for number, split in enumerate(("train", "validation", "test")):
        lines.append(f"{split},so,{2 - 2 * number},{split}")
        np.save(wrong / "audio" / f"{split}.npy", np.zeros((3, 5), np.float32))
        np.save(wrong / "vision" / f"{split}.npy", np.zeros((3, 41), np.float32))
    (wrong / "table.csv").write_text("\n".join(lines))
    (wrong / "preprocessor_config.json").write_text((extracted / "preprocessor_config.json").read_text())
    options = {"dataset": "custom", "data": wrong, "text_encoder": text_encoder, "output_dir": tmp_path / "run"}
    with pytest.raises(SystemExit):
        cli.main(["train", *(part for name, value in options.items() for part in (f"--{name}", str(value)))])
    assert "are 5 wide, but its recipe makes 33 columns: they come from another recipe" in capsys.readouterr().err
