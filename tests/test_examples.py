"""Every example and notebook runs, at its smallest size; they share one corpus, and one model."""

import functools
import importlib.metadata
import re
import runpy
import sys
import tomllib
import types
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from conftest import command
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from test_lora import encoder_folder
from transformers import pipeline

from selfmm_hf import SelfMMConfig
from selfmm_hf.data.synthetic import SITUATIONS
from selfmm_hf.data.synthetic import SIZES as SPLITS
from selfmm_hf.labels.conventions import CONVENTIONS

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
SIZES = {"train": 12, "validation": 4, "test": 4}
FAST = {"sizes": SIZES, "epochs": 2}


distributions = functools.cache(importlib.metadata.packages_distributions)


def example(name):
    return types.SimpleNamespace(**runpy.run_path(str(ROOT / "examples" / f"{name}.py"), run_name=name))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder in which the first example trains, and its metrics."""
    folder = tmp_path_factory.mktemp("example")
    return folder / "model", example("train_in_python").main(str(folder), **FAST)


def test_train_in_python(trained):
    folder, metrics = trained
    assert {"mae", "corr"} <= metrics.keys() and (folder / "model.safetensors").is_file()


def test_custom_convention(tmp_path):
    program = example("custom_convention")
    mine, paper = asdict(program.MINE), asdict(CONVENTIONS["paper"])
    assert {name for name in mine if mine[name] != paper[name]} == {"clamp", "agreement_weight"}  # as its comment says
    found = program.main(str(tmp_path), **FAST)
    assert found["mine"].keys() == found["default"].keys() == {"text", "audio", "vision"}
    assert found["mine"] != found["default"]


@pytest.mark.parametrize("report_to", ["none", "tensorboard"])
def test_plot_labels(report_to, tmp_path):
    if report_to == "tensorboard":
        pytest.importorskip("tensorboard")
    log = example("plot_labels").main(str(tmp_path), **FAST, report_to=report_to)
    assert len(list(tmp_path.glob("labels-*.png"))) == 2
    assert sum({"moved/audio", "quality/audio"} <= entry.keys() for entry in log) == 2


def test_own_encoder(tmp_path):
    model = example("own_encoder").main(str(tmp_path), **FAST)
    assert type(model.encoders["vision"]).__name__ == "AttentionEncoder"


def test_several_targets(tmp_path):
    assert example("several_targets").main(str(tmp_path), **FAST).shape == (SIZES["validation"], 2)


def test_context_modality(tmp_path):
    data, out, encoder = tmp_path / "data", tmp_path / "out", encoder_folder(tmp_path / "encoder", "bert")
    data.mkdir()
    rows = [
        f"{split}{n},good\u2028film,{n / 2 - 1},{split},v,{9 - n}"
        for split in ("train", "dev", "test")
        for n in range(5)
    ]
    (data / "table.csv").write_text("\n".join(["id,text,label,split,video,position", *rows]), "utf-8-sig")
    (data / "audio").mkdir()
    for row in rows:
        np.save(data / "audio" / f"{row.split(',')[0]}.npy", np.ones((2, 3), np.float32) * len(row))
    assert example("context_modality").main(str(data), str(out), str(encoder), utterances=2) == 12
    files = {file.stem: np.load(file) for file in (out / "context").iterdir()}
    assert {name: len(files[name]) for name in ("train3", "train2", "train0")} == {
        "train3": 1,
        "train2": 2,
        "train0": 2,
    }
    assert "train4" not in files  # the first of its video and split: the rows stand in the opposite order
    options = ["--dataset", "custom", "--data", out, "--text_encoder", encoder, "--num_train_epochs", 1]
    assert command("train", *options, "--use_cpu", "true", "--output_dir", tmp_path / "run", "--label_range", 1) == 0
    config = SelfMMConfig.from_pretrained(tmp_path / "run" / "model")
    assert config.modalities == ["text", "audio", "context"] and config.context_dim == files["train0"].shape[1]


def test_score_folder(trained, tmp_path):
    clips = tmp_path / "clips"
    clips.mkdir()
    for file in (ROOT / "spaces_demo" / "examples").glob("sarcasm.*"):
        (clips / file.name).write_bytes(file.read_bytes())
    (clips / "broken.mp4").write_bytes(b"no clip")
    broken, good = example("score_folder").main(str(trained[0]), str(clips), str(tmp_path / "scores.csv"))
    assert broken["problem"] and good["clip"] == "sarcasm.mp4" and isinstance(good["vision"], float)


def test_evaluate_model(trained):
    pytest.importorskip("evaluate")
    assert example("evaluate_model").main(str(trained[0]), clips=4).keys() == {"together", "text", "audio", "vision"}


def test_onnx_service(trained, tmp_path):
    pytest.importorskip("onnxruntime")
    import onnx
    from fastapi.testclient import TestClient

    file = tmp_path / "model.onnx"
    assert command("export", trained[0], "--output", file) == 0
    client = TestClient(example("onnx_service").create_app(str(trained[0]), str(file)))
    clip = {"text": "the food is great", "audio": [[0.5] * 33] * 7}
    answer = client.post("/score", json=clip)
    frames = np.array(clip["audio"], np.float32)
    expected = pipeline("multimodal-sentiment", model=str(trained[0]))(clip | {"audio": frames})
    assert answer.json()["score"] == pytest.approx(expected["score"], abs=1e-4)
    assert answer.json()["vision"] is None and answer.json()["audio"] is not None
    for bad in ({}, {"audio": [[1.0, 2.0]]}, {"text": "great " * 200}):
        answer = client.post("/score", json=bad)
        assert answer.status_code == 400 and answer.json()["detail"], bad
    graph = onnx.load(file)
    onnx.helper.set_model_props(graph, {"problem_type": "regression", "names": '["joy", "anger"]'})
    onnx.save(graph, file)
    with pytest.raises(ValueError, match="is not of one score from words, voice and face"):
        example("onnx_service").create_app(str(trained[0]), str(file))


def header(file):
    """The inline metadata of a script (PEP 723)."""
    (block,) = re.findall(r"(?m)^# /// script\n((?:#.*\n)+?)# ///$", file.read_text("utf-8"))
    return tomllib.loads("\n".join(line[2:] for line in block.splitlines()))


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_a_script_runner_finds_what_it_imports(file):
    found = header(file)
    assert found["requires-python"] == ">=3.11"
    assert (file.parent / found["tool"]["uv"]["sources"]["selfmm-hf"]["path"]).resolve() == ROOT
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = [Requirement(one) for one in found["dependencies"]]
    extras = {extra for one in wanted for extra in one.extras}
    assert extras <= project["optional-dependencies"].keys()
    given = [*project["dependencies"], *(one for extra in extras for one in project["optional-dependencies"][extra])]
    there = {canonicalize_name(one.name) for one in [*wanted, *map(Requirement, given)]}
    imported = set(re.findall(r"(?m)^(?:import|from) (\w+)", file.read_text("utf-8"))) - sys.stdlib_module_names
    needed = {canonicalize_name(distributions().get(name, [name])[0]) for name in imported - {"selfmm_hf"}}
    assert not needed - there - {"pydantic"}  # which comes with FastAPI


def test_examples_take_their_arguments_by_argparse():
    assert not [file.name for file in EXAMPLES if "sys.argv" in file.read_text("utf-8")]


@pytest.mark.parametrize("name", [file.stem for file in EXAMPLES])
def test_examples_have_help(name, monkeypatch, capsys):
    pytest.importorskip({"evaluate_model": "evaluate", "onnx_service": "onnxruntime"}.get(name, "torch"))
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "examples" / f"{name}.py"), run_name="__main__")
    assert ended.value.code == 0 and "usage:" in capsys.readouterr().out


def test_the_list_of_examples_is_whole():
    text = (ROOT / "examples" / "README.md").read_text("utf-8")
    files = {*EXAMPLES, *(ROOT / "examples" / "notebooks").glob("*.py")}
    assert {file.name for file in files} <= set(re.findall(r"\w+\.py", text))


class Shown:
    """What notebooks show, in place of IPython's."""

    def __init__(self, *_, **__):
        pass


