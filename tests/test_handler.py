"""What a model's repository answers on Inference Endpoints, called as they call it; and addresses that it fetches."""

import base64
import importlib.util
import json
import shutil
import socket
from pathlib import Path

import pytest

from selfmm_hf import SelfMMConfig, SelfMMFeatureExtractor, SelfMMModel, SelfMMProcessor
from selfmm_hf.hub import handler as source
from selfmm_hf.hub.model_folder import save_loadable
from selfmm_hf.model import download_selfmm
from selfmm_hf.model.download_selfmm import downloaded

CLIP = Path(__file__).resolve().parents[1] / "spaces_demo" / "examples" / "sarcasm.mp4"


@pytest.fixture(scope="module")
def handler(model_folder, tmp_path_factory):
    """The handler of a folder, which is imported from there."""
    folder = shutil.copytree(model_folder, tmp_path_factory.mktemp("repository") / "model")
    file = shutil.copy(source.__file__, folder / "handler.py")
    spec = importlib.util.spec_from_file_location("handler", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.EndpointHandler(str(folder))


@pytest.fixture(scope="module")
def expected(handler):
    return handler.pipe(str(CLIP), text="the food is great", window_seconds=1.0)


def test_a_clip_as_bytes_or_base64(handler, expected):
    content = CLIP.read_bytes()
    encoded = base64.b64encode(content).decode()
    request = {"inputs": {"clip": f"data:video/mp4;base64,{encoded}", "text": "the food is great"}}
    answer = handler({**request, "parameters": {"window_seconds": 1.0}})
    assert json.loads(json.dumps(answer)) == json.loads(json.dumps(expected))
    alone = handler({"inputs": content})
    assert alone == handler({"inputs": base64.encodebytes(content).decode()}) and alone["absent"] == {
        "text": "no words"
    }


def test_words_and_features(handler):
    answer = handler({"inputs": {"text": "the food is great", "audio": [[0.5] * 33] * 7}})
    assert answer["present"] == {"text": True, "audio": True, "vision": False}


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "nothing in this clip"),
        ({"file": "a.mp4"}, "The request has 'file'"),
        (str(CLIP), "neither an https address nor base64"),  # no path is opened
        ({"audio": str(CLIP)}, "a list of frames"),
        ({"text": ["a"]}, "Words must be text"),
        ({"text": "a" * 10_001}, "at most 10000 letters"),
        ({"text": "good \ud800"}, "text has characters that are not Unicode"),
        ({"text": "good", "context": 5}, "context must be a list"),
        ({"text": "good", "context": {"food": 1}}, "context must be a list"),
        ({"text": "good", "audio": [[10**400] * 33]}, "a list of frames"),
        ({"clip": "AAAA", "audio": [[0.5] * 33]}, "give one of them"),
        (b"", "bytes of at most 100 MB"),
        ("http://example.com/clip.mp4", "cannot be downloaded"),
        ("file:///etc/passwd", "neither an https address nor base64"),
        ("ftp://example.com/a", "neither an https address nor base64"),
        ("https://127.0.0.1/clip.mp4", "127.0.0.1 is not a public host"),
        ("https://localhost:1/clip.mp4", "localhost is not a public host"),
        ("https://[::1]/clip.mp4", "is not a public host"),
        ("https://169.254.169.254/latest/meta-data", "is not a public host"),
    ],
)
def test_what_is_refused(handler, inputs, message):
    with pytest.raises(ValueError, match=message):
        handler({"inputs": inputs})


def test_parameters_that_it_does_not_have(handler):
    with pytest.raises(ValueError, match="'public_urls'"):
        handler({"inputs": {"text": "great"}, "parameters": {"public_urls": False}})


@pytest.mark.parametrize("parameters", [5, "window_seconds", ["window_seconds"], [[1]]])
def test_parameters_of_another_kind(handler, parameters):
    with pytest.raises(ValueError, match="an object parameters"):
        handler({"inputs": {"text": "great"}, "parameters": parameters})


def test_a_request_without_inputs(handler):
    with pytest.raises(ValueError, match="an object with inputs"):
        handler({"text": "the food is great"})


def test_words_and_context_as_sequences(tmp_path):
    """A model may read word vectors, and have modalities of the names `context` and `clip`."""
    recipe = {name: {"kind": "features", "dim": 3} for name in ("text", "audio", "vision", "context", "clip")}
    config = SelfMMConfig(modalities=list(recipe), **{f"{name}_dim": 3 for name in recipe})
    save_loadable(tmp_path, SelfMMModel(config).eval(), SelfMMProcessor(SelfMMFeatureExtractor(**recipe)))
    handler, frames = source.EndpointHandler(str(tmp_path)), [[0.5] * 3] * 4
    answer = handler({"inputs": {"text": frames, "context": frames, "clip": frames}})
    assert answer["present"] == {"text": True, "audio": False, "vision": False, "context": True, "clip": True}
    assert handler({"inputs": {"audio": frames}})["present"]["text"] is False


@pytest.mark.parametrize("address", ["10.0.0.1", "192.168.1.1", "100.64.0.1", "::ffff:10.0.0.1", "64:ff9b::a00:1",
                                     "2002:a00:1::", "fe80::1%eth0", "224.0.0.1", "0.0.0.0"])  # fmt: skip
def test_hosts_that_are_not_public(address):
    with pytest.raises(OSError, match="is not a public host"):
        download_selfmm._check_public("host", address)


def test_public_hosts():
    for address in ("93.184.216.34", "2606:2800:220:1::1"):
        download_selfmm._check_public("host", address)


def test_a_name_that_means_another_address_when_it_is_reached(monkeypatch):
    """It is looked up twice, and the second answer is of this machine."""
    real = socket.getaddrinfo
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        answers = iter(["93.184.216.34", "127.0.0.1"])
        monkeypatch.setattr(socket, "getaddrinfo", lambda host, port, *a, **k: real(next(answers), port, *a, **k))
        with (
            pytest.raises(ValueError, match="is not a public host"),
            downloaded(f"https://two.example:{port}/a", public=True),
        ):
            pass


def test_no_proxy_is_asked(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.5)
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(ValueError, match="is not a public host"), downloaded("https://10.0.0.1/a", public=True):
            pass
        with pytest.raises(TimeoutError):
            server.accept()
