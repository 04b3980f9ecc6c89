"""The page on which anybody can try a model: by itself, over its API, and in a browser."""

import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import tomllib
import urllib.request
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

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


if not os.environ.get("SELFMM_TEST_SPACE"):
    pytest.skip("the Space is tested in a real browser by `make test-space`", allow_module_level=True)


@pytest.fixture(scope="module")
def gradio():
    return pytest.importorskip("gradio", minversion="6.0", reason="needs gradio 6: pip install 'selfmm-hf[demo]'")


@pytest.fixture(scope="module")
def app(gradio):
    spec = importlib.util.spec_from_file_location("space_app", SPACE / "app.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def served(gradio, model_folder, tmp_path_factory):
    """The page as it is served: its address, its folder of uploads, and a clip that is one of its examples."""
    write_clip = pytest.importorskip("test_decoding").write_clip
    folder = tmp_path_factory.mktemp("space")
    (folder / "examples").mkdir()
    shutil.copy(SPACE / "app.py", folder)
    clip = write_clip(folder / "examples" / "someone.mp4", "libx264", "aac", seconds=3.0)
    clip.with_suffix(".txt").write_text("the movie was good")
    (model_folder / "README.md").write_text("---\nlicense: mit\n---\n# A model\n\n## Limits\n\nA toy to play with.\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "SELFMM_MODEL": str(model_folder), "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(folder / "modules"),
        "GRADIO_SERVER_PORT": str(port), "GRADIO_TEMP_DIR": str(folder / "uploads"), "GRADIO_SERVER_NAME": "127.0.0.1",
    }  # fmt: skip
    log = folder / "log"
    with log.open("w") as output:
        server = subprocess.Popen([sys.executable, "app.py"], cwd=folder, env=environment, stdout=output, stderr=output)
        try:
            address = f"http://127.0.0.1:{port}"
            _wait_for(address, server, log)
            yield SimpleNamespace(address=address, uploads=folder / "uploads", clip=clip, log=log)
        finally:
            server.terminate()
            server.wait(timeout=30)


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

    def make(width=1200, height=900, **options):
        page = browser.new_page(viewport={"width": width, "height": height}, **options)
        page.set_default_timeout(30_000)
        opened.append(page)
        page.goto(served.address)
        page.get_by_role("button", name="What does it say?").wait_for()
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
    assert "selfmm_hf" not in source  # a user has no more than transformers


def test_the_requirements_are_those_of_the_package():
    lines = (SPACE / "requirements.txt").read_text(encoding="utf-8").splitlines()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    core = [line for line in project["dependencies"] if line.startswith(("torch", "transformers"))]
    expected = sorted(core + project["optional-dependencies"]["clips"])
    assert [line for line in lines if not line.startswith("#")] == expected


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
    assert pipe.calls == [
        ((str(clip),), {"text": "i loved it", "window_seconds": 2.0}),
        ((str(clip),), {"text": None, "window_seconds": 2.0}),
        (({"text": "i loved it"},), {}),
    ]


@pytest.mark.parametrize(
    ("unimodal", "sentence", "expected"),
    [
        ({"text": 2.0, "audio": -1.0}, "The words are <b>, but ...", "The words are &lt;b&gt;, but ..."),
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
    shown, _ = app.judge(Pipe(told, warning=ClipWarning("It was long.")), None, "so")
    assert "4 of 5 &lt;words&gt; are unknown." in shown and shown.count("It was long.") == 1
    shown, _ = app.judge(Pipe(result(text=1.0) | {"face_share": 0.75}), None, "so")
    assert "A face is seen in 75% of the picture." in shown
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


def test_without_a_model_it_says_which_variable_names_one(app, monkeypatch):
    monkeypatch.setattr(app, "MODEL", "NAME/selfmm-demo")
    with pytest.raises(SystemExit, match="SELFMM_MODEL"):
        app.load()


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


def test_a_clip_is_uploaded_judged_and_forgotten(page, served, tmp_path):
    opened = page()
    assert opened.get_by_text("A toy to play with.").is_visible()  # of the model card
    mine = tmp_path / "mine.mp4"
    shutil.copy(served.clip, mine)
    upload(opened, mine)
    ask(opened)
    opened.locator(PICTURE).wait_for()
    assert opened.get_by_text("Only the voice could be judged").is_visible()
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


def test_words_only(page):
    opened = page()
    opened.get_by_placeholder("the movie was wonderful").fill("<b>the movie</b> was good")
    opened.get_by_placeholder("the movie was wonderful").press("Enter")
    opened.locator(PICTURE).wait_for()
    assert opened.locator(".spoken").inner_text() == "<b>the movie</b> was good"
    assert opened.locator(PICTURE).get_by_text("no picture", exact=True).is_visible()
    opened.get_by_role("button", name="the food was awful").click()  # an example
    opened.locator(".spoken").get_by_text("the food was awful").wait_for()


def test_an_example_is_judged_by_a_click_and_again(page, served):
    for _ in range(2):  # the first visitor's leaving does not take it away
        opened = page()
        opened.get_by_text("the movie was good").first.click()
        opened.locator(".spoken").get_by_text("the movie was good").wait_for()
        assert opened.locator(PICTURE).get_by_text("no face", exact=True).is_visible()
        opened.goto("about:blank")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("notes.mp4", b"I am a text.\n" * 100, "'notes.mp4' is no sound or video file"),
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
    opened.screenshot(path=tmp_path / "refused.png")
    assert "Traceback" not in opened.content() and "Traceback" not in served.log.read_text()[logged:]
    # The page goes on working.
    opened.reload()
    opened.get_by_role("button", name="the food was awful").click()
    opened.locator(PICTURE).wait_for()


def luminance(colour):
    red, green, blue = (int(part) / 255 for part in re.findall(r"\d+", colour)[:3])
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_by_day_and_by_night(page, scheme):
    opened = page(375, 700, color_scheme=scheme)
    opened.get_by_role("button", name="the food was awful").click()
    opened.locator(PICTURE).wait_for()
    assert opened.evaluate("document.documentElement.scrollWidth") <= 375
    box = opened.locator(PICTURE).bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 375 and box["width"] > 330
    style = "element => getComputedStyle(element)"
    letters = luminance(opened.locator(f"{PICTURE} text").first.evaluate(f"{style}.fill"))
    paper = luminance(opened.locator("body").evaluate(f"{style}.backgroundColor"))
    assert (letters - paper > 0.6) if scheme == "dark" else (paper - letters > 0.6)
