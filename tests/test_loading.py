"""No code of a repository runs, and the user's token goes to nobody whom a recipe names."""

import json
import logging
import shutil
import subprocess

import fresh
import pytest
from hub_server import Repository
from huggingface_hub import constants

import selfmm_cli as cli
from selfmm_hf import SelfMMFeatureExtractor, SelfMMProcessor
from selfmm_hf.model.audio_features_selfmm import AudioEncoder
from selfmm_hf.model.vision_features_selfmm import ImageEncoder

for package in ("ai_edge_litert", "librosa", "PIL", "soxr"):
    pytest.importorskip(package)

from test_feature_extraction import encoders  # noqa: E402, F401
from test_hub import hub  # noqa: E402, F401

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub's own

EVIL = "from pathlib import Path\nPath({!r}).touch()\nclass Evil:\n    pass\n"
AUTO_MAPS = [
    {"AutoTokenizer": ["evil.Evil", None]},
    {"AutoTokenizer": [None, "evil.Evil"]},
    {"AutoTokenizer": ["other/repository--evil.Evil", None]},
    ["evil.Evil", None],
]


@pytest.fixture
def asked(monkeypatch):
    """What is asked on the terminal, where somebody answers "y"."""
    questions = []
    monkeypatch.setattr("builtins.input", lambda question="": questions.append(question) or "y")
    return questions


def with_code(folder, file, **changes):
    """The folder with code, named in `file`, that leaves a mark when it runs; and the mark."""
    mark = folder / "has_run"
    (folder / "evil.py").write_text(EVIL.format(str(mark)))
    config = json.loads((folder / file).read_text()) if (folder / file).exists() else {}
    (folder / file).write_text(json.dumps(config | changes))
    return mark


@pytest.mark.parametrize("auto_map", AUTO_MAPS)
def test_a_tokenizer_with_code_is_refused(model_folder, tmp_path, asked, capsys, auto_map):
    shutil.copytree(model_folder, tmp_path / "model")
    mark = with_code(tmp_path / "model", "tokenizer_config.json", auto_map=auto_map, tokenizer_class="Evil")
    with pytest.raises(SystemExit) as end:
        cli.main(["predict", "--text", "good", "--model", str(tmp_path / "model")])
    error = capsys.readouterr().err.strip()
    assert end.value.code == 2
    assert "needs code of its own, which is not run" in error and "\n" not in error
    assert not asked and not mark.exists()
    with pytest.raises(ValueError, match="needs code of its own"):  # trusted is the code of the processor alone
        SelfMMProcessor.from_pretrained(tmp_path / "model", trust_remote_code=True)
    assert not mark.exists()


def test_a_tokenizer_with_code_is_refused_where_the_model_is_trusted(model_folder, tmp_path):
    shutil.copytree(model_folder, tmp_path / "model")
    mark = with_code(tmp_path / "model", "tokenizer_config.json", auto_map=AUTO_MAPS[0], tokenizer_class="Evil")
    load = "import sys, transformers as t; t.AutoProcessor.from_pretrained(sys.argv[1], trust_remote_code=True)"
    done = subprocess.run(
        [fresh.python(), "-c", load, str(tmp_path / "model")], capture_output=True, text=True, input="y\n", timeout=120
    )
    assert done.returncode == 1 and "needs code of its own, which is not run" in done.stderr
    assert not mark.exists()


