"""Pushing to, and loading from, the Hub of `hub_server.py`."""

import ast
import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import command, mmsa_file
from hub_server import HubServer
from huggingface_hub import HfApi, ModelCard, constants
from huggingface_hub.repocard_data import model_index_to_eval_results
from huggingface_hub.utils import close_session
from transformers import BertConfig, BertModel

import selfmm_cli as cli
from selfmm_hf import SelfMMConfig, SelfMMFeatureExtractor, SelfMMModel, SelfMMProcessor
from selfmm_hf.data import find_builder
from selfmm_hf.data import synthetic as demo
from selfmm_hf.data.prepare import prepare
from selfmm_hf.hub import handler, publication
from selfmm_hf.hub.model_card import model_card, pipeline_tag
from selfmm_hf.hub.model_folder import save_model_folder
from selfmm_hf.hub.publication import PublicationError
from selfmm_hf.hub.push import PushError, plan, push
from selfmm_hf.metrics import METRIC_NAMES, METRICS
from selfmm_hf.model.pipeline_selfmm import MultimodalSentimentPipeline
from selfmm_hf.model.task_selfmm import Task

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub's own

ROOT = Path(__file__).resolve().parents[1]
CODE = {path.name for path in (ROOT / "src" / "selfmm_hf" / "model").glob("*_selfmm.py")}
WORDS = "the food is great"
FRAMES = np.linspace(-1, 1, 4 * 7, dtype=np.float32).reshape(4, 7)


@pytest.fixture
def hub(monkeypatch):
    """A Hub that this process is logged in to."""
    with HubServer() as server:
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, server.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", server.token)
        monkeypatch.setattr("transformers.utils.hub._hf_api", None, raising=False)  # made once, for one endpoint
        monkeypatch.setattr("time.sleep", lambda _: None)  # between the attempts of huggingface_hub
        close_session()
        yield server
        close_session()


@pytest.fixture(scope="module", autouse=True)
def parsed_once():
    """Each push reads 20 files of code, the same ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publication, "ast", SimpleNamespace(parse=cache(ast.parse)))
        yield


@pytest.fixture
def elsewhere(hub, tmp_path):
    """Runs Python, or a command, in a fresh process with a home of its own; returns what it prints."""

    def run(*arguments, code=0):
        home = tmp_path / "home"
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PYTHONPATH"))}
        environment |= {"HF_ENDPOINT": hub.url, "HF_TOKEN": hub.token, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(home)}
        environment |= {"OMP_NUM_THREADS": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "PYTHONWARNINGS": "ignore"}
        command = [sys.executable, *map(str, arguments)]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == code, done.stderr[-3000:]
        return done.stdout if code == 0 else done.stderr

    return run


def facts(**changed):
    metrics = {f"{split}_{name}": 0.5 for split in ("validation", "test") for name in METRICS[3.0]([1, -1], [1, -2])}
    return {
        "dataset": "mosi", "text_encoder": None, "convention": "default", "seed": 1111, "epochs": 3, "best_epoch": 2,
        "data": None, "data_config": None, "data_revision": None, "presets": [("mosi.yaml", "seed: 1\n")],
        "overrides": ["--seed", "1111"], "sizes": {"train": 9, "validation": 5, "test": 5}, "hardware": "a CPU",
        **metrics, **changed,
    }  # fmt: skip


def save_model(folder, seed=0, **changed):
    tokenizer = demo.demo_tokenizer()
    torch.manual_seed(seed)
    text = BertConfig(vocab_size=len(tokenizer), hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
                      intermediate_size=9, max_position_embeddings=20)  # fmt: skip
    model = SelfMMModel(SelfMMConfig(text_config=text, modalities=["text", "audio"], audio_dim=7)).eval()
    extractor = SelfMMFeatureExtractor(audio={"kind": "features", "dim": 7}, vision=None)
    save_model_folder(folder, model, SelfMMProcessor(extractor, tokenizer), facts(**changed))
    return folder


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def score(folder, **clip):
    model, processor = SelfMMModel.from_pretrained(folder), SelfMMProcessor.from_pretrained(folder)
    with torch.no_grad():
        return model(**processor(clip, WORDS)).logits.item()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return [save_model(tmp_path_factory.mktemp("run") / "model", seed) for seed in (0, 1, 2)]


@pytest.fixture
def model(saved, tmp_path):
    return shutil.copytree(saved[0], tmp_path / "run" / "model")


@pytest.fixture
def dataset(tmp_path):
    prepare(find_builder("mosi", str(mmsa_file(tmp_path / "file.pkl"))), tmp_path / "mosi")
    return tmp_path / "mosi"


STRANGER = """
import json, sys
for name in ("selfmm_hf", "accelerate", "datasets", "gradio", "matplotlib", "pandas", "pyarrow"):
    sys.modules[name] = None  # cannot be imported here: a stranger has transformers, torch and what the card names
