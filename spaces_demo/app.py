"""
A web page for trying a Self-MM model: it shows what the model predicts of a clip or of words, such as the sentiment,
with the same for each modality.

    SELFMM_MODEL=runs/demo/model python spaces_demo/app.py

Of several models, with commas between their names, visitors choose one.

This folder is also a Space for the Hugging Face Hub, see README.md.
"""

import html
import json
import os
import re
import threading
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import gradio as gr
import torch
from huggingface_hub import hf_hub_download
from transformers import pipeline
from uploads import Doorkeeper, keep_apart, sweep_forever

try:
    from spaces import GPU  # ZeroGPU runs what it decorates in a process that has a GPU; elsewhere it does nothing
except ImportError:

    def GPU(**_: Any) -> Callable[[Callable], Callable]:
        return lambda function: function


MODEL = os.environ.get("SELFMM_MODEL") or "NAME/selfmm-demo"  # a repository on the Hub, or a folder; or several
TRANSCRIBER = os.environ.get("SELFMM_TRANSCRIBER") or None  # "openai/whisper-tiny.en", for instance
ZERO_GPU = os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")

MAX_SECONDS = 60
MAX_MEGABYTES = 100
MAX_LETTERS = 2000
MAX_WORK_SECONDS = 60  # for reading a clip, however short it is
WINDOW_SECONDS = 2.0
WAITING = 20  # people in the queue; others are told to come back
KEEP_SECONDS = 600  # an upload, where its page stays open
os.environ.setdefault("GRADIO_RUN_HISTORY", "false")  # newer Gradios keep what people upload in their browser

ONE_CLIP = threading.Lock()  # what is shown of warnings belongs to the process
ONE_TEXT = threading.Lock()
EXAMPLES = Path(__file__).with_name("examples")
NAMES = {"text": "words", "audio": "voice", "vision": "face"}
SENTENCES = ["the movie was wonderful", "the food was awful", "the story was long", "i loved it but the ending was bad"]

INTRODUCTION = """# What do words, voice and face say?

Upload or record a clip of a person speaking, or type some words. The model estimates {estimates}.
{separate}
{links}
"""
SEPARATE = """It also gives **separate {numbers} for {modalities}**, because people can say "great" in many ways.
"""
LINKS = "[The paper](https://arxiv.org/abs/2102.04830) · [Code of the paper](https://github.com/thuiar/Self-MM)"

SENTIMENT = """
Each score lies between **-{limit:g}** (very negative) and **+{limit:g}** (very positive); 0 is neutral. Hollow bars are
negative, full bars positive.
"""
CLASSES = """
Each number is the probability of a class; those of a column add up to 100%. The full bar is the most probable class.
"""
EMOTIONS = """
Each number is the probability that the clip shows an emotion, and it may show any number of them at once. Full bars are
above 50%.
"""
SCORES = """
The scores lie on these scales: {scales}. Hollow bars are negative scores. Of two scores, a plane shows both: the ring
is all together, and the marks are words, voice and face.
"""
NUMBERS = """
- **Together** is the model's answer. It combines words, voice and face, and is not their average.
- **Words**, **voice** and **face** are the scores of each alone. The training data have only one label for each clip.
  [Self-MM](https://arxiv.org/abs/2102.04830) generates the labels of words, voice and face itself. The model can
  therefore show when they disagree, as in irony, politeness or a brave face.
- If a clip lacks words, voice or face, the model scores the rest.
- **Over time** shows windows of {window:g} seconds. It includes words only if speech recognition provides their times.
  Click on it to play the clip from there.
"""

PRIVACY = f"""
Clips are processed on the server of this page, and are not kept. Your clips are deleted when you close the page, and
every upload is deleted within {KEEP_SECONDS // 60} minutes, even an interrupted one. A clip may have at most
{MAX_SECONDS} seconds and {MAX_MEGABYTES} MB, and reading it may take at most {MAX_WORK_SECONDS} seconds.
"""

NO_CARD = "This model has no description. Do not use it to make decisions about people."

# A button presses one of two that nobody sees: words alone do not wait for clips.
JUDGE = "(clip) => { document.getElementById(clip ? 'judge-clip' : 'judge-words').click(); }"

# The words of an example are not those of a visitor's clip.
FORGET = "(words) => (%s.includes(words) ? '' : words)"

