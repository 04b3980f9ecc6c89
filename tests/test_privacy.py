"""Each file of a push is scrubbed, or refused by its name."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import mmsa_file
from safetensors.numpy import load_file, save_file
from test_data_commands import data
from test_hub import ROOT, contents, hub, model, saved  # noqa: F401

import selfmm_cli as cli
from selfmm_hf.data import find_builder
from selfmm_hf.data.prepare import prepare
from selfmm_hf.hub.privacy import PrivateError, publishable
from selfmm_hf.hub.publication import PublicationError
from selfmm_hf.hub.push import plan, push
from selfmm_hf.runs.options import read_options

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub's own

SECRET = "zq7"
PATH = f"/home/{SECRET}/My Data/file.pkl"
WINDOWS = f"C:\\Users\\{SECRET}\\My Data\\file.pkl"
TOKEN = "hf_" + "aB3" * 11
LOGIN = f"https://{SECRET}:{SECRET}@a.org/b"


def append(file, text):
    with file.open("a", encoding="utf-8") as content:
        content.write(text)


def test_what_only_tells_is_sent_without(hub, model, capsys):  # noqa: F811
    append(model / "README.md", f"\nMade from `{PATH}`, {WINDOWS} and {LOGIN}, see https://a.org/b/c.\n")
    append(model / "preset.yaml", f"data: '{PATH}'  # file://{PATH}\nother: {WINDOWS}\n")
    before = contents(model)
    cli.main(["push", str(model), "me/demo", "--message", f"From {PATH}"])
    assert "Sent without the local paths and logins in them: 'README.md' 'preset.yaml'" in capsys.readouterr().out
    files = hub.files("model", "me/demo")
    assert not [name for name, content in files.items() if SECRET.encode() in content]
    assert b"Made from `file.pkl`, file.pkl and https://a.org/b, see https://a.org/b/c.\n" in files["README.md"]
    assert yaml.safe_load(files["preset.yaml"]) == {"seed": 1, "data": "file.pkl", "other": "file.pkl"}
    assert contents(model) == before and hub.messages == ["From file.pkl"]
    assert plan(model, "me/demo").scrubbed == ("README.md", "preset.yaml")


def rewrite_json(file, change):
    content = json.loads(file.read_text("utf-8"))
    change(content)
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("name", "change", "where"),
    [
        ("config.json", lambda content, path: content.update(note=[path]), "the value of 'note'"),
        ("config.json", lambda content, path: content.update({path: 1}), "a key"),
        ("processor_config.json", lambda content, path: content.update(deep={"a": {"b": path}}), "the value of 'b'"),
        ("preprocessor_config.json", lambda content, path: content.update(note=path), "the value of 'note'"),
    ],
)
def test_settings_are_refused(model, name, change, where):  # noqa: F811
    if not (model / name).exists():
        (model / name).write_text("{}")
    message = f"{name} (holds a token of the Hub|names in {where} a place on this machine, or a login, .*take it out)"
    settings = (model / name).read_bytes()
    for path in (WINDOWS, LOGIN, f"file:///srv/{SECRET}", "/srv/data/hubert", TOKEN, PATH):
        (model / name).write_bytes(settings)
        rewrite_json(model / name, lambda content, path=path: change(content, path))
        with pytest.raises(PrivateError, match=message) as caught:
            publishable(name, model / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(PublicationError, match=message):
        plan(model, "me/demo")


def test_the_name_that_a_tokenizer_was_loaded_by(hub, model):  # noqa: F811
    rewrite_json(model / "tokenizer_config.json", lambda content: content.update(name_or_path=PATH, note="/a/b"))
    push(model, "me/demo")
    sent = json.loads(hub.files("model", "me/demo")["tokenizer_config.json"])
    assert sent["name_or_path"] == "file.pkl" and sent["note"] == "/a/b"


@pytest.mark.parametrize("secret", [PATH, LOGIN, TOKEN])
@pytest.mark.parametrize("name", ["modeling_selfmm.py", "tokenizer.json", "run.png", "requirements.txt", "vocab.txt"])
def test_what_would_not_be_itself_is_refused(model, name, secret):  # noqa: F811
    file = model / name
    content = file.read_bytes() if file.exists() else b"\x89PNG\xff\n"
    if name == "tokenizer.json":
        content = json.dumps({**json.loads(content), "note": secret}).encode()
    else:
        content += f"\n# {secret}\n".encode()
    with pytest.raises(PrivateError, match=rf"^{name} (holds a token of the Hub|names in .* a place on this machine)"):
        publishable(name, content)
    file.write_bytes(content)
    if name not in ("requirements.txt", "tokenizer.json") and secret == PATH:  # of a Space; read more strictly, before
        with pytest.raises(PublicationError, match=rf"^{name} (holds|names)"):
            plan(model, "me/demo")


def test_what_begins_with_a_slash_in_code_and_vocabularies_is_theirs():
    for name in ("app.py", "tokenizer.json", "vocab.txt", "chat_template.jinja", "merges.txt"):
        content = b'["/usr/bin", "/a/b/c", "</s>", "C:\\\\\\\\x", "~/x", "../y/z", "//", "https://a.org/home/x/y"]'
        assert publishable(name, content) is content
    with pytest.raises(PrivateError, match=r"requirements\.txt names in its text"):
        publishable("requirements.txt", b"-e /srv/selfmm\n")
    with pytest.raises(PrivateError, match="names in its name a place"):
        publishable(f"examples/C:\\Users\\{SECRET}\\x.txt", b"")
    with pytest.raises(PrivateError, match=r"README\.md names in its text"):
        publishable("README.md", b"---\na: /srv/x/@b\nc: d\n---\n")  # which would not be YAML any more


def test_metadata_of_weights(model):  # noqa: F811
    file = model / "model.safetensors"
    save_file(load_file(file), file, {"format": "pt", "trained": "on /srv/data/x.pkl"})
    with pytest.raises(PublicationError, match=r"model\.safetensors names in its metadata a place.* '/srv/data/x.pkl'"):
        plan(model, "me/demo")
    save_file(load_file(file), file, {"format": "pt", "data": TOKEN})
    with pytest.raises(PublicationError, match=r"model\.safetensors holds a token"):
        plan(model, "me/demo")
    with pytest.raises(PrivateError, match="the names of its tensors"):
        save_file({f"{PATH}.weight": np.zeros(1)}, file)
        publishable("model.safetensors", file)


def test_metadata_and_words_of_parquet(tmp_path):
    file = tmp_path / "train-0.parquet"
    clean = pa.table({"id": ["a/b/c", None], "text": ["/x/y and/or z", ""], "label": [1.0, 2.0]})
    pq.write_table(clean, file)
    assert publishable("unaligned/train-0.parquet", file) == file
    kept = pa.schema([pa.field("id", pa.string(), metadata={"from": "/srv/data/x"}), *list(clean.schema)[1:]])
    for table, where in (
        (clean.replace_schema_metadata({"pandas": json.dumps({"path": "/srv/data/x"})}), "its metadata"),
        (clean.replace_schema_metadata({"/srv/data/x": ""}), "its metadata"),
        (clean.cast(kept), "its metadata"),
        (clean.set_column(0, "id", [[PATH, "b"]]), "the column 'id'"),
        (clean.set_column(1, "text", [["", LOGIN]]), "the column 'text'"),
    ):
        pq.write_table(table, file)
        with pytest.raises(PrivateError, match=f"^unaligned/train-0.parquet names in {where} a place"):
            publishable("unaligned/train-0.parquet", file)
    pq.write_table(clean.append_column("note", [[TOKEN, ""]]), file)
    with pytest.raises(PrivateError, match=r"train-0\.parquet holds a token"):
        publishable("unaligned/train-0.parquet", file)


def test_a_data_set_tells_nothing_of_where_it_lay(hub, tmp_path):  # noqa: F811
    folder = tmp_path / f"{SECRET} of mine" / "my clips"
    (folder / "audio").mkdir(parents=True)
    rows = [f"clip{row},some words,{row / 3 - 1},{split}" for row, split in enumerate(["train"] * 5 + ["dev", "test"])]
    (folder / "table.csv").write_text("\n".join(["id,text,label,split", *rows]))
    for name in ("clip1", "clip2", "misspelt"):
        np.save(folder / "audio" / f"{name}.npy", np.ones((3, 2), np.float32))
    out = tmp_path / "out"
    assert data("prepare", "custom", "--data", folder, "--output_dir", out, "--label_range", 1) == 0
    for content in contents(out).values():
        assert SECRET.encode() not in content and str(tmp_path).encode() not in content
    notices = json.loads((out / "default" / "origin.json").read_text())["notices"]
    assert "my clips: 1 files in audio belong to no id, first 'audio/misspelt.npy'" in notices

    rewrite_json(out / "default" / "origin.json", lambda origin: origin["notices"].append(f"{PATH}: 2 of {WINDOWS}"))
    rewrite_json(out / "default" / "dataset_info.json", lambda info: info.update(homepage=LOGIN))
    push(out, "me/mine")
    files = hub.files("dataset", "me/mine")
    assert not [name for name, content in files.items() if SECRET.encode() in content]
    assert json.loads(files["default/origin.json"])["notices"][-1] == "file.pkl: 2 of file.pkl"


def test_a_file_in_a_home_tells_nothing_of_it(tmp_path, monkeypatch):
    home = tmp_path / "o'brien (x)"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    prepare(find_builder("mosi", str(mmsa_file(home / "file.pkl"))), tmp_path / "out")
    assert not [name for name, content in contents(tmp_path / "out").items() if b"brien" in content]


def test_presets_and_options_are_scrubbed_when_they_are_kept(tmp_path):
    preset = tmp_path / "mine.yaml"
    preset.write_text(f"# as {WINDOWS}, {LOGIN}\ndataset: demo\noutput_dir: '{PATH}'\n", encoding="utf-8")
    options, *_ = read_options(["--config", str(preset), "--text_encoder", WINDOWS, "--data", PATH])
    assert options.presets == [("mine.yaml", "# as file.pkl, https://a.org/b\ndataset: demo\noutput_dir: 'file.pkl'\n")]
    assert options.overrides == ["--text_encoder", "file.pkl", "--data", "file.pkl"]


def test_a_space_is_sent_as_it_is(hub, tmp_path):  # noqa: F811
    space = shutil.copytree(ROOT / "spaces_demo", tmp_path / "space", ignore=shutil.ignore_patterns("__pycache__"))
    planned = plan(space, "me/space", model="me/demo")
    assert planned.scrubbed == ()
    append(space / "requirements.txt", f"git+{LOGIN}\n")
    with pytest.raises(PublicationError, match=r"requirements\.txt names in its text a place on this machine"):
        plan(space, "me/space", model="me/demo")