import numpy as np, torch
from transformers import AutoModel, AutoProcessor, pipeline
words, frames = "the food is great", np.linspace(-1, 1, 28, dtype=np.float32).reshape(4, 7)
scores = []
for revision in sys.argv[1:]:
    model = AutoModel.from_pretrained("me/demo", revision=revision, trust_remote_code=True)
    processor = AutoProcessor.from_pretrained("me/demo", revision=revision, trust_remote_code=True)
    pipe = pipeline("multimodal-sentiment", model="me/demo", revision=revision, trust_remote_code=True)
    for one in (model, processor, pipe):
        assert type(one).__module__.startswith("transformers_modules.me.demo."), type(one)
        assert revision == "main" or revision in type(one).__module__, type(one)
    with torch.no_grad():
        scores.append(model(**processor({"audio": frames}, words)).logits.item())
    assert abs(pipe({"text": words, "audio": frames})["score"] - scores[-1]) < 1e-5
pipe = pipeline("multimodal-sentiment", model="me/clips", trust_remote_code=True)
print(json.dumps([scores, pipe("spaces_demo/examples/sarcasm.mp4", text=words)]))
"""


def test_models_load_elsewhere_as_they_were_when_they_were_pinned(
    hub, elsewhere, saved, model, model_folder, tmp_path, monkeypatch, capsys
):
    before = contents(model)
    first = push(model.parent, "me/demo")  # of a run folder its model
    assert first.private and hub.repositories["model", "me/demo"].private
    assert contents(model) == before and hub.files("model", "me/demo").keys() == before.keys() | {".gitattributes"}
    assert {name for name in hub.files("model", "me/demo") if name.endswith(".py")} == CODE | {"handler.py"}
    again = saved[1]
    second = push(again, "me/demo")
    assert first.commit != second.commit and first.commit in first.code

    of_clips, processor = SelfMMModel.from_pretrained(model_folder), SelfMMProcessor.from_pretrained(model_folder)
    save_model_folder(tmp_path / "clips" / "model", of_clips, processor, facts(dataset="demo"))
    push(tmp_path / "clips", "me/clips", public=True)
    assert 'model="me/clips"' in hub.files("model", "me/clips")["README.md"].decode()

    scores, found = json.loads(elsewhere("-c", STRANGER, first.commit, "main"))
    pipe = MultimodalSentimentPipeline(of_clips, processor=processor)
    expected = pipe(str(ROOT / "spaces_demo" / "examples" / "sarcasm.mp4"), text=WORDS)
    assert found["score"] == pytest.approx(expected["score"], abs=1e-4) and all(found["present"].values())
    assert scores == pytest.approx([score(model, audio=FRAMES), score(again, audio=FRAMES)], abs=1e-5)
    assert scores[0] != scores[1]

    hub.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(model.parent / "cache"))
    assert command("predict", "--model", "me/demo", "--revision", first.commit, "--text", WORDS, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["score"] == pytest.approx(score(model), abs=1e-5)
    assert hub.requests
    assert not [line for line in hub.requests if line.endswith(".py")], "the package takes no code of the repository"


LOAD_DATASET = """
import json, sys
sys.modules["selfmm_hf"] = None
from datasets import load_dataset
dataset = load_dataset("me/mosi", "unaligned", revision=sys.argv[1])
print(json.dumps({split: [rows[:][name] for name in ("id", "audio", "label")] for split, rows in dataset.items()}))
"""


def test_a_data_set_loads_elsewhere(hub, elsewhere, dataset):
    from datasets import load_dataset

    pushed = push(dataset, "me/mosi")
    found = json.loads(elsewhere("-c", LOAD_DATASET, pushed.commit))
    for split, rows in load_dataset(str(dataset), "unaligned").items():
        assert found[split] == [rows[:]["id"], rows[:]["audio"], rows[:]["label"]]
    assert hub.files("dataset", "me/mosi").keys() == contents(dataset).keys() | {".gitattributes"}
    assert "load_dataset" in pushed.code and pushed.private


def test_a_data_set_made_anew_replaces_its_files(hub, dataset, tmp_path):
    push(dataset, "me/mosi")
    first = hub.files("dataset", "me/mosi")
    hub.repositories["dataset", "me/mosi"].commit("main", {**first, "notes.md": b"mine"})
    file = mmsa_file(tmp_path / "other.pkl", audio=lambda rows: np.ones((rows, 4, 7), np.float32))
    shutil.rmtree(dataset)
    prepare(find_builder("mosi", str(file)), dataset)
    push(dataset, "me/mosi")
    names = hub.files("dataset", "me/mosi").keys()
    assert names == contents(dataset).keys() | {".gitattributes", "notes.md"}
    with pytest.raises(PushError, match="also has the configuration other"):
        files = {**hub.files("dataset", "me/mosi"), "other/origin.json": b'{"dataset": "mosi"}'}
        hub.repositories["dataset", "me/mosi"].commit("main", files)
        push(dataset, "me/mosi")


def test_research_data_stay_private(hub, dataset):
    with pytest.raises(PushError, match="CMU-MOSI is for research use"):
        push(dataset, "me/mosi", public=True)
    assert not hub.repositories
    HfApi(endpoint=hub.url).create_repo("me/mosi", repo_type="dataset", private=False)
    with pytest.raises(PushError, match=r"CMU-MOSI is for research use.*me/mosi is public"):
        push(dataset, "me/mosi")
    hub.repositories["dataset", "me/mosi"].private = True
    assert push(dataset, "me/mosi").private
    hub.repositories["dataset", "me/mosi"].private = False  # by its owner, who may know better
    assert not push(dataset, "me/mosi").private


def test_a_space_shows_the_model_that_is_named(hub, model):
    space = ROOT / "spaces_demo"
    before = contents(space)
    with pytest.raises(PublicationError, match="--model"):
        push(space, "me/space")
    with pytest.raises(PushError, match="no model me/demo on the Hub"):
        push(space, "me/space", model="me/demo")
    push(model, "me/demo")
    with pytest.raises(PushError, match="me/demo is private"):
        push(space, "me/space", model="me/demo", public=True)
    assert ("space", "me/space") not in hub.repositories
    assert "secret HF_TOKEN" in push(space, "me/hidden", model="me/demo").note
    push(model, "me/demo", public=True)
    pushed = push(space, "me/space", model="me/demo", public=True)
    files = hub.files("space", "me/space")
    assert files.keys() == {name for name in before if "__pycache__" not in name} | {".gitattributes"}
    assert b'"me/demo"' in files["app.py"] and b"- me/demo\n" in files["README.md"]
    assert not any(b"NAME/selfmm-demo" in content for content in files.values())
    assert contents(space) == before and not pushed.private and pushed.url == f"{hub.url}/spaces/me/space"
    with pytest.raises(PushError, match="holds the Space 'Self-MM', not the Space 'Another'"):
        other = shutil.copytree(space, model.parent / "space")
        (other / "README.md").write_text((other / "README.md").read_text().replace("Self-MM", "Another", 1))
        (other / "app.py").write_text((other / "app.py").read_text("utf-8"), "utf-8-sig")  # as Windows writes it
        push(other, "me/space", model="me/demo")


def test_a_metric_has_the_name_of_its_module(hub):
    folder = ROOT / "hub_configs" / "metrics" / "multimodal_sentiment"
    with pytest.raises(PushError, match=r"has no metric\.py"):
        push(folder, "me/metric")
    assert 'evaluate.load("me/multimodal_sentiment", "mosi", revision=' in push(folder, "me/multimodal_sentiment").code
    files = hub.files("space", "me/multimodal_sentiment")
    assert files["multimodal_sentiment.py"] == (folder / "multimodal_sentiment.py").read_bytes()
    assert b"NAME/" not in files["README.md"] and b'"me/multimodal_sentiment"' in files["README.md"]


def test_public_only_once_everything_is_there(hub, model):
    seen = []
    hub.before("POST", "/commit/", lambda: seen.append(hub.repositories["model", "me/demo"].private))
    assert not push(model, "me/demo", public=True).private
    assert seen == [True] and not hub.repositories["model", "me/demo"].private
    assert not push(model, "me/demo").private, "what is public stays so"


@pytest.mark.parametrize(
    ("method", "pattern", "status", "there", "message"),
    [
        ("PUT", "/storage/", None, False, "me/demo: "),  # the connection breaks within the upload
        ("PUT", "/storage/", None, True, "me/demo: "),
        ("PUT", "/storage/", 503, True, r"the Hub failed \(503\)"),
        ("POST", "/commit/", 500, False, r"the Hub failed \(500\)"),
        ("POST", "/commit/", None, True, "me/demo: "),
        ("POST", "/preupload/", 403, False, "write access to me/demo"),
        ("GET", "/whoami", 401, True, "hf auth login"),
        ("GET", "/api/models/", 502, True, r"the Hub failed \(502\)"),
        ("POST", "/validate-yaml", 429, False, "limits the rate"),
        ("PUT", "/settings", 500, False, "still private"),
    ],
)
def test_a_push_that_breaks_off_leaves_all_as_it_was(hub, saved, method, pattern, status, there, message):
    if there:
        push(saved[0], "me/demo", public=True)
        old = hub.files("model", "me/demo")
    folder = saved[1]
    before = contents(folder)
    hub.fail(method, pattern, status, times=None)
    with pytest.raises(PushError, match=message) as caught:
        push(folder, "me/demo", public=True)
    assert "\n" not in str(caught.value) and hub.token not in str(caught.value)
    repository = hub.repositories.get(("model", "me/demo"))
    if there:
        assert hub.files("model", "me/demo") == old
    elif pattern == "/settings":
        assert repository.private
    else:
        assert repository is None or (repository.private and hub.files("model", "me/demo").keys() == {".gitattributes"})
    assert contents(folder) == before
    hub.faults.clear()
    push(folder, "me/demo", public=True)
    expected = before | {"README.md": before["README.md"].replace(b"THIS_REPOSITORY", b"me/demo")}
    assert {name: hub.files("model", "me/demo")[name] for name in before} == expected
    assert not hub.repositories["model", "me/demo"].private


def test_an_upload_that_fails_once_is_repeated(hub, model):
    hub.fail("PUT", "/storage/", 500)
    push(model, "me/demo")
    assert [line.split()[0] for line in hub.requests if "/storage/" in line] == ["PUT"] * 2
    assert hub.files("model", "me/demo")["model.safetensors"] == (model / "model.safetensors").read_bytes()


def test_two_pushes_at_once_are_never_mixed(hub, saved):
    first, second, third = saved
    push(first, "me/demo")
    hub.before("POST", "/commit/", lambda: push(second, "me/demo"))
    with pytest.raises(PushError, match="Somebody else has changed me/demo meanwhile"):
        push(third, "me/demo")
    assert hub.files("model", "me/demo")["model.safetensors"] == (second / "model.safetensors").read_bytes()


def test_files_of_an_earlier_push_go_and_those_of_others_stay(hub, model):
    push(model, "me/demo")
    repository = hub.repositories["model", "me/demo"]
    shards = {"model-00001-of-00002.safetensors": b"1", "model.safetensors.index.json": b"{}", "old_selfmm.py": b""}
    others = {"notes.md": b"mine", "onnx/model.onnx": b"", "logs/a.py": b""}
    repository.commit("main", {**hub.files("model", "me/demo"), **shards, **others})
    (model / "example.json").unlink()  # as whoever changes a value on purpose is told to do
    push(model, "me/demo")
    assert hub.files("model", "me/demo").keys() == contents(model).keys() | {".gitattributes", *others}


def test_a_branch(hub, saved):
    with pytest.raises(PushError, match=r"The branch main of .* is empty"):
        push(saved[0], "me/demo", revision="tuned")
    first, again = push(saved[0], "me/demo"), saved[1]
    second = push(again, "me/demo", revision="tuned", message="Tuned")
    branches = hub.repositories["model", "me/demo"].branches
    assert branches == {"main": first.commit, "tuned": second.commit}
    assert hub.files("model", "me/demo", "tuned")["model.safetensors"] == (again / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("repository", "message"),
    [
        ("demo", "not the name of a repository"),
        ("me/de mo", "not the name of a repository"),
        ("you/demo", "me cannot push to you, but to me, lab, museum"),
        ("museum/demo", "may read, but not write to museum"),
    ],
)
def test_where_one_cannot_push(hub, model, repository, message):
    with pytest.raises(PushError, match=message):
        push(model, repository)
    assert not hub.repositories


def test_something_else_is_not_replaced(hub, model, dataset):
    push(dataset, "me/mosi")
    for config in (b'{"model_type": "bert"}', b"{}", b"damaged"):
        hub.repositories.clear()
        hub.requests.clear()
        push(model, "me/demo")
        repository = hub.repositories["model", "me/demo"]
        repository.commit("main", {"config.json": config, "model.safetensors": b""})
        with pytest.raises(PushError, match="name another repository"):
            push(model, "me/demo")
        assert hub.files("model", "me/demo")["config.json"] == config


def test_without_a_login(hub, model, monkeypatch, tmp_path):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    with pytest.raises(PushError, match="hf auth login"):
        push(model, "me/demo")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(PushError, match="hf auth login"):
        push(model, "me/demo")
    monkeypatch.setenv("HF_TOKEN", hub.token)
    hub.role = "read"
    with pytest.raises(PushError, match="may read, but not write"):
        push(model, "me/demo")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(PushError, match="HF_HUB_OFFLINE is set"):
        push(model, "me/demo")
    assert not hub.repositories


def _rewrite(file, old, new):
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: shutil.rmtree(f), "There is no folder"),
        (lambda f: (f / "config.json").unlink(), "not the folder of a model"),
        (lambda f: (f / "config.json").write_text("{"), "not of Self-MM"),
        (lambda f: _rewrite(f / "config.json", '"selfmm"', '"bert"'), "not of Self-MM.*'bert'"),
        (lambda f: (f / "README.md").unlink(), "no README.md"),
        (lambda f: (f / "README.md").write_text("# Mine\n"), "no metadata"),
        (lambda f: (f / "README.md").write_text("---\na: [\n---\n"), "cannot be read"),
        (lambda f: _rewrite(f / "README.md", "license: other", "other: 1"), "names no `license`"),
        (lambda f: (f / "modeling_selfmm.py").unlink(), "lacks modeling_selfmm.py"),
        (lambda f: (f / "decoding_selfmm.py").unlink(), "lacks decoding_selfmm.py"),
        (lambda f: _rewrite(f / "pipeline_selfmm.py", "import", "imp ort"), "damaged"),
        (lambda f: _rewrite(f / "config.json", '"custom_pipelines"', '"pipelines"'), "does not name its code"),
        (lambda f: (f / "model.safetensors").unlink(), "cannot be loaded"),
        (
            lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-9]),
            "cannot be loaded",
        ),
        (lambda f: (f / "tokenizer.json").write_text("{"), "cannot be loaded"),
        (lambda f: (f / "preprocessor_config.json").unlink(), "cannot be loaded"),
        (lambda f: _rewrite(f / "config.json", '"audio_hidden_size": ', '"audio_hidden_size": 1'), "load|weights"),
    ],
)
def test_a_folder_that_is_not_whole_is_not_sent(hub, model, spoil, message):
    spoil(model)
    with pytest.raises(PublicationError, match=message):
        push(model, "me/demo")
    assert not hub.requests


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: next(f.glob("*/test-*.parquet")).unlink(), "has changed since it was prepared"),
        (lambda f: next(f.glob("*/test-*.parquet")).write_bytes(b"x"), "has changed since it was prepared"),
        (lambda f: _rewrite(f / "README.md", "/test-", "/other-"), "does not name the files"),
        (lambda f: (f / "unaligned" / "origin.json").write_text("{"), "damaged"),
    ],
)
def test_a_data_set_that_is_not_whole_is_not_sent(hub, dataset, spoil, message):
    spoil(dataset)
    with pytest.raises(PublicationError, match=message):
        push(dataset, "me/mosi")
    assert not hub.requests


STRAY = (
    ".env", ".venv/pyvenv.cfg", "runs/log.txt", "__pycache__/a.pyc", "training_args.bin", "id_rsa", "optimizer.pt",
    "table.csv", "report/index.html", "raw.pkl", "notes.md", "helper.py", "face_networks/extra.bin",
    "data/train.parquet",
)  # fmt: skip


@pytest.mark.parametrize("kind", ["model", "dataset", "space"])
def test_what_does_not_belong_to_a_repository_stays_here(hub, model, dataset, tmp_path, kind):
    push(model, "me/shown")
    folder = {"model": model, "dataset": dataset, "space": tmp_path / "space"}[kind]
    if kind == "space":
        shutil.copytree(ROOT / "spaces_demo", folder, ignore=shutil.ignore_patterns("__pycache__"))
    options = {"model": "me/shown"} if kind == "space" else {}
    before = contents(folder).keys()
    stray = [name for name in STRAY if (kind, name) != ("space", "helper.py")]  # a Space may have modules of its own
    for name in stray:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(hub.token)
    expected = tuple(sorted(name for name in stray if not name.startswith(".")))
    planned = plan(folder, "me/one", **options)
    assert planned.sizes.keys() == before and planned.left == expected
    assert not any("/me/one" in line for line in hub.requests)
    assert push(folder, "me/one", **options).left == expected
    files = hub.files(kind, "me/one")
    assert files.keys() == before | {".gitattributes"}
    assert not any(hub.token.encode() in content for content in files.values())
    assert planned.sizes == {name: len(files[name]) for name in before}


def test_a_tokenizer_is_sent_with_all_its_files(hub, saved, tmp_path):
    folder = shutil.copytree(saved[0], tmp_path / "model")
    vocabulary = SelfMMProcessor.from_pretrained(folder).tokenizer.vocab_files_names.values()
    for name in vocabulary:
        (folder / name).touch()
    assert plan(folder, "me/demo").sizes.keys() >= {*vocabulary, "tokenizer_config.json"}


@pytest.mark.parametrize(
    "name", ["README.md", "run.png", "preset.yaml", "face_networks/NOTICE", "configuration_selfmm.py"]
)
def test_a_link_that_leads_out_of_the_folder_is_refused(hub, model, tmp_path, name):
    secret = tmp_path / "id_rsa"
    secret.write_bytes((model / name).read_bytes() if (model / name).exists() else b"key")
    (model / name).unlink(missing_ok=True)
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).symlink_to(secret)
    with pytest.raises(PublicationError, match=rf"{name} is a link to .*id_rsa, outside the folder: put a copy"):
        push(model, "me/demo")
    assert not hub.requests


def test_a_link_within_the_folder_is_followed(hub, model):
    (model / "text").write_text("seed: 2\n")
    (model / "preset_2.yaml").symlink_to("text")
    assert push(model, "me/demo").left == ("text",)
    assert hub.files("model", "me/demo")["preset_2.yaml"] == b"seed: 2\n"


@pytest.mark.parametrize("token", ["of the login", "hf_" + "aB3" * 11])
def test_a_token_in_a_file_that_is_sent_is_found(hub, model, token):
    with (model / "README.md").open("a") as card:
        card.write(f"log in with {hub.token if token == 'of the login' else token}\n")
    with pytest.raises(PublicationError, match=r"README\.md holds a token of the Hub"):
        push(model, "me/demo")


def test_dry_run_lists_what_would_be_sent(hub, model, capsys):
    (model / "optimizer.pt").touch()
    (model / "\x1b[31m").touch()
    cli.main(["push", str(model.parent), "me/demo", "--dry_run"])
    *lines, total, left = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == sorted(contents(model).keys() - {"optimizer.pt", "\x1b[31m"})
    assert total.startswith(f"{len(lines)} files, ") and left.endswith(r"'\x1b[31m' 'optimizer.pt'")
    assert not hub.requests


def test_the_card_tells_the_results_in_metadata(model):
    card = ModelCard.load(model / "README.md")
    _, results = model_index_to_eval_results(card.data.to_dict()["model-index"])
    assert {one.dataset_split for one in results} == {"validation", "test"}
    assert {one.metric_type for one in results} == {"mae", "pearsonr", "accuracy", "f1"}
    assert {one.dataset_type for one in results} == {"mosi"}
    assert card.data.license == "other" and card.data.license_name == "research-use"
    assert "accelerate launch train.py --config preset.yaml --seed 1111" in card.text
    assert "conflict" not in card.text and "trusts" not in card.text  # this run tells neither
    limits = card.text.split("## Limits")[1].split("## Licence")[0]
    assert all(f" The {split} split has 5 clips, too few for its metrics" in limits for split in ("validation", "test"))
    assert "@inproceedings{yu2021learning," in card.text and card.data.pipeline_tag is None
    assert "alone: text, audio." in card.text and "face" not in card.text.split("## Features")[0]
    for section in ("## Recipe", "## Intended use", "## Limits", "## Licence", "## Citation", "## Serving"):
        assert section in card.text
    assert (model / "preset.yaml").read_text() == "seed: 1\n" and "MIT License" in (model / "LICENSE").read_text()
    assert (model / "handler.py").read_bytes() == Path(handler.__file__).read_bytes()
    assert (model / "requirements.txt").read_text() == "transformers>=5.9\n"  # its features are of another program
    for limit, metrics in METRICS.items():
        assert METRIC_NAMES.keys() >= metrics([limit, -limit], [limit, -limit]).keys()


def test_the_card_of_words_alone_tells_of_no_other_modality(tmp_path):
    model = SelfMMModel(SelfMMConfig(text_config=demo.demo_text_config(), modalities=["text"])).eval()
    processor = SelfMMProcessor(SelfMMFeatureExtractor(audio=None, vision=None), demo.demo_tokenizer())
    card = ModelCard(str(model_card(model, processor, facts()))).text
    assert "modalities alone" not in card and "disagree" not in card and "clip.mp4" not in card
    assert 'pipe({"text": "the movie was lovely"})' in card
    card = ModelCard(str(model_card(model, processor, facts(processes=2)))).text  # whose batches are added up
    assert "accelerate launch --multi_gpu --num_processes 2 train.py --config preset.yaml --seed 1111" in card


@pytest.mark.parametrize(
    ("recipe", "tag"),
    [
        ({}, "video-classification"),
        ({"vision": None}, "audio-classification"),
        ({"audio": None, "vision": None}, "text-classification"),
        ({"vision": {"kind": "features", "dim": 5}}, None),
    ],
)
def test_the_hub_lists_a_model_by_its_task(recipe, tag):
    processor = SelfMMProcessor(SelfMMFeatureExtractor(**recipe), demo.demo_tokenizer())
    assert pipeline_tag(processor, Task(("happy", "sad"), "single_label_classification")) == tag
    assert pipeline_tag(processor, Task()) is None  # the Hub has no task for scores


def test_the_card_tells_of_agreement_and_conflict_and_how_far_the_labels_are_trusted(tmp_path):
    told = {
        "conflict_by": "predictions", "test_conflict_share": 0.25, "validation_conflict_share": 0.0,
        "test_mae_agreement": 0.4321, "test_mae_conflict": 0.8765, "validation_mae_agreement": 0.5,
        "validation_mae_conflict": float("nan"),
        "label_confidence": {"text": [0.0, 0.43, 0.9], "audio": [0.0, 0.0, 0.9]},
    }  # fmt: skip
    card = ModelCard.load(save_model(tmp_path / "model", **told) / "README.md")
    assert " | MAE, agreement | MAE, conflict |\n" in card.text
    assert " | 0.432 | 0.876 |\n" in card.text and " | 0.500 |  |\n" in card.text
    assert "their unimodal predictions differ by more than 1, a third" in card.text and "25 % of the test" in card.text
    assert (
        "after epoch 2:" in card.text
        and "- text: where it differs from the fused label, the run trusts it to 43 %" in card.text
    )
    assert "- audio adds nothing: its labels are the fused labels" in card.text
    _, results = model_index_to_eval_results(card.data.to_dict()["model-index"])
    named = {(one.dataset_split, one.metric_name): one.metric_value for one in results if "conflict" in one.metric_name}
    assert named == {("test", "MAE, conflict"): 0.8765}


@pytest.mark.parametrize(
    ("task", "said", "kind"),
    [
        ("scores", "predicts the scores of a clip: valence in [-1, 1], arousal in [1, 5].", "Multimodal regression"),
        ("one_sided", "MAE is in units of the labels: intensity in [0, 3].\n", "Multimodal regression"),
        (
            "emotions",
            "any number of them at once: neutral, happy, sad, angry.",
            "Multimodal multi-label classification",
        ),
        ("classes", "the most probable one (`label`), the same scores of the single", "Multimodal classification"),
    ],
)
def test_the_card_tells_what_the_targets_are(tmp_path, model_of, task, said, kind):
    save_model_folder(tmp_path / "model", *model_of(task), facts())
    card = ModelCard.load(tmp_path / "model" / "README.md")
    assert said in card.text and "alone: text, audio, eye. It was trained with" in card.text
    assert ("Accuracies and F1 are" in card.text) == (task in ("emotions", "classes"))
    assert "how positive or negative" not in card.text and "`score`" not in card.text
    assert "`eye` (clips, frames, 4)" in card.text and '"eye": FRAMES' in card.text
    assert card.data.to_dict()["model-index"][0]["results"][0]["task"]["name"] == kind


@pytest.mark.parametrize(
    ("modalities", "said"),
    [(["text", "audio"], "none, words come as vectors."), (["audio", "eye"], "none, the model reads no words.")],
)
def test_the_card_of_a_model_without_a_text_encoder_names_none(tmp_path, tiny_model, modalities, said):
    widths = {"text": 6, "audio": 5, "eye": 4}
    model = tiny_model(modalities=modalities, text_config=None, text_dim=6, eye_dim=4)
    given = {name: {"kind": "features", "dim": widths[name]} for name in modalities}
    extractor = SelfMMFeatureExtractor(**{"audio": None, "vision": None, **given})
    save_model_folder(tmp_path / "model", model, SelfMMProcessor(extractor, None), facts(dataset="custom"))
    text = (tmp_path / "model" / "README.md").read_text("utf-8")
    assert f"Text encoder: {said} Convention" in text and "BERT" not in text


def test_the_card_of_one_score_says_what_it_said(model):
    text = ModelCard.load(model / "README.md").text
    assert "This model predicts how positive or negative a clip of a person speaking is. It also predicts the" in text
    assert (
        "The result contains the `score` in [-3.0, 3.0] (negative to positive), its `label`, the scores of the" in text
    )
    assert "\nMAE is in units of the labels, which lie in [-3.0, 3.0]. Accuracies and F1 are percentages." in text


def test_a_metric_that_is_no_number_is_left_out(tmp_path):
    card = ModelCard.load(save_model(tmp_path / "model", test_corr=float("nan")) / "README.md")
    _, results = model_index_to_eval_results(card.data.to_dict()["model-index"])
    assert [one.dataset_split for one in results if one.metric_type == "pearsonr"] == ["validation"]


@pytest.fixture
def run_options(tmp_path):
    tokenizer = demo.demo_tokenizer()
    config = BertConfig(vocab_size=len(tokenizer), hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
                        intermediate_size=9, max_position_embeddings=20)  # fmt: skip
    BertModel(config).save_pretrained(tmp_path / "encoder")
    tokenizer.save_pretrained(tmp_path / "encoder")
    return [
        "--config", ROOT / "hub_configs" / "mosi.yaml", "--data", mmsa_file(tmp_path / "file.pkl"), "--text_encoder",
        tmp_path / "encoder", "--output_dir", tmp_path / "run", "--num_train_epochs", "1", "--use_cpu", "true",
        "--disable_tqdm", "true", "--push_to_hub", "true", "--hub_model_id", "me/run",
    ]  # fmt: skip


def test_a_run_is_pushed_once_at_its_end(hub, run_options, tmp_path, capsys):
    assert command("train", *run_options, "--hub_private_repo", "false") == 0
    printed = capsys.readouterr().out
    assert f"{hub.url}/me/run (public), commit" in printed
    assert [line for line in hub.requests if "/commit/" in line] == ["POST /api/models/me/run/commit/main"]
    files = hub.files("model", "me/run")
    assert files.keys() == contents(tmp_path / "run" / "model").keys() | {".gitattributes"}
    assert {"run.png", "preset.yaml", "LICENSE", "README.md"} <= files.keys()
    for name, content in files.items():
        assert hub.token.encode() not in content and str(tmp_path).encode() not in content, name
    for name, content in contents(tmp_path / "run").items():
        assert hub.token.encode() not in content, name
    assert "--data file.pkl --text_encoder encoder --num_train_epochs 1" in files["README.md"].decode()


def refused(capsys, *arguments):
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_info:
        cli.main([*map(str, arguments)])
    assert exit_info.value.code == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_what_keeps_a_run_from_being_pushed_shows_before_it_begins(
    hub, saved, run_options, tmp_path, capsys, monkeypatch
):
    assert "HF_TOKEN" in refused(capsys, "train", *run_options, "--hub_token", hub.token)
    assert "--hub_model_id" in refused(capsys, "train", *run_options[:-2])
    assert "cannot push to you" in refused(capsys, "train", *run_options, "--hub_model_id", "you/run")
    push(saved[0], "me/run")
    hub.repositories["model", "me/run"].commit("main", {"config.json": b'{"model_type": "bert"}'})
    assert "name another repository" in refused(capsys, "train", *run_options)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert "hf auth login" in refused(capsys, "train", *run_options)
    assert not (tmp_path / "run").exists()


def test_a_run_whose_push_fails_is_whole_and_says_how_to_go_on(hub, run_options, tmp_path, capsys):
    hub.fail("POST", "/commit/", 503, times=None)
    line = refused(capsys, "train", *run_options)
    assert line.endswith(f"push it with: selfmm push {tmp_path / 'run'} me/run")
    assert {"all_results.json", "model/README.md"} <= contents(tmp_path / "run").keys()
    hub.faults.clear()
    cli.main(["push", str(tmp_path / "run"), "me/run"])
    printed = capsys.readouterr().out
    assert f"{hub.url}/me/run (private), commit" in printed and "pipeline(" in printed
    assert hub.files("model", "me/run").keys() == contents(tmp_path / "run" / "model").keys() | {".gitattributes"}
