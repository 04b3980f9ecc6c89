"""`examples/serve.py`: many requests at once, and what becomes of those that are wrong."""

import itertools
import runpy
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import pytest
import torch
from transformers import pipeline

import selfmm_hf

ROOT = Path(__file__).resolve().parents[1]
CLIP = ROOT / "spaces_demo" / "examples" / "sarcasm.mp4"
# What is asked: the clip with words, words, the clip, and other words.
ASKED = [(True, "the food is great"), (False, "the movie was awful"), (True, ""), (False, "it was okay")]


@pytest.fixture(scope="module")
def names():
    pytest.importorskip("fastapi")
    return runpy.run_path(str(ROOT / "examples" / "serve.py"), run_name="serve")


@pytest.fixture
def client_of(names, model_folder):
    from fastapi.testclient import TestClient

    threads = torch.get_num_threads()
    yield lambda **options: TestClient(names["create_app"](str(model_folder), **options), raise_server_exceptions=False)
    torch.set_num_threads(threads)


def test_16_requests_at_once(client_of, model_folder):
    """Each gets the answer that the pipeline alone gives."""
    pipe = pipeline("multimodal-sentiment", model=str(model_folder))
    alone = [pipe(str(CLIP), text=text) if seen else pipe({"text": text}) for seen, text in ASKED]
    client, ready = client_of(at_once=4), threading.Barrier(16)

    def ask(number):
        seen, text = ASKED[number % 4]
        files = {"clip": ("../../etc/passwd", CLIP.read_bytes())} if seen else None
        ready.wait()
        return client.post("/score", files=files, data={"text": text})

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(16)))
    for number, answer in enumerate(answers):
        assert answer.status_code == 200
        assert answer.json()["score"] == pytest.approx(alone[number % 4]["score"], abs=1e-5)
        assert answer.json()["absent"] == alone[number % 4]["absent"]


def test_those_that_find_no_room_are_told_at_once(client_of, monkeypatch):
    client, begun, go_on = client_of(at_once=1, waiting=1), threading.Semaphore(0), threading.Event()
    pipe_class = selfmm_hf.MultimodalSentimentPipeline
    judge = pipe_class.__call__

    def slowly(self, *given, **options):
        begun.release()
        assert go_on.wait(60)
        return judge(self, *given, **options)

    monkeypatch.setattr(pipe_class, "__call__", slowly)
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(client.post, "/score", data={"text": "great"}) for _ in range(8)]
        begun.acquire()  # one is at work, one waits, and six are sent away
        refused = list(itertools.islice(as_completed(answers, timeout=60), 6))
        assert {answer.result().status_code for answer in refused} == {503}
        go_on.set()
    statuses = sorted(answer.result().status_code for answer in answers)
    assert statuses == [200, 200, 503, 503, 503, 503, 503, 503]
    assert client.post("/score", data={"text": "great"}).status_code == 200


@pytest.mark.parametrize(
    ("request_", "status", "message"),
    [
        ({}, 400, "nothing in this clip"),
        ({"files": {"clip": b"no clip"}}, 400, "clip"),
        ({"files": {"clip": b"a"}, "data": {"url": "https://a.example"}}, 400, "send one of them"),
        ({"data": {"url": str(CLIP)}}, 400, "does not begin with https://"),
        ({"data": {"url": "https://127.0.0.1/a.mp4"}}, 400, "not a public host"),
        ({"data": {"text": "a" * 10_001}}, 422, "at most 10000 characters"),
    ],
)
def test_wrong_requests(client_of, request_, status, message):
    answer = client_of().post("/score", **request_)
    assert answer.status_code == status and message in str(answer.json()["detail"])


def test_a_clip_that_is_too_large(client_of, names, monkeypatch):
    monkeypatch.setitem(names["create_app"].__globals__, "MAX_BYTES", 1000)
    client = client_of()
    assert client.post("/score", files={"clip": b"a" * 1001}).status_code == 413
    assert client.post("/score", files={"clip": b"a"}).status_code == 400
    in_parts = client.post("/score", content=iter([b"a"]), headers={"content-type": "multipart/form-data; boundary=a"})
    assert in_parts.status_code == 413 and "must tell its length" in in_parts.json()["detail"]
    both = client.post("/score", content=b"a", headers={"content-length": "1", "transfer-encoding": "chunked"})
    assert both.status_code == 413  # a server goes by the latter


def test_threads_are_left_to_refuse_on_a_large_machine(monkeypatch):
    """FastAPI has 40."""
    pytest.importorskip("fastapi")
    monkeypatch.setattr("selfmm_hf.environment.cores", lambda: 200)
    large = runpy.run_path(str(ROOT / "examples" / "serve.py"), run_name="serve")
    assert large["AT_ONCE"] + large["WAITING"] < 40


def test_a_fault_of_the_service_is_a_500(client_of, monkeypatch):
    client = client_of()

    def broken(*_, **__):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(selfmm_hf.MultimodalSentimentPipeline, "__call__", broken)
    assert client.post("/score", data={"text": "great"}).status_code == 500
    assert client.get("/health").json() == {"status": "ok"}
