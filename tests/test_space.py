"""The page on which anybody can try a model: by itself, over its API, and in a browser."""

import asyncio
import importlib
import itertools
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import tomllib
import urllib.error
import urllib.request
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType, SimpleNamespace

import fresh
import pytest
import yaml

from selfmm_hf.hub.model_folder import save_loadable
from selfmm_hf.model.pipeline_selfmm import MultimodalSentimentPipeline
from selfmm_hf.model.task_selfmm import Task

ROOT = Path(__file__).parents[1]
SPACE = ROOT / "spaces_demo"
CHROMIUM = Path("/usr/bin/chromium")


class ClipWarning(UserWarning):
    """As the pipeline's own, which is another class where its code is remote."""


class Pipe:
    """Stands in for the pipeline: returns, warns or raises what it is told."""

    model = SimpleNamespace(config=SimpleNamespace(label_range=3.0))

    def __init__(self, outcome=None, sentence=None, warning=None):
        self.outcome, self.sentence, self.warning, self.calls = outcome, sentence, warning, []

    def __call__(self, *arguments, **options):
        self.calls.append((arguments, options))
        if self.warning:
            warnings.warn(self.warning, stacklevel=2)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def disagreement(self, result):
        return self.sentence

    def draw(self, result, title=None):
        return "<svg></svg>"


def result(transcript=None, **unimodal):
    absent = {name: f"no {name}" for name, value in unimodal.items() if value is None}
    return {
        "score": 0.5, "label": "neutral", "label_range": 3.0, "unimodal": unimodal, "absent": absent,
        "present": {name: value is not None for name, value in unimodal.items()}, "transcript": transcript,
        "remarks": [],
    }  # fmt: skip


@pytest.fixture(scope="module")
def gradio():
    return pytest.importorskip("gradio", minversion="6.0", reason="needs gradio 6: pip install 'selfmm-hf[demo]'")


@pytest.fixture(scope="module")
def app(gradio):
    sys.path.insert(0, str(SPACE))
    try:
        yield importlib.import_module("app")
    finally:
        sys.path.remove(str(SPACE))


@pytest.fixture(scope="module")
def uploads(app):
    return importlib.import_module("uploads")


# Sweeps often, so that tests need not wait.
SERVE = """
import app, uploads
uploads.SWEEP_SECONDS = 0.2
app.main()
"""
# Judges clips when the file `go` is there, and words at once.
SERVE_SLOWLY = """
import time
from pathlib import Path
from types import SimpleNamespace
import app

class Pipe:
    model = SimpleNamespace(config=SimpleNamespace(label_range=3.0))

    def __call__(self, given, **options):
        while isinstance(given, str) and not Path("go").exists():
            time.sleep(0.05)
        found = {"text": True}
        return {"unimodal": {"text": 1.0}, "present": found, "absent": {}, "transcript": None, "remarks": []}

    def disagreement(self, result):
        return "judged"

    def draw(self, result):
        return "<svg></svg>"

app.load = lambda model: Pipe()
app.WAITING = 3
app.main()
"""


@contextmanager
def serving(folder, script, model):
    """The page as it is served from `folder`: its address, its folder of uploads, its log and what a visitor can do."""
    for name in ("app.py", "uploads.py"):
        shutil.copy(SPACE / name, folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "SELFMM_MODEL": str(model), "HF_HUB_OFFLINE": "1", "GRADIO_SERVER_PORT": str(port),
        "GRADIO_TEMP_DIR": str(folder / "uploads"), "GRADIO_SERVER_NAME": "127.0.0.1",
    }  # fmt: skip
    log = folder / "log"
    with log.open("w") as output:
        command = [fresh.python(), "-c", script]
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)
        try:
            address = f"http://127.0.0.1:{port}"
            _wait_for(address, server, log)
            yield SimpleNamespace(address=address, uploads=folder / "uploads" / "selfmm", log=log)
        finally:
            server.terminate()
            server.wait(timeout=30)


@pytest.fixture(scope="module")
def served(gradio, model_folder, tmp_path_factory):
    """The page with a model and a clip that is one of its examples; an earlier process has left an upload."""
    write_clip = pytest.importorskip("test_decoding").write_clip
    folder = tmp_path_factory.mktemp("space")
    (folder / "examples").mkdir()
    clip = write_clip(folder / "examples" / "someone.mp4", "libx264", "aac", seconds=3.0)
    clip.with_suffix(".txt").write_text("the movie was good")
    true = {"name": "Somebody hooting", "score": -0.5, "unimodal": {"text": 2.0, "audio": -1.5}}
    clip.with_suffix(".json").write_text(json.dumps(true))
    (model_folder / "README.md").write_text("---\nlicense: mit\n---\n# A model\n\n## Limits\n\nA toy to play with.\n")
    left = folder / "uploads" / "selfmm" / "ab12" / "left.mp4"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"clip")
    os.utime(left, (1, 1))
    with serving(folder, SERVE, model_folder) as page:
        page.clip, page.left = clip, left
        yield page


