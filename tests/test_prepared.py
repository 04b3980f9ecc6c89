"""Of a prepared folder or repository, what `origin.json` names is read, and nothing else is asked for."""

import json
import shutil
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pyarrow as pa
import pytest
from conftest import mmsa_file
from datasets import Features, Image
from huggingface_hub import HfApi, constants
from test_data_commands import data
from test_hub import hub  # noqa: F401
from test_verify import rewrite

from selfmm_hf.data import DataError, find_builder, load_splits
from selfmm_hf.data.prepare import prepare
from selfmm_hf.data.prepared import find_prepared
from selfmm_hf.data.verify import verify_folder
from selfmm_hf.hub.publication import PublicationError
from selfmm_hf.hub.push import plan

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub's own


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A prepared folder, and another one whose texts say so, which nobody is to read."""
    root = tmp_path_factory.mktemp("data")
    prepare(find_builder("mosi", str(mmsa_file(root / "file.pkl"))), root / "out")
    other = mmsa_file(root / "other.pkl", raw_text=lambda rows: ["not this"] * rows)
    prepare(find_builder("mosi", str(other)), root / "other")
    return root


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made / "out", tmp_path / "out")


class Elsewhere(ThreadingHTTPServer):
    """Has the other folder, and notes who asks for it."""

    def __init__(self, root):
        self.asked = []

        class Handler(SimpleHTTPRequestHandler):
            def send_head(handler):
                self.asked.append(handler.requestline)
                return super().send_head()

            def log_message(handler, *_):
                pass

        super().__init__(("127.0.0.1", 0), lambda *arguments: Handler(*arguments, directory=root))
        self.url = f"http://127.0.0.1:{self.server_port}"


@pytest.fixture
def elsewhere(made):
    with Elsewhere(made / "other") as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def texts(data, **options):
    return {text for samples in load_splits("mosi", str(data), **options).values() for text in samples["text"]}


@pytest.mark.parametrize("start", ["URL/unaligned/", "../other/unaligned/", "PATH/unaligned/", "hf://datasets/me/a/"])
def test_a_card_does_not_say_what_is_read(made, folder, elsewhere, capsys, start):
    shutil.copytree(made / "other", folder.parent / "other")
    names = {path.name.split("-")[0]: path.name for path in folder.glob("unaligned/*.parquet")}
    card = (folder / "README.md").read_text().replace("unaligned/", start)
    card = card.replace("URL", elsewhere.url).replace("PATH", str(folder.parent / "other"))
    for path in (made / "other").glob("unaligned/*.parquet"):
        card = card.replace(names[path.name.split("-")[0]], path.name)
    (folder / "README.md").write_text(card)

    assert texts(folder) == {"good film", "bad film"}
    assert data("inspect", folder, "--json") == 0
    assert json.loads(capsys.readouterr().out)["splits"]["train"]["clips"] == 18
    assert data("verify", folder) == 1
    assert "does not name the files that were made, alone" in capsys.readouterr().out
    with pytest.raises(PublicationError, match="does not name the files that were made, alone"):
        plan(folder, "me/mosi")
    assert elsewhere.asked == []


@pytest.mark.parametrize(
    "change",
    [
        lambda card: card.replace("configs:", "configs:\n- config_name: x\n  data_files: '**'"),
        lambda card: card.replace("configs:", "configs: []\nconfigs:"),
        lambda card: card.replace("configs:", "more:"),
        lambda card: card.replace("configs:", "configs: 5\nmore:"),
        lambda card: card.replace("---\n", "", 1),
        lambda card: card.replace("configs:", "a: &a [x]\nb: *a\nconfigs:"),
    ],
)
def test_a_card_that_says_more_is_found(folder, change):
    (folder / "README.md").write_text(change((folder / "README.md").read_text()))
    (problem,) = verify_folder(folder)
    assert "README.md" in problem
    with pytest.raises(PublicationError, match=r"README\.md"):
        plan(folder, "me/mosi")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("files", {"../../other/unaligned/train-0.parquet": "0" * 64}),
        ("files", {"train-0/../../x.parquet": "0" * 64}),
        ("files", {"train-\\..\\x.parquet": "0" * 64}),
        ("files", {"http://127.0.0.1:1/train-0.parquet": "0" * 64}),
        ("files", {"train-0.parquet::http://127.0.0.1:1/x.parquet": "0" * 64}),
        ("files", {"train-*.parquet": "0" * 64}),
        ("files", {"train-0.parquet\n": "0" * 64}),
        ("files", {"train-0.parquet": "0"}),
        ("files", {"train-0.parquet": None}),
        ("files", ["train-0.parquet"]),
        ("rows", {}),
        ("rows", {"train": 18, "validation": 5, "test": 5, "more": 1}),
        ("rows", {"train": 18, "validation": 5}),
        ("rows", {"train": 18, "validation": 5, "test": "5"}),
        ("config", ".."),
        ("dataset", None),
        ("label_range", "3"),
    ],
)
def test_an_origin_names_no_other_files(folder, key, value):
    file = folder / "unaligned" / "origin.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    for use in (lambda: texts(folder), lambda: list(verify_folder(folder)), lambda: plan(folder, "me/mosi")):
        with pytest.raises((DataError, PublicationError), match=rf"origin\.json is damaged \({key!r}: ") as caught:
            use()
        assert "\n" not in str(caught.value)


def test_an_origin_that_cannot_be_read(folder):
    file = folder / "unaligned" / "origin.json"
    for content in ("[" * 50_000, " " * 2**21, "\xff"):
        file.write_text(content, encoding="latin-1")
        with pytest.raises(DataError, match=r"origin\.json is damaged"):
            texts(folder)
    file.unlink()
    file.mkdir()
    with pytest.raises(DataError, match=r"origin\.json is damaged"):
        texts(folder)


def test_a_column_does_not_say_what_is_read(folder, elsewhere, capsys):
    """One of pictures names where they are."""
    pytest.importorskip("PIL")

    def with_pictures(table):
        paths = [{"bytes": None, "path": f"{elsewhere.url}/README.md"}] * len(table)
        features = Features.from_arrow_schema(table.schema) | {"picture": Image()}
        kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
        table = table.append_column("picture", pa.array(paths, kind))
        return table.replace_schema_metadata(Features(features).arrow_schema.metadata)

    rewrite(folder, with_pictures, consistently=True)
    (train,) = folder.glob("unaligned/train-*")
    (folder / "alone").mkdir()
    for split in ("train", "validation", "test"):
        shutil.copy(train, folder / "alone" / f"{split}.parquet")
    assert isinstance(find_prepared(str(folder / "alone")).load()["train"].features["picture"], Image)
    assert texts(folder) == texts(folder / "alone") == {"good film", "bad film"}
    assert data("inspect", folder / "alone") == 0
    source = mmsa_file(folder.parent / "file.pkl")
    assert data("verify", folder, "--source", source) == 0, capsys.readouterr().out
    assert elsewhere.asked == []


@pytest.fixture
def repository(hub, tmp_path, monkeypatch):  # noqa: F811
    """Puts the files of a folder into the repository me/mosi."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))

    HfApi(endpoint=hub.url).create_repo("me/mosi", repo_type="dataset", private=True)

    def make(folder, **more):
        files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        hub.repositories["dataset", "me/mosi"].commit("main", {".gitattributes": b"", **files, **more})
        hub.requests.clear()
        return hub

    return make