# Its first sentence in view, where the page is higher than the screen: examples are far below, on a phone far above.
SHOW = """() => {
  const answer = document.querySelector(".picture"), { top } = answer.getBoundingClientRect();
  if (top < 0 || top > innerHeight / 2) answer.scrollIntoView({ behavior: "smooth" });
}"""

# A click on the timeline plays the clip from there; on a phone, the clip is above the screen.
HEAD = """<script>
document.addEventListener("click", (event) => {
  const line = event.target.closest("[data-begin]");
  const video = document.querySelector(".clip video");
  if (!line || !video) return;
  const box = line.getBoundingClientRect(), { begin, end } = line.dataset;
  video.currentTime = Number(begin) + (event.clientX - box.left) / box.width * (end - begin);
  video.play();
  const { top, bottom } = video.getBoundingClientRect();
  if (bottom < 0 || top > innerHeight) video.scrollIntoView({ behavior: "smooth", block: "center" });
});
</script>"""

NOTHING_YET = '<p class="hint">The result will appear here.</p>'

FONTS = ["system-ui", "Segoe UI", "Roboto", "sans-serif"]
THEME = gr.themes.Soft(primary_hue="blue", neutral_hue="slate", font=FONTS)
CSS = """
.gradio-container { max-width: 72rem !important; margin: 0 auto; }
.clip video { max-height: 280px; }
.picture svg { width: 100%; max-width: 34rem; height: auto; }
.said { font-size: 1.1rem; font-weight: 600; margin: .25rem 0 .75rem; padding-left: .75rem;
  border-left: .3rem solid currentColor; }
.spoken { font-style: italic; margin: 0 0 .75rem; max-height: 10rem; overflow-y: auto; overflow-wrap: anywhere; }
.picture [data-begin] { cursor: pointer; }
.hint { opacity: .8; margin: .5rem 0 0; }
@media (max-width: 640px) {
  .picture .html-container { padding: .5rem 0 !important; }
  .picture svg { width: calc(100% + 2.5rem); max-width: none !important; margin-left: -1.25rem; }
  .block.picture, .picture .html-container { overflow: visible !important; }
}
"""


def load(model: str) -> Any:
    """The pipeline of a model, of which a clip may be as long as is allowed here."""
    if model.startswith("NAME/"):
        raise SystemExit(
            "Set the environment variable SELFMM_MODEL to the model: a repository on the Hub, or a folder."
        )
    device = "cpu" if ZERO_GPU else None  # without a GPU of its own, this process scores words
    pipe = pipeline("multimodal-sentiment", model=model, trust_remote_code=True, transcriber=TRANSCRIBER, device=device)
    extractor = pipe.processor.feature_extractor
    extractor.max_seconds = min(extractor.max_seconds, MAX_SECONDS)
    return pipe


def to_gpu(pipe: Any) -> None:
    """Moves a pipeline, and the speech recognition in it, to the GPU of this process."""
    for one in filter(None, (pipe, pipe.transcriber)):
        one.device = torch.device("cuda:0")
        one.model.to(one.device)