def send(page, path, body, headers=None):
    """The status of a POST, and what is answered."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = headers or {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{page.address}{path}", content, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


MULTIPART = {"Content-Type": "multipart/form-data; boundary=limit"}


def parts(content, name):
    head = f'--limit\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    return head.encode() + content + b"\r\n--limit--\r\n"


def sent_clip(page, clip, name="mine.mp4"):
    """Uploads a clip; where it lies."""
    status, answer = send(page, "/gradio_api/upload", parts(clip.read_bytes(), name), MULTIPART)
    assert status == 200
    return Path(json.loads(answer)[0])


def functions(page):
    with urllib.request.urlopen(f"{page.address}/config", timeout=30) as answer:
        return json.load(answer)["dependencies"]


def asked(page, session, clip, words=""):
    """Puts a question into the queue: the status."""
    number = next(one["id"] for one in functions(page) if one["api_name"] == "predict")
    given = [clip and {"path": str(clip), "meta": {"_type": "gradio.FileData"}}, words]
    body = {"data": given, "fn_index": number, "session_hash": session}
    return send(page, "/gradio_api/queue/join", body)[0]


def answered(page, session):
    """Waits for the answer to it."""
    with urllib.request.urlopen(f"{page.address}/gradio_api/queue/data?session_hash={session}", timeout=120) as answer:
        for line in answer:
            message = json.loads(line.removeprefix(b"data:")) if line.strip() else {}
            if message.get("msg") == "process_completed":
                return message
    raise AssertionError("no answer")


def opened_and_closed(page, session):
    """What a browser does for as long as its page is open."""
    with urllib.request.urlopen(f"{page.address}/gradio_api/heartbeat/{session}", timeout=30) as heartbeat:
        assert b"ALIVE" in heartbeat.readline()


def until(condition):
    for _ in range(600):
        if condition():
            return True
        time.sleep(0.1)
    return False


def _wait_for(address, server, log):
    for _ in range(600):
        assert server.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"{address} does not answer: {log.read_text()}")


@pytest.fixture(scope="module")
def browser():
    if not os.environ.get("SELFMM_TEST_SPACE"):
        pytest.skip("the Space is tested in a real browser by `make test-space`")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    if not CHROMIUM.is_file():
        pytest.skip(f"needs {CHROMIUM}")
    with playwright.sync_playwright() as tools:
        chromium = tools.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, served, tmp_path):
    """Opens the page; what it looks like at the end lies in `tmp_path`."""
    opened = []

    def make(width=1200, height=900, emptied=True, **options):
        page = browser.new_page(viewport={"width": width, "height": height}, **options)
        page.set_default_timeout(30_000)
        opened.append(page)
        page.goto(served.address)
        page.get_by_role("button", name="What does it say?").wait_for()
        if emptied:
            page.get_by_label("Clear").or_(page.get_by_label("Remove")).first.click()
            page.get_by_placeholder("the movie was wonderful").fill("")
            page.locator("input[type=file]").first.wait_for(state="attached")
        return page

    yield make
    for number, page in enumerate(opened):
        page.screenshot(path=tmp_path / f"page{number}.png", full_page=True)
        page.close()


PICTURE = ".picture svg[role=img]"


def upload(page, file):
    page.locator("input[type=file]").first.set_input_files(file)
    page.get_by_label("Clear").or_(page.get_by_label("Remove")).first.wait_for()


def ask(page):
    page.get_by_role("button", name="What does it say?").click()


def test_the_space_is_described_as_the_hub_wants_it():
    front = yaml.safe_load((SPACE / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    assert front["sdk"] == "gradio" and front["license"] == "mit" and len(front["short_description"]) <= 60
    assert re.fullmatch(r"6\.\d+\.\d+", front["sdk_version"]) and (SPACE / front["app_file"]).is_file()
    source = (SPACE / "app.py").read_text(encoding="utf-8")
    assert f'or "{front["models"][0]}"' in source  # the model is named in one place of the code


def test_the_requirements_are_those_of_the_package():
    lines = (SPACE / "requirements.txt").read_text(encoding="utf-8").splitlines()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    core = [line for line in project["dependencies"] if line.startswith(("torch", "transformers"))]
    expected = sorted(core + project["optional-dependencies"]["clips"])
    assert [line for line in lines if not line.startswith("#")] == expected


def test_the_container_has_what_it_starts(app):
    """No Docker is needed: what is copied and run is there, and its options and variables are those that are read."""
    lines = (SPACE / "Dockerfile").read_text(encoding="utf-8").splitlines()
    said = [line.split(" ", 1) for line in lines if line and not line.startswith("#")]
    does = {name: [rest for kind, rest in said if kind == name] for name, _ in said}
    assert does["FROM"] == ["python:3.12-slim"]  # which all packages support; the Space runs on the same
    front = yaml.safe_load((SPACE / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    assert front["python_version"] == "3.12"
    copied = {name for line in does["COPY"] for name in line.split()[:-1]}
    assert copied == {path.name for path in SPACE.iterdir()} - {"README.md", "Dockerfile", "__pycache__"}
    assert json.loads(*does["CMD"]) == ["python", front["app_file"]]
    (install,) = does["RUN"][:1]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f'"{next(one for one in project["optional-dependencies"]["demo"] if one.startswith("gradio"))}"' in install
    variables = dict(one.split("=") for one in does["ENV"][0].split())
    assert variables == {"GRADIO_SERVER_NAME": "0.0.0.0", "SELFMM_MODEL": "/model"}
    assert does["EXPOSE"] == ["7860"]  # Gradio's
    page = (SPACE / "README.md").read_text(encoding="utf-8")
    for line in lines[:2]:  # how to use it, as the page says
        assert line.removeprefix("# ") in page
        assert "docker run" not in line or ("--publish 7860:7860" in line and ":/model:ro" in line)


def test_uv_has_the_options_that_the_container_gives():
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if uv is None:
        pytest.skip("needs uv: pip install uv")
    told = subprocess.run([uv, "pip", "install", "--help"], capture_output=True, text=True, check=True).stdout
    command = re.search(r"uv pip install (.*)", (SPACE / "Dockerfile").read_text(encoding="utf-8"))[1]
    assert set(re.findall(r"--[\w-]+", command)) <= set(re.findall(r"--[\w-]+", told))


# Stands in for the package that comes with a Space.
SPACES = """
lent = False