def test_a_repository_is_read_like_a_folder(repository, folder, elsewhere, capsys, monkeypatch):
    card = (folder / "README.md").read_text().replace("unaligned/", f"{elsewhere.url}/unaligned/").encode()
    asked = repository(folder, **{"README.md": card, "evil.parquet": b"", "loading.py": b""}).requests
    assert texts("me/mosi") == {"good film", "bad film"}
    fetched = {line.rpartition("/")[2] for line in asked if "/resolve/" in line}
    assert fetched == {".gitattributes", "origin.json", *(path.name for path in folder.glob("unaligned/*.parquet"))}
    assert data("inspect", "me/mosi", "--json") == 0
    assert json.loads(capsys.readouterr().out)["splits"]["train"]["clips"] == 18
    with pytest.raises(DataError, match="me/mosi holds the data set mosi, not mosei"):
        load_splits("mosei", "me/mosi")
    with pytest.raises(DataError, match="me/mosi has no configuration aligned, but unaligned"):
        load_splits("mosi", "me/mosi", "aligned")
    assert elsewhere.asked == []

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked.clear()
    assert texts("me/mosi") == {"good film", "bad film"} and asked == []


def test_a_repository_of_another_layout(repository, folder, elsewhere):
    card = f"---\nconfigs:\n- config_name: default\n  data_files: {elsewhere.url}/x.parquet\n---\n".encode()
    plain = folder.parent / "plain"
    (plain / "data").mkdir(parents=True)
    for path in folder.glob("unaligned/*.parquet"):
        shutil.copy(path, plain / "data" / path.name.replace("validation", "dev"))
    asked = repository(plain, **{"README.md": card, "other.parquet": b"", "a.pkl": b""}).requests
    assert texts("me/mosi") == {"good film", "bad film"} and elsewhere.asked == []
    assert len([line for line in asked if "/resolve/" in line and "parquet" in line]) == 6  # HEAD and GET of three
    shutil.copytree(plain / "data", plain / "more")
    repository(plain)
    with pytest.raises(DataError, match=r"has no configuration of its own, but 'data', 'more': name one by --data_con"):
        load_splits("mosi", "me/mosi")
    assert texts("me/mosi", config="more") == {"good film", "bad film"}
    repository(plain / "none", **{"README.md": card})
    with pytest.raises(DataError, match="no Parquet file in it begins with the name of a split"):
        load_splits("mosi", "me/mosi")


def test_the_origin_of_a_repository_names_no_other_files(repository, folder):
    origin = json.loads((folder / "unaligned" / "origin.json").read_text())
    origin["files"] = {"train-0/../../../../../secret.parquet": "0" * 64}
    repository(folder, **{"unaligned/origin.json": json.dumps(origin).encode()})
    with pytest.raises(DataError, match="damaged"):
        load_splits("mosi", "me/mosi")