@pytest.fixture
def notebook(monkeypatch, tmp_path):
    """Runs a notebook as plain Python, at a small size, and returns its names."""
    module = types.ModuleType("IPython.display")
    module.SVG = module.Video = module.Markdown = Shown
    shown = []
    module.display = lambda *ones: shown.extend(ones)
    ipython = types.ModuleType("IPython")
    ipython.version_info = (8, 24)  # matplotlib asks for it
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    monkeypatch.chdir(tmp_path)

    def run(name, **settings):
        source = (ROOT / "examples" / "notebooks" / f"{name}.py").read_text("utf-8")
        for setting, value in settings.items():
            source, changed = re.subn(rf"(?m)^{setting} = .*$", f"{setting} = {value!r}", source)
            assert changed == 1, setting
        names = {}
        exec(compile(source, name, "exec"), names)
        return names | {"shown": shown}

    return run


def test_notebook_words_voice_face(notebook, trained):
    names = notebook("words_voice_face", MODEL=str(trained[0]), ROWS=[21])
    assert [type(one) for one in names["shown"]] == [Shown, Shown] and len(names["results"]) == 1


def test_the_rows_of_the_notebook_are_those_that_it_names():
    source = (ROOT / "examples" / "notebooks" / "words_voice_face.py").read_text("utf-8")
    rows = map(int, re.search(r"(?m)^ROWS = \[(.*?)\]", source)[1].split(","))
    chance = [np.random.default_rng([0, list(SPLITS).index("test"), row]) for row in rows]
    drawn = [str(one.choice(list(SITUATIONS), p=list(SITUATIONS.values()))) for one in chance]
    assert drawn == ["agreement", "sarcasm", "poker face", "masking smile"]


def test_notebook_generated_labels(notebook):
    names = notebook("generated_labels", SIZES={"train": 12, "validation": 4}, EPOCHS=2)
    assert {name: values.shape for name, values in names["last"].items()} == {"default": (12, 3), "official": (12, 3)}