def limits(model: str) -> str:
    """What its card says about how far the model can be trusted."""
    try:
        card = Path(model) / "README.md" if Path(model).is_dir() else Path(hf_hub_download(model, "README.md"))
        text = card.read_text("utf-8-sig")  # without its metadata, which anybody may have written
    except (OSError, ValueError):
        return NO_CARD
    found = re.search(r"^## Limits\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return found[1].strip() if found else NO_CARD


def explained(config: Any, links: str = LINKS) -> tuple[str, str]:
    """The introduction, and what the numbers mean, by the task of a model; earlier ones have none, but one score."""
    task = getattr(config, "task", None)
    *others, last = (f"the {NAMES.get(name, name)}" for name in getattr(config, "modalities", NAMES))
    numbers = NUMBERS.format(window=WINDOW_SECONDS) if others else ""
    names = "" if task is None else ", ".join(task.names)
    if task is None or task.label_range is not None:
        limit = config.label_range if task is None else task.label_range
        meaning, estimates, kind = SENTIMENT.format(limit=limit), "how positive or negative it is", "scores"
    elif task.problem_type == "regression":
        scales = (f"{name} {low:g} to {high:g}" for name, (low, high) in zip(task.names, task.scales, strict=True))
        meaning, estimates, kind = SCORES.format(scales=", ".join(scales)), names, "scores"
    elif task.problem_type == "single_label_classification":
        meaning, estimates, kind = CLASSES, f"which of these it is: {names}", "probabilities"
    else:
        meaning, estimates, kind = EMOTIONS, f"which of these it shows: {names}", "probabilities"
    separate = SEPARATE.format(numbers=kind, modalities=f"{', '.join(others)} and {last}") if others else ""
    return INTRODUCTION.format(estimates=estimates, separate=separate, links=links), meaning + numbers


def links(model: str) -> str:
    """The paper, its code, and the model's card, which a folder on this machine has nowhere."""
    return LINKS if Path(model).is_dir() else f"{LINKS} · [Model card](https://huggingface.co/{model})"


class Example:
    """
    A clip to choose.

    Args:
        clip: The file. The words of `a.mp4`, if there are any, stand in `a.txt`, and in `a.json` its `name`, and what
            is true of it: `score`, and by modality `unimodal`.
    """

    def __init__(self, clip: Path):
        text, facts = clip.with_suffix(".txt"), clip.with_suffix(".json")
        self.clip = clip
        self.words = text.read_text("utf-8-sig").strip() if text.is_file() else ""
        self.facts = json.loads(facts.read_text("utf-8")) if facts.is_file() else {}
        self.name = self.facts.get("name", clip.stem.replace("_", " "))

    @property
    def truth(self) -> str | None:
        """What is true of the clip, in a sentence."""
        if "score" not in self.facts:
            return None
        alone = ", ".join(f"{NAMES[name]} {value:+.1f}" for name, value in self.facts["unimodal"].items())
        return f"The true labels of this example: together {self.facts['score']:+.1f}, {alone}.".replace(
            "-", "\N{MINUS SIGN}"
        )


class Model:
    """
    A model to choose, and what the page says of it.

    Args:
        name: The repository or folder.
        pipe: What `load` returns, or anything that is called alike.
        card: How far it can be trusted, Markdown; by default what its card says.
    """

    def __init__(self, name: str, pipe: Any, card: str | None = None):
        self.name, self.pipe = name, pipe
        self.card = limits(name) if card is None else card
        self.introduction, self.meaning = explained(pipe.model.config, links(name))


def judge(pipe: Any, clip: str | None, words: str | None, truth: str | None = None) -> tuple[str, dict[str, Any]]:
    """
    The sentiment of a clip, of words, or of both.

    Args:
        pipe: What `load` returns.
        clip: A local file.
        words: What is said in it, or instead of it.
        truth: What is true of it, in a sentence, if that is known.

    Returns:
        The picture with what stands out in it, as HTML, and what the pipeline returned.

    Raises:
        gr.Error: There is nothing, or it cannot be read or judged.
    """
    words = (words or "").strip()
    if len(words) > MAX_LETTERS:
        raise _error(f"The words are longer than {MAX_LETTERS} letters. Enter a sentence or two.")
    if not clip and not words:
        raise _error("Upload or record a clip, or type some words.")
    if clip and not os.path.isfile(clip):
        raise _error("This clip has been deleted from the server. Upload or record it again.")
    told: list[str] = []
    try:
        if clip:
            with ONE_CLIP, _heard(told):
                options = {"window_seconds": WINDOW_SECONDS, "max_work_seconds": MAX_WORK_SECONDS}
                result = pipe(clip, text=words or None, **options)
        else:  # what there is to say of them is in the result
            with ONE_TEXT:
                result = pipe({"text": words})
        picture = pipe.draw(result)
    except ValueError as error:  # what the pipeline says of clips that it cannot read
        raise _error(str(error)) from error
    remark = re.sub(r"-(?=\d)", "\N{MINUS SIGN}", _remark(pipe, result))
    parts = [f'<p class="said">{html.escape(remark)}</p>']
    if result["transcript"]:
        parts.append(f'<p class="spoken" dir="auto">{html.escape(result["transcript"])}</p>')
    if truth and "scores" not in result:  # of one sentiment score
        parts.append(f'<p class="hint">{html.escape(truth)}</p>')
    hints = list(dict.fromkeys([*result.get("remarks", ()), *told]))
    if (result.get("face_share") or 0) >= 0.5:  # a smaller share is among the remarks
        hints.append(f"A face is seen in {result['face_share']:.0%} of the frames.")
    if clip and "text" in result["absent"]:
        hints.append("Type what is said in the clip to include the words.")
    return "".join([*parts, picture, *(f'<p class="hint">{html.escape(hint)}</p>' for hint in hints)]), result


def judge_of_clips(pipe_of: Callable[[str], Any]) -> Callable[..., tuple[str, dict[str, Any]]]:
    """`judge` by the name of a model. ZeroGPU runs it in another process, which is sent what can be pickled."""

    @GPU(duration=MAX_WORK_SECONDS)
    def judge_clip(model: str, clip: str | None, words: str | None, truth: str | None) -> tuple[str, dict[str, Any]]:
        pipe = pipe_of(model)
        if ZERO_GPU:
            to_gpu(pipe)
        return judge(pipe, clip, words, truth)

    return judge_clip


@contextmanager
def _heard(told: list[str]) -> Iterator[None]:
    """Puts into `told` what the pipeline warns of, in this thread; others may be judging words."""
    listener = threading.get_ident()

    def hear(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        if threading.get_ident() == listener and category.__name__ == "ClipWarning":
            told.append(str(message))

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = hear
        yield


def build(models: list[Model], examples: list[Example], opening: tuple[str, dict[str, Any]] | None = None) -> gr.Blocks:
    """
    The page.

    Args:
        models: To choose from; the first is chosen when the page is opened.
        examples: Clips to choose from.
        opening: What `judge` says of the first of them, which the page shows when it is opened.
    """
    chosen, by_name = models[0], {model.name: model for model in models}
    uploads: dict[str | None, set[str]] = defaultdict(set)
    kept = {str(one.clip.resolve()): one for one in examples}  # everybody's
    gr.set_static_paths(sorted(kept))  # served from where they are: what lies among the uploads is an upload

    def pipe_of(model: str) -> Any:
        if model not in by_name:
            raise _error(f"There is no model {model!r:.100} here.")
        return by_name[model].pipe

    judge_clip = judge_of_clips(pipe_of)

    def predict(
        clip: str | None, words: str | None, request: gr.Request, model: str = chosen.name
    ) -> tuple[str, dict[str, Any]]:
        """Judges a clip, words, or both: the picture as HTML, and all numbers."""
        if clip and str(Path(clip).resolve()) not in kept:
            uploads[request.session_hash].add(clip)
        for session, paths in list(uploads.items()):  # of those who have gone, and whose uploads have been swept away
            if not any(map(os.path.exists, paths)):
                uploads.pop(session, None)
        example = kept.get(str(Path(clip).resolve())) if clip else None
        spoken = example is not None and (words or "").strip() == example.words  # of other words, other labels are true
        return judge_clip(model, clip, words, example.truth if spoken else None)

    def predict_words(words: str | None, model: str = chosen.name) -> tuple[str, dict[str, Any] | None]:
        try:
            return judge(pipe_of(model), None, words)
        except gr.Error as error:  # Gradio shows the messages of what has waited in its queue alone
            return f'<p class="said" role="alert">{error.message}</p>', None

    def forget(request: gr.Request) -> None:
        if "/heartbeat/" in request.url.path:  # a page was closed; whoever calls this by its name gets here as well
            for path in uploads.pop(request.session_hash, ()):
                Path(path).unlink(missing_ok=True)

    def told_of(model: str) -> tuple[str, str, str, str, None]:
        one = by_name[model]
        return one.introduction, one.meaning, one.card, NOTHING_YET, None

    first = examples[0] if opening else None
    with gr.Blocks(title="Self-MM", delete_cache=(60, KEEP_SECONDS), analytics_enabled=False) as page:
        introduction = gr.Markdown(chosen.introduction)
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                several = len(models) > 1
                choice = [gr.Dropdown(list(by_name), value=chosen.name, label="Model")] if several else []
                video = gr.Video(
                    first and str(first.clip), label="Clip", sources=["upload", "webcam"], include_audio=True,
                    height=330, elem_classes="clip",
                )  # fmt: skip
                words = gr.Textbox(
                    first and first.words, label="Words", info="The words of the clip, or words without a clip.",
                    max_lines=4, max_length=MAX_LETTERS, placeholder="the movie was wonderful",
                )  # fmt: skip
                button = gr.Button("What does it say?", variant="primary")
                clip_button = gr.Button("Score the clip", elem_id="judge-clip", visible="hidden")
                words_button = gr.Button("Score the words", elem_id="judge-words", visible="hidden")
                _show_examples(examples, video, words)
            with gr.Column(scale=3, min_width=300):
                shown = opening[0] if opening else NOTHING_YET
                picture = gr.HTML(shown, label="Picture", elem_classes="picture", min_height=200)
                with gr.Accordion("All numbers", open=False):
                    numbers = gr.JSON(opening and opening[1], label="Numbers", show_label=False)
        gr.on([button.click, words.submit], None, video, None, js=JUDGE)
        given = json.dumps([one.words for one in examples] + SENTENCES)
        gr.on([video.upload, video.stop_recording, video.clear], None, words, words, js=FORGET % given)
        outputs = [picture, numbers]
        judged = clip_button.click(
            predict, [video, words, *choice], outputs, api_name="predict", concurrency_id="clips", concurrency_limit=1,
        )  # fmt: skip
        judged.success(None, js=SHOW)
        judged.failure(lambda: (NOTHING_YET, None), None, outputs, queue=False, api_visibility="private")
        judged = words_button.click(
            predict_words, [words, *choice], outputs, api_visibility="private", queue=False
        )  # fmt: skip
        judged.then(None, js=SHOW)
        with gr.Accordion("What do the numbers mean?", open=False):
            meaning = gr.Markdown(chosen.meaning)
        with gr.Accordion("How far can I trust it?", open=True):
            card = gr.Markdown(chosen.card)
            gr.Markdown(PRIVACY)
        for one in choice:
            shown_of = [introduction, meaning, card, *outputs]
            one.input(told_of, one, shown_of, queue=False, api_visibility="private")
        page.unload(forget)
    return page.queue(max_size=WAITING, api_open=False)


def _show_examples(examples: list[Example], video: gr.Video, words: gr.Textbox) -> None:
    """A click fills in both, clip and words, and judges them."""

    def offer(label: str, rows: list[tuple[str | None, str]], shown: list[Any], names: list[str] | None = None) -> None:
        def chosen(number: int) -> tuple[str | None, str]:
            return rows[number]

        samples = [list(row[-len(shown) :]) for row in rows]
        choice = gr.Dataset(components=shown, samples=samples, type="index", label=label, sample_labels=names)
        choice.click(
            chosen, choice, [video, words], queue=False, api_visibility="private", show_progress="hidden",
        ).then(None, video, None, js=JUDGE)  # fmt: skip

    if examples:
        rows = [(str(one.clip), one.words) for one in examples]
        offer("Clips to try", rows, [video, words], [one.name for one in examples])
    offer("Words to try", [(None, text) for text in SENTENCES], [words])


def _remark(pipe: Any, result: dict[str, Any]) -> str:
    """The sentence above the picture."""
    there = [f"the {NAMES.get(name, name)}" for name, present in result["present"].items() if present]
    if sentence := pipe.disagreement(result):
        if result.get("label") == "neutral":
            sentence += " Together they come out neutral, because they pull in opposite directions."
        return sentence
    if len(there) == 1:
        return f"Only {there[0]} could be judged: nothing to compare."
    return f"{', '.join(there[:-1])} and {there[-1]} do not clearly disagree.".capitalize()


def _error(message: str) -> gr.Error:
    return gr.Error(html.escape(message, quote=False), duration=None, print_exception=False)


def main() -> None:
    models = [Model(name, load(name)) for name in map(str.strip, MODEL.split(","))]
    folder = keep_apart()
    threading.Thread(target=sweep_forever, args=[folder, KEEP_SECONDS], daemon=True).start()
    examples = [Example(path) for path in sorted(EXAMPLES.glob("*.mp4"), reverse=True)]  # sarcasm is the first
    opening = None
    if examples:
        with suppress(gr.Error):  # a model may not read such clips
            opening = judge(models[0].pipe, str(examples[0].clip), examples[0].words, examples[0].truth)
    page = build(models, examples, opening)
    page.launch(
        max_file_size=f"{MAX_MEGABYTES}mb", theme=THEME, css=CSS, head=HEAD, ssr_mode=False, enable_monitoring=False,
        app_kwargs={"middleware": [(Doorkeeper, (folder, MAX_MEGABYTES), {})]},
    )  # fmt: skip


if __name__ == "__main__":
    main()