def GPU(duration):
    def decorate(function):
        def call(*arguments):
            global lent
            lent = True
            print(f"a GPU for {duration} s", flush=True)
            try:
                return function(*arguments)
            finally:
                lent = False
        return call
    return decorate
"""


@pytest.mark.parametrize("lending", [True, False], ids=["ZeroGPU", "other hardware"])
def test_zero_gpu_lends_a_gpu_to_the_model_and_to_speech_recognition(app, tmp_path, monkeypatch, lending):
    spaces, moves, devices = ModuleType("spaces"), [], []
    exec(SPACES, spaces.__dict__)
    monkeypatch.setitem(sys.modules, "spaces", spaces)
    monkeypatch.setenv("SPACES_ZERO_GPU", str(lending).lower())
    spec = importlib.util.spec_from_file_location("app_on_zero_gpu", SPACE / "app.py")
    there = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(there)

    class Lent(Pipe):
        model = SimpleNamespace(config=Pipe.model.config, to=lambda where: moves.append((spaces.lent, str(where))))
        transcriber = SimpleNamespace(model=model)
        processor = SimpleNamespace(feature_extractor=SimpleNamespace(max_seconds=600))

    pipe = Lent(result(text=1.0))
    monkeypatch.setattr(there, "pipeline", lambda *_, device, **options: devices.append(device) or pipe)
    assert there.load("some/body") is pipe and devices == ["cpu" if lending else None]
    there.judge(pipe, None, "so")
    assert moves == []
    there.judge_of_clips({"one": pipe}.get)("one", None, "so", None)
    assert moves == ([(True, "cuda:0")] * 2 if lending else [])
    assert not lending or str(pipe.device) == str(pipe.transcriber.device) == "cuda:0"


@pytest.mark.parametrize(
    ("clip", "words", "message"),
    [
        (None, "", "Upload or record a clip, or type some words."),
        (None, None, "Upload or record a clip, or type some words."),
        ("", "  \n ", "Upload or record a clip, or type some words."),
        (None, "x" * 2001, "longer than 2000 letters"),
        ("/nowhere/clip.mp4", "", "has been deleted"),
    ],
)
def test_what_cannot_be_judged_never_reaches_the_model(app, gradio, clip, words, message):
    pipe = Pipe()
    with pytest.raises(gradio.Error, match=message):
        app.judge(pipe, clip, words)
    assert pipe.calls == []


def test_what_the_pipeline_refuses_is_told_escaped(app, gradio):
    with pytest.raises(gradio.Error) as caught:
        app.judge(Pipe(ValueError("'<img src=x>.mp4' is empty")), None, "so")
    assert caught.value.message == "'&lt;img src=x&gt;.mp4' is empty"
    assert caught.value.print_exception is False
    with pytest.raises(RuntimeError):  # a fault of the program is none of the user's: Gradio shows no more than "Error"
        app.judge(Pipe(RuntimeError("secret")), None, "so")


def test_a_clip_and_words_go_to_the_pipeline(app, tmp_path):
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"clip")
    pipe = Pipe(result(text=1.0, audio=1.0))
    app.judge(pipe, str(clip), " i loved it ")
    app.judge(pipe, str(clip), "")
    app.judge(pipe, None, "i loved it")
    options = {"window_seconds": 2.0, "max_work_seconds": 60}
    assert pipe.calls == [
        ((str(clip),), {"text": "i loved it", **options}),
        ((str(clip),), {"text": None, **options}),
        (({"text": "i loved it"},), {}),
    ]


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("scores", ["estimates valence, arousal.", "scales: valence -1 to 1, arousal 1 to 5", "separate scores"]),
        ("one_sided", ["estimates intensity.", "scales: intensity 0 to 3"]),
        ("emotions", ["which of these it shows: neutral, happy, sad, angry.", "above 50%", "separate probabilities"]),
        ("classes", ["which of these it is: neutral, happy, sad, angry.", "add up to 100%"]),
    ],
)
def test_what_is_shown_follows_the_task_of_the_model(app, model_of, task, said):
    model, processor = model_of(task)
    pipe = MultimodalSentimentPipeline(model, processor=processor)
    text = "".join(app.explained(model.config))
    assert all(one in text for one in said) and "negative it is" not in text and "windows of 2 seconds" in text
    shown, numbers = app.judge(pipe, None, "the movie was good")
    assert "<svg" in shown and "Only the words could be judged" in shown
    assert set(numbers["scores"]) == set(numbers["unimodal"]["text"]) == set(model.config.task.names)
    assert "+3.0" not in app.judge(pipe, None, "the movie was good", "The true labels: together +3.0.")[0]


@pytest.mark.parametrize(
    ("modalities", "said"),
    [(["text", "audio", "eye"], "**separate scores for the words, the voice and the eye**"), (["text"], "")],
)
def test_a_model_is_said_to_judge_its_own_modalities(app, modalities, said):
    introduction, meaning = app.explained(SimpleNamespace(task=None, label_range=3.0, modalities=modalities))
    assert said in introduction and ("separate" in introduction) == ("when they disagree" in meaning) == bool(said)


def test_the_page_of_a_model_of_emotions_and_of_another_to_choose(gradio, app, model_of, tmp_path):
    save_loadable(tmp_path / "model", *model_of("emotions"))
    save_loadable(tmp_path / "scores", *model_of("scores"))
    with serving(tmp_path, SERVE, f"{tmp_path / 'model'}, {tmp_path / 'scores'}") as page:
        with urllib.request.urlopen(f"{page.address}/config", timeout=30) as answer:
            text = answer.read().decode()
        assert "which of these it shows: neutral, happy, sad, angry." in text and "Full bars are" in text
        (words,) = [one for one in functions(page) if one["api_name"] == "predict_words"]

        def asked_of(model):
            data = ["the movie was good", str(tmp_path / model)]
            body = {"data": data, "fn_index": words["id"], "session_hash": "reader"}
            status, answer = send(page, "/gradio_api/run/predict", body)
            assert status == 200
            return json.loads(answer)["data"]

        shown, numbers = asked_of("model")
        assert "<svg" in shown and set(numbers["scores"]) == {"neutral", "happy", "sad", "angry"}
        assert set(asked_of("scores")[1]["scores"]) == {"valence", "arousal"}


@pytest.mark.parametrize("task", [{}, {"task": Task(scales=((-3.0, 3.0),))}])
def test_the_page_of_one_score_whether_its_code_knows_tasks_or_not(app, task):
    introduction, meaning = app.explained(SimpleNamespace(label_range=3.0, **task))
    assert "how positive or negative it is." in introduction and "**-3** (very negative) and **+3**" in meaning


@pytest.mark.parametrize(
    ("unimodal", "sentence", "expected"),
    [
        (
            {"text": 2.0, "audio": -1.0},
            "The words are <b>, but ...",
            "The words are &lt;b&gt;, but ... Together they come out neutral, because they pull in opposite "
            "directions.",
        ),
        (
            {"text": 2.0, "audio": 1.0, "vision": 1.0},
            None,
            "The words, the voice and the face do not clearly disagree.",
        ),
        ({"text": None, "vision": 1.0}, None, "Only the face could be judged: nothing to compare."),
    ],
)
def test_the_sentence_comes_first(app, unimodal, sentence, expected):
    shown, numbers = app.judge(Pipe(result(**unimodal), sentence), None, "so")
    assert shown.startswith(f'<p class="said">{expected}</p>') and numbers["unimodal"] == unimodal


def test_what_was_read_and_what_went_wrong_is_shown(app, tmp_path):
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"clip")
    cut = ClipWarning("'clip.mp4' is cut off: only a part is used")
    shown, _ = app.judge(Pipe(result("<i>hello", text=1.0), warning=cut), str(clip), "")
    assert "&lt;i&gt;hello" in shown and "only a part is used" in shown and "Type what is said" not in shown
    shown, _ = app.judge(Pipe(result(text=None, audio=1.0), warning=UserWarning("inner matter")), str(clip), "")
    assert "Type what is said in the clip" in shown and "inner matter" not in shown
    told = result(text=1.0) | {"remarks": ["4 of 5 <words> are unknown.", "It was long."]}
    shown, _ = app.judge(Pipe(told, warning=ClipWarning("It was long.")), str(clip), "so")
    assert "4 of 5 &lt;words&gt; are unknown." in shown and shown.count("It was long.") == 1
    shown, _ = app.judge(Pipe(result(text=1.0) | {"face_share": 0.75}), None, "so")
    assert "A face is seen in 75% of the frames." in shown
    shown, _ = app.judge(Pipe(result(text=1.0) | {"face_share": None}), None, "so")
    assert "A face is seen" not in shown


def test_the_limits_are_those_of_the_model_card(app, tmp_path):
    (tmp_path / "README.md").write_text(
        "---\nlicense: mit\n---\n# A\n\n## Limits\n\nA toy.\n\nTruly.\n\n## More\n\nNo.\n"
    )
    assert app.limits(str(tmp_path)) == "A toy.\n\nTruly."
    (tmp_path / "README.md").write_text("# A\n")
    assert app.limits(str(tmp_path)) == app.NO_CARD
    assert app.limits(str(tmp_path / "nowhere")) == app.NO_CARD


def test_without_a_model_it_says_which_variable_names_one(app):
    with pytest.raises(SystemExit, match="SELFMM_MODEL"):
        app.load("NAME/selfmm-demo")


def test_words_are_judged_beside_a_clip_which_hears_no_warning_of_theirs(app, tmp_path):
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"clip")
    words_are_judged, clip_is_begun = threading.Event(), threading.Event()

    class Slow(Pipe):
        def __call__(self, *arguments, **options):
            if isinstance(arguments[0], str):
                clip_is_begun.set()
                assert words_are_judged.wait(60)
            return super().__call__(*arguments, **options)

    of_clip = Slow(result(text=1.0), warning=ClipWarning("of the clip"))
    of_words = Slow(result(text=1.0), warning=ClipWarning("of the words"))
    shown = []
    thread = threading.Thread(target=lambda: shown.append(app.judge(of_clip, str(clip), "so")[0]))
    thread.start()
    assert clip_is_begun.wait(60)
    app.judge(of_words, None, "so")
    words_are_judged.set()
    thread.join(60)
    assert "of the clip" in shown[0] and "of the words" not in shown[0]


def test_what_is_old_is_swept(uploads, tmp_path):
    for name in ("old/a.mp4", "new/b.mp4", "both/c.mp4", "both/d.mp4", "tmp1", "tmp2"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"clip")
    (tmp_path / "outside").mkdir()
    (tmp_path / "swept").mkdir()
    kept = tmp_path / "outside" / "kept.mp4"
    kept.write_bytes(b"clip")
    (tmp_path / "swept" / "link").symlink_to(kept)
    for name in ("old/a.mp4", "both/c.mp4", "tmp1", "outside/kept.mp4"):
        os.utime(tmp_path / name, (1, 1))
    shutil.move(tmp_path / "outside", tmp_path.parent / "outside")
    uploads.sweep(tmp_path, 600)
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if not path.is_dir()}
    assert found == {"new/b.mp4", "both/d.mp4", "tmp2", "swept/link"}
    os.utime(tmp_path / "old", (1, 1))
    os.utime(tmp_path / "swept" / "link", (1, 1), follow_symlinks=False)
    folders_vanish = uploads.entries(tmp_path)
    next(folders_vanish)
    shutil.rmtree(tmp_path / "both")
    assert tmp_path / "new" in set(folders_vanish)
    uploads.sweep(tmp_path, 600)
    assert not (tmp_path / "old").exists() and not (tmp_path / "swept" / "link").is_symlink()
    assert (tmp_path.parent / "outside" / "kept.mp4").exists()


def test_the_doorkeeper(uploads, tmp_path, monkeypatch):
    def post(path, *pieces, method="POST"):
        """What the page gets of a request, and the status that the visitor gets."""
        got, told, sending = [], [], iter(pieces)

        async def page(scope, receive, send):
            for _ in pieces:
                got.append(await receive())
            await send({"type": "http.response.start", "status": 200})

        async def receive():
            return {"type": "http.request", "body": next(sending)}

        async def send(message):
            told.append(message)

        scope = {"type": "http", "method": method, "path": path}
        asyncio.run(uploads.Doorkeeper(page, tmp_path, 1)(scope, receive, send))
        return [one["type"] for one in got], told[0]["status"]

    assert post("/gradio_api/upload", b"a" * 1_900_000) == (["http.request"], 200)
    two = ["http.request", "http.disconnect"]  # several files at once, each of which is small enough
    assert post("/gradio_api/upload", b"a" * 1_000_000, b"a" * 1_100_000) == (two, 200)
    assert post("/gradio_api/process_recording", b"a") == ([], 404)
    assert post("/gradio_api/process_recording", method="GET") == ([], 200)
    (tmp_path / "clip.mp4").write_bytes(b"clip")
    assert post("/gradio_api/upload", b"a") == (["http.request"], 200)
    monkeypatch.setattr(uploads, "MAX_MEGABYTES", 1e-6)
    assert post("/gradio_api/upload", b"a") == ([], 503)
    assert post("/prefix/gradio_api/queue/join", b"a") == (["http.request"], 200)  # what is not uploaded finds room


def test_over_the_api(served, tmp_path):
    client_of = pytest.importorskip("gradio_client")
    client = client_of.Client(served.address, verbose=False, download_files=str(tmp_path))
    try:
        endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
        assert list(endpoints) == ["/predict"]
        clip = client_of.handle_file(str(served.clip))
        shown, numbers = client.predict(clip, "the movie was good", api_name="/predict")
        assert "<svg" in shown and numbers["transcript"] == "the movie was good"
        assert numbers["present"] == {"text": True, "audio": True, "vision": False}
        assert [piece["begin"] for piece in numbers["timeline"]] == [0.0, 2.0]
        shown, numbers = client.predict(None, "the movie was good", api_name="/predict")
        assert numbers["present"] == {"text": True, "audio": False, "vision": False}
        with pytest.raises(Exception, match="Upload or record a clip"):
            client.predict(None, "", api_name="/predict")
    finally:
        client.close()


def test_nothing_can_be_called_but_predict(served):
    mine = sent_clip(served, served.clip)
    assert asked(served, "victim", mine) == 200 and answered(served, "victim")["success"]
    with urllib.request.urlopen(f"{served.address}/gradio_api/info", timeout=30) as answer:
        told = json.load(answer)
    assert list(told["named_endpoints"]) == ["/predict"] and not told["unnamed_endpoints"]
    names = [one["api_name"] for one in functions(served)]
    for name, way in itertools.product(["forget", *names], ("call", "run", "api")):
        send(served, f"/gradio_api/{way}/{name}", {"data": [], "session_hash": "victim"})
    for number in range(len(names)):
        body = {"data": [], "fn_index": number, "session_hash": "victim"}
        for path in ("call/forget", "run/forget", "queue/join"):
            send(served, f"/gradio_api/{path}", body)
    assert asked(served, "after", mine) == 200 and answered(served, "after")["success"]  # all of these are done by now
    assert mine.is_file()
    for path in (
        "/run/forget", "/monitoring", "/monitoring/summary", "/gradio_api/monitoring", "/gradio_api/monitoring/summary",
        "/gradio_api/process_recording", "/gradio_api/component_server", "/gradio_api/api/predict",
        "/gradio_api/vibe-edit",
    ):  # fmt: skip
        assert send(served, path, {"data": []})[0] in (404, 405)
    for path in ("/monitoring", "/monitoring/summary", "/monitoring/x", "/gradio_api/monitoring"):
        with pytest.raises(urllib.error.HTTPError, match=r"40[34]") as caught:
            urllib.request.urlopen(f"{served.address}{path}", timeout=30)
        caught.value.close()
    opened_and_closed(served, "victim")  # as the page itself does
    assert until(lambda: not mine.exists())


def test_two_visitors_with_the_same_file_do_not_share_its_fate(served):
    mine, theirs = sent_clip(served, served.clip), sent_clip(served, served.clip)
    assert mine != theirs and mine.name == theirs.name == "mine.mp4"
    for session, clip in (("me", mine), ("they", theirs)):
        assert asked(served, session, clip) == 200 and answered(served, session)["success"]
    opened_and_closed(served, "me")
    assert until(lambda: not mine.exists())
    assert asked(served, "they", theirs) == 200 and answered(served, "they")["success"]
    opened_and_closed(served, "they")
    assert until(lambda: not theirs.exists())


def test_an_upload_named_like_an_example_is_an_upload(served):
    mine = sent_clip(served, served.clip, served.clip.name)
    assert asked(served, "namesake", mine) == 200 and answered(served, "namesake")["success"]
    assert asked(served, "namesake", served.clip) == 200 and answered(served, "namesake")["success"]
    opened_and_closed(served, "namesake")
    assert until(lambda: not mine.exists())
    assert served.clip.is_file()


def test_the_true_labels_are_those_of_the_words_of_the_example(served):
    for words, true in (("the movie was good", True), ("the movie was bad", False)):
        assert asked(served, "curious", served.clip, words) == 200
        shown = answered(served, "curious")["output"]["data"][0]
        assert ("The true labels of this example" in shown) is true and words in shown


def test_what_broke_off_or_was_left_is_swept(served):
    assert until(lambda: not served.left.exists())
    before = set(served.uploads.iterdir())
    host, port = served.address.removeprefix("http://").split(":")
    head = f"POST /gradio_api/upload HTTP/1.1\r\nHost: {host}\r\nContent-Length: 9000000\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in MULTIPART.items())
    with socket.create_connection((host, int(port))) as broken:
        broken.sendall(head.encode() + b"\r\n" + parts(b"a" * 1_000_000, "mine.mp4")[:-20])
        assert until(lambda: set(served.uploads.iterdir()) - before)
    (left,) = set(served.uploads.iterdir()) - before
    assert left.is_file()

    def swept():
        with suppress(FileNotFoundError):  # the page may still write the last of what came, and make it young again
            os.utime(left, (time.time() - 1000,) * 2)
        return not left.exists()

    assert until(swept)


def test_words_do_not_wait_for_clips(gradio, app, tmp_path):
    """Nor do they take the GPU that ZeroGPU lends to clips."""
    (tmp_path / "spaces.py").write_text(SPACES)
    with serving(tmp_path, SERVE_SLOWLY, "some/body") as page:
        (tmp_path / "clip.mp4").write_bytes(b"clip")
        clip = sent_clip(page, tmp_path / "clip.mp4")
        statuses = []
        until(lambda: statuses.append(asked(page, f"visitor{len(statuses)}", clip)) or statuses[-1] != 200)
        assert statuses[-1] == 503 and statuses.count(200) in (3, 4)  # one is being judged, three wait
        (words,) = [one for one in functions(page) if one["api_name"] == "predict_words"]
        body = {"data": ["the movie was good"], "fn_index": words["id"], "session_hash": "reader"}
        status, answer = send(page, "/gradio_api/run/predict", body)
        assert status == 200 and "<svg>" in json.loads(answer)["data"][0]
        (tmp_path / "go").touch()
        for number in range(statuses.count(200)):
            assert answered(page, f"visitor{number}")["success"]
        assert page.log.read_text().count("a GPU for 60 s") == statuses.count(200)


def test_files_and_addresses_of_the_server_are_not_for_visitors(served):
    with socket.create_server(("127.0.0.1", 0)) as inner:
        inner.settimeout(0.5)
        address = f"http://127.0.0.1:{inner.getsockname()[1]}/clip.mp4"
        for place in (str(served.log), f"file://{served.log}", address):
            body = {"data": [{"path": place, "url": place, "meta": {"_type": "gradio.FileData"}}, ""]}
            headers = {"Content-Type": "application/json"}
            url = f"{served.address}/gradio_api/call/predict"
            request = urllib.request.Request(url, json.dumps(body).encode(), headers)
            with urllib.request.urlopen(request, timeout=30) as answer:
                event = json.load(answer)["event_id"]
            with urllib.request.urlopen(f"{url}/{event}", timeout=30) as answer:
                told = answer.read().decode()
            assert "event: error" in told and "log" not in told
        with pytest.raises(TimeoutError):
            inner.accept()


def in_view(page, selector):
    box = page.locator(selector).bounding_box()
    return box is not None and -1 <= box["y"] < page.viewport_size["height"] - 100


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (375, 700)])
def test_the_page_opens_with_an_answer_and_a_click_below_leads_to_it(page, served, width, height):
    opened = page(width, height, emptied=False)
    opened.locator(PICTURE).wait_for()
    opened.locator("video").first.wait_for()
    truth = "The true labels of this example: together \N{MINUS SIGN}0.5, words +2.0, voice \N{MINUS SIGN}1.5."
    assert opened.get_by_text(truth).is_visible()
    paper = opened.get_by_role("link", name="The paper", exact=True)
    assert paper.get_attribute("href").startswith("https://arxiv.org/")
    opened.get_by_role("button", name="the food was awful").click()
    opened.locator(".spoken").get_by_text("the food was awful").wait_for()
    assert until(lambda: opened.wait_for_timeout(100) or in_view(opened, ".said"))
    assert not opened.get_by_text("The true labels").is_visible()
    opened.evaluate("scrollTo({ top: 250, behavior: 'instant' })")
    opened.get_by_text("Somebody hooting").click()
    opened.get_by_text(truth).wait_for()
    assert until(lambda: opened.wait_for_timeout(100) or in_view(opened, ".said"))


@pytest.mark.parametrize(("width", "height"), [(1200, 900), (375, 700)])
def test_a_click_on_the_timeline_plays_the_clip_from_there(page, width, height):
    opened = page(width, height, emptied=False)
    line = opened.locator(".picture [data-begin]")
    line.scroll_into_view_if_needed()
    box = line.bounding_box()
    opened.mouse.click(box["x"] + box["width"] * 2 / 3, box["y"] + box["height"] / 2)
    played = "document.querySelector('.clip video').currentTime"
    assert until(lambda: opened.wait_for_timeout(100) or 1.9 < opened.evaluate(played) <= 3.1)
    assert until(lambda: opened.wait_for_timeout(100) or in_view(opened, ".clip video"))


def test_a_clip_is_uploaded_judged_and_forgotten(page, served, tmp_path):
    opened = page()
    assert opened.get_by_text("A toy to play with.").is_visible()  # of the model card
    mine = tmp_path / "mine.mp4"
    shutil.copy(served.clip, mine)
    upload(opened, mine)
    ask(opened)
    opened.get_by_text("Only the voice could be judged").wait_for()
    assert opened.get_by_text("Type what is said in the clip").is_visible()
    assert opened.locator(PICTURE).get_by_text("no face", exact=True).is_visible()
    assert opened.locator(PICTURE).get_by_text("seconds", exact=True).is_visible()
    assert list(served.uploads.rglob("mine.mp4"))
    opened.get_by_placeholder("the movie was wonderful").fill(
        "the movie was good"
    )  # the same clip once more, with words
    ask(opened)
    opened.locator(".spoken").get_by_text("the movie was good").wait_for()
    opened.screenshot(path=tmp_path / "judged.png", full_page=True)
    opened.goto("about:blank")
    for _ in range(100):
        if not list(served.uploads.rglob("mine.mp4")):
            break
        opened.wait_for_timeout(200)
    assert not list(served.uploads.rglob("mine.mp4"))


def test_the_words_of_an_example_leave_with_its_clip(page, served, tmp_path):
    opened = page(emptied=False)
    words, mine = opened.get_by_placeholder("the movie was wonderful"), tmp_path / "mine.mp4"
    shutil.copy(served.clip, mine)
    assert words.input_value() == "the movie was good"
    opened.get_by_label("Clear").or_(opened.get_by_label("Remove")).first.click()
    assert until(lambda: opened.wait_for_timeout(100) or words.input_value() == "")
    opened.get_by_role("button", name="the food was awful").click()
    opened.locator(".spoken").get_by_text("the food was awful").wait_for()
    upload(opened, mine)
    assert until(lambda: opened.wait_for_timeout(100) or words.input_value() == "")
    words.fill("my own words")
    opened.get_by_label("Clear").or_(opened.get_by_label("Remove")).first.click()
    upload(opened, mine)
    assert words.input_value() == "my own words"


def test_words_only(page):
    opened = page()
    opened.get_by_placeholder("the movie was wonderful").fill("<b>the movie</b> was good")
    opened.get_by_placeholder("the movie was wonderful").press("Enter")
    opened.locator(".spoken").get_by_text("<b>the movie</b> was good").wait_for()
    assert opened.locator(PICTURE).get_by_text("no picture", exact=True).is_visible()
    opened.get_by_role("button", name="the food was awful").click()  # an example
    opened.locator(".spoken").get_by_text("the food was awful").wait_for()
    opened.get_by_placeholder("the movie was wonderful").fill("")
    ask(opened)
    opened.get_by_role("alert").get_by_text("Upload or record a clip, or type some words.").wait_for()


def test_an_example_is_judged_by_a_click_and_again(page, served):
    for _ in range(2):  # the first visitor's leaving does not take it away
        opened = page()
        opened.get_by_text("Somebody hooting").click()
        opened.locator(".spoken").get_by_text("the movie was good").wait_for()
        assert opened.locator(PICTURE).get_by_text("no face", exact=True).is_visible()
        opened.goto("about:blank")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("notes.mp4", b"I am a text.\n" * 100, "'notes.mp4' is not a sound or video file"),
        ("empty.mp4", b"", "'empty.mp4' is empty (0 bytes)"),
        ("long.mp4", None, "lasts 25.0 s, longer than the 20 s that are allowed"),
    ],
)
def test_a_bad_file_gives_a_clear_message(page, served, tmp_path, name, content, message):
    from test_decoding import write_clip

    file = tmp_path / name
    if content is None:
        write_clip(file, "libx264", "aac", seconds=25.0, fps=1)
    else:
        file.write_bytes(content)
    logged = len(served.log.read_text())
    opened = page()
    upload(opened, file)
    ask(opened)
    opened.get_by_text(message).last.wait_for()
    opened.get_by_text("The result will appear here.").wait_for()  # and none of the clip before
    opened.screenshot(path=tmp_path / "refused.png")
    assert "Traceback" not in opened.content() and "Traceback" not in served.log.read_text()[logged:]
    # The page goes on working.
    opened.reload()
    opened.get_by_role("button", name="the food was awful").click()
    opened.locator(".spoken").get_by_text("the food was awful").wait_for()


def luminance(colour):
    red, green, blue = (int(part) / 255 for part in re.findall(r"\d+", colour)[:3])
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_by_day_and_by_night(page, scheme):
    opened = page(375, 700, color_scheme=scheme)
    opened.get_by_role("button", name="the food was awful").click()
    opened.locator(".spoken").get_by_text("the food was awful").wait_for()
    assert opened.evaluate("document.documentElement.scrollWidth") <= 375
    box = opened.locator(PICTURE).bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 375 and box["width"] > 330
    style = "element => getComputedStyle(element)"
    letters = luminance(opened.locator(f"{PICTURE} text").first.evaluate(f"{style}.fill"))
    paper = luminance(opened.locator("body").evaluate(f"{style}.backgroundColor"))
    assert (letters - paper > 0.6) if scheme == "dark" else (paper - letters > 0.6)