EVIL_CONFIG = {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"}}
EVIL_EXTRACTOR = {"feature_extractor_type": "Evil", "auto_map": {"AutoFeatureExtractor": "evil.Evil"}}
EVIL_PROCESSOR = {"image_processor_type": "Evil", "auto_map": {"AutoImageProcessor": ["evil.Evil", None]}}


@pytest.mark.parametrize(
    ("folder", "file", "changes"),
    [
        ("speech", "config.json", EVIL_CONFIG),
        ("image", "config.json", {**EVIL_CONFIG, "auto_map": {"AutoConfig": "a/b--evil.Evil"}}),
        ("speech", "preprocessor_config.json", EVIL_EXTRACTOR),
        ("image", "preprocessor_config.json", EVIL_PROCESSOR),
    ],
)
def test_an_encoder_with_code_is_refused(encoders, tmp_path, asked, folder, file, changes):  # noqa: F811
    if file == "preprocessor_config.json":  # by the type of a model that has none, transformers would not look
        config = json.loads((tmp_path / folder / "config.json").read_text())
        (tmp_path / folder / "config.json").write_text(json.dumps(config | {"model_type": "bert"}))
    mark = with_code(tmp_path / folder, file, **changes)
    with pytest.raises(ValueError, match="needs code of its own, which is not run") as error:
        {"speech": AudioEncoder, "image": ImageEncoder}[folder](tmp_path / folder)
    assert "\n" not in str(error.value) and not asked and not mark.exists()


def test_a_transcriber_with_code_is_refused(model_folder, tmp_path, asked, capsys):
    (tmp_path / "ears").mkdir()
    mark = with_code(tmp_path / "ears", "config.json", model_type="evil", auto_map={"AutoConfig": "evil.Evil"})
    with pytest.raises(SystemExit) as end:
        cli.main(
            ["predict", "--text", "good", "--model", str(model_folder), "--transcriber", str(tmp_path / "ears")]
        )  # fmt: skip
    error = capsys.readouterr().err.strip()
    assert end.value.code == 2
    assert "needs code of its own, which is not run" in error and "\n" not in error
    assert not asked and not mark.exists()


@pytest.fixture
def published(hub, encoders, tmp_path, monkeypatch):  # noqa: F811
    """The speech model as `other/speech` and `me/speech` on the Hub; makes `me/model`, whose recipe names a model."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    speech = {path.name: path.read_bytes() for path in (tmp_path / "speech").iterdir()}
    for name in ("other/speech", "me/speech", "me/model"):
        hub.repositories["model", name] = Repository("model", name, private=False)
        hub.repositories["model", name].commit("main", speech)

    def publish(model, revision=None, checksum=None):
        audio = {"kind": "encoder", "model": model, "revision": revision, "checksum": checksum}
        recipe = SelfMMFeatureExtractor(audio=audio, vision=None).to_json_string().encode()
        hub.repositories["model", "me/model"].commit("main", {"preprocessor_config.json": recipe})
        return SelfMMFeatureExtractor.from_pretrained("me/model", cache_dir=str(tmp_path / "cache"))

    return publish


def told(hub, name):  # noqa: F811
    """What was sent as "Authorization" to a repository."""
    return {credential for path, credential in hub.credentials if f"/{name}" in path}


def test_a_recipe_cannot_send_the_token_to_another_owner(hub, published, caplog):  # noqa: F811
    extractor = published("other/speech", "main")
    assert not told(hub, "other/speech")  # nothing is fetched before it is needed
    assert extractor.widths == {"audio": 8}
    assert told(hub, "other/speech") == {None} and told(hub, "me/model") == {f"Bearer {hub.token}"}
    said = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert (
        "The recipe of me/model names the audio encoder other/speech: it is taken from the Hub, revision main." in said
    )
    published("me/speech").widths  # noqa: B018
    assert told(hub, "me/speech") == {f"Bearer {hub.token}"}


def test_what_the_caller_names_gets_the_token(hub, published):  # noqa: F811
    hub.repositories["model", "other/speech"].private = True
    audio = {"kind": "encoder", "model": "other/speech"}
    assert SelfMMFeatureExtractor(audio=audio, vision=None).widths == {"audio": 8}
    with pytest.raises(ValueError, match="Your token is not sent for what the recipe of another owner names"):
        published("other/speech", "nowhere").widths  # noqa: B018


def test_a_recipe_pins_the_revision_that_it_was_made_with(hub, published, tmp_path):  # noqa: F811
    made = SelfMMFeatureExtractor(audio={"kind": "encoder", "model": "other/speech"}, vision=None)
    made.save_pretrained(tmp_path / "made")
    saved = json.loads((tmp_path / "made" / "preprocessor_config.json").read_text())["audio"]
    assert saved["revision"] == hub.repositories["model", "other/speech"].branches["main"]
    # What was saved before has no revision: the same weights are the same recipe.
    made.check_recipe({"audio": {**saved, "revision": None}})
    with pytest.raises(ValueError, match="audio checksum"):
        made.check_recipe({"audio": {**saved, "revision": None, "checksum": "0"}})
