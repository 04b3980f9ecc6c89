"""`pipeline("multimodal-sentiment")`: from a clip to its sentiment. This file travels to the Hub."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from copy import copy
from numbers import Real
from types import GeneratorType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers.pipelines.base import ChunkPipeline

from .decoding_selfmm import Deadline, clip_facts
from .download_selfmm import downloaded
from .picture_selfmm import FEW_FACES, disagreement, sentiment_svg
from .processing_selfmm import BEFORE, windows
from .task_selfmm import MULTI_LABEL, SINGLE_LABEL, Task
from .transcription_selfmm import load_transcriber, transcribed

if TYPE_CHECKING:  # transformers 5.0 fetches the files that this one names, but not those that they name
    from .audio_features_selfmm import librosa33  # noqa: F401
    from .chart_selfmm import chart_svg  # noqa: F401
    from .container_selfmm import opened  # noqa: F401
    from .edges_selfmm import Track  # noqa: F401
    from .face_landmarks_selfmm import FaceLandmarker  # noqa: F401
    from .feature_extraction_selfmm import SelfMMFeatureExtractor  # noqa: F401
    from .frame_times_selfmm import Clock  # noqa: F401
    from .layers_selfmm import read_layer  # noqa: F401
    from .loading_selfmm import load  # noqa: F401
    from .packing_selfmm import read_texts  # noqa: F401
    from .picture_parts_selfmm import svg  # noqa: F401
    from .sound_selfmm import resample  # noqa: F401
    from .text_encoder_selfmm import encoder_of  # noqa: F401
    from .text_selfmm import text_batch  # noqa: F401
    from .vision_features_selfmm import FaceFeatures  # noqa: F401

# The classes of CMU-MOSI and CMU-MOSEI, scores rounded; and those of CH-SIMS, with the upper bound of each.
CLASSES = {
    -3: "highly negative", -2: "negative", -1: "weakly negative", 0: "neutral",
    1: "weakly positive", 2: "positive", 3: "highly positive",
}  # fmt: skip
SIMS_CLASSES = ((-0.7, "negative"), (-0.1, "weakly negative"), (0.1, "neutral"), (0.7, "weakly positive"))

MIN_WINDOW_SECONDS = 0.1  # of a timeline's pieces: the face is looked at ten times a second

Progress = Callable[[str, float, float | None], None]


class _Spoken(NamedTuple):
    """A clip of a list, and what is said in it."""

    clip: Any
    text: str | None


class MultimodalSentimentPipeline(ChunkPipeline):
    """
    Predicts how positive or negative a speaker is, from words, voice and face together and from each alone.

        pipe = pipeline("multimodal-sentiment", model="NAME", trust_remote_code=True)
        pipe("clip.mp4")
        pipe({"text": "I loved it", "audio": samples, "sampling_rate": 22050})

    Takes what `SelfMMProcessor.extract` takes: the path or URL of a clip, or a dict of `text`, `audio` (with
    `sampling_rate`) and `vision`; or a list or a generator of them, with `batch_size`. Several threads may call one
    pipeline.

    Args:
        text (`str` or list of `str`, *optional*): What is said in the clip, or, of a list of clips, in each.
        context (list of `str`, *optional*):
            What was said before in the same video, utterance by utterance, for a model that reads it. Of a list of
            clips, each is a dict that has its own `context`.
        transcriber (`str` or pipeline, *optional*):
            A pipeline "automatic-speech-recognition", or the name of a model for one, that fills in the words of clips
            for which none are given.
        window_seconds (`float`, *optional*): Score pieces of this length too, for a timeline.
        progress (`Callable`, *optional*):
            Called while a clip is read, with the name of the step, how much is done, and how much there is, if known:
            `"download"` in bytes, `"picture"` in seconds.
        max_work_seconds (`float`, *optional*):
            Give up a clip that takes longer than this to read, or to score in pieces, for a service that strangers use:
            a short clip with large pictures may take minutes. A download has its own 300 s, and a transcriber that has
            begun is awaited.
        public_urls (`bool`, *optional*):
            Fetch clips by https only, and from no host inside a private network, for a service that strangers use.

    Returns:
        A dict for each clip:
        - `score`: in about `[-label_range, label_range]`, negative to positive; not cut off there;
        - `label`: its class in words, those of CMU-MOSI (7) or, where `label_range` is 1, of CH-SIMS (5);
        - `label_range`: 3 or 1;
        - `unimodal`: by modality, the score of it alone, `None` where the clip lacks it;
        - `present`: by modality, whether the clip has it, and `absent`: where not, why;
        - `transcript`: the words that were read, if any;
        - `words`: how many words that are (`count`), how many of them are `unknown` to the text encoder, and in how
          many `parts` it read them, more than one where they have more than the processor's `max_text_tokens`; `None`
          without words;
        - `face_share`: the share of the pictures that show a face, in [0, 1]; `None` without pictures, or where the
          model looks for no faces. Below a fifth there is "no face", in the clip as in a piece of the timeline;
        - `remarks`: sentences on what to bear in mind about this result;
        - `timeline`, where `window_seconds` is given: `begin` and `end` in seconds, `score`, `label`, `unimodal` and
          `present` of each piece. Words are in a piece only where the transcriber tells their times.

        For any task other than one score in [-range, range] (see [`Task`]), instead of the first four:
        - `task`: `regression`, `multi_label_classification` or `single_label_classification`;
        - `scores`: by the name of each target, a number on its scale, not cut off at its ends, or a probability;
        - `label`: of a single-label classification, the most probable class; of a multi-label one, the list of all that
          are more probable than not; a regression has none;
        - `scales`: of a regression, the lowest and the highest label of each target;
        - `unimodal`: by modality, the scores of it alone, by name; `None` where the clip lacks it.
        The pieces of the timeline have `scores` too.

    Raises:
        ValueError: A clip cannot be read or judged; the message says why. A list or generator ends there.
    """

    _load_processor = True
    _load_tokenizer = False
    _load_feature_extractor = False
    _load_image_processor = False
    _load_video_processor = False

    def __init__(self, model: Any, *args: Any, processor: Any = None, transcriber: Any = None, **kwargs: Any):
        if processor is None:
            raise ValueError("The pipeline needs a processor: AutoProcessor.from_pretrained of the same repository.")
        processor = copy(processor)  # another model may read longer texts
        processor.fit(model)
        super().__init__(model, *args, processor=processor, **kwargs)
        processor.feature_extractor = processor.feature_extractor.to(self.device)
        if isinstance(transcriber, str | os.PathLike):
            transcriber = load_transcriber(transcriber, self.device)
        self.transcriber = transcriber

    def __call__(self, inputs: Any, *args: Any, text: str | list[str | None] | None = None, **options: Any) -> Any:
        """See the class; a clip gives a dict, a list of clips a list, and a generator or data set a generator."""
        given = self._preprocess_params.get("text") if text is None else text
        several = isinstance(inputs, list | GeneratorType | Dataset)
        if several and options.get("context", self._preprocess_params.get("context")) is not None:
            raise ValueError(
                "There are several clips, but context belongs to one of them: give each clip as a dict such as "
                '{"audio": FILE, "text": WORDS, "context": [WORDS, ...]}.'
            )
        if isinstance(inputs, list) and len(inputs) == 1 and isinstance(given, str):
            given = [given]
        if not several and not isinstance(given, str | None):
            raise ValueError(f"text is {type(given).__name__}, expected a string: what is said in the clip.")
        if several and given is not None:
            if not isinstance(inputs, list) or not isinstance(given, list | tuple):
                raise ValueError(
                    "There are several clips, but text belongs to one of them: give a list of clips with a list of "
                    'texts, or each clip as a dict such as {"audio": FILE, "vision": FILE, "text": WORDS}.'
                )
            if len(given) != len(inputs):
                raise ValueError(f"There are {len(inputs)} clips, but {len(given)} texts; give one for each.")
            inputs, text = [_Spoken(clip, words) for clip, words in zip(inputs, given, strict=True)], None
        if isinstance(inputs, list) and not inputs:
            return []  # transformers looks at the first
        return super().__call__(inputs, *args, text=text, **options)

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:
        """Saves the model and the processor, with their code."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory)

    def _sanitize_parameters(
        self,
        text: str | list[str | None] | None = None,
        window_seconds: float | None = None,
        progress: Progress | None = None,
        max_work_seconds: float | None = None,
        context: Sequence[str] | None = None,
        public_urls: bool = False,
        **unknown: Any,
    ) -> tuple[dict, dict, dict]:
        if unknown:
            raise TypeError(
                f"The pipeline has no {', '.join(sorted(unknown))}; it has text, context, window_seconds, progress, "
                "max_work_seconds and public_urls."
            )
        if window_seconds is not None:
            number = isinstance(window_seconds, Real) and not isinstance(window_seconds, bool)
            if not number or not MIN_WINDOW_SECONDS <= window_seconds <= sys.float_info.max:
                raise ValueError(
                    f"window_seconds is {window_seconds!r}, expected a number of seconds, {MIN_WINDOW_SECONDS} or more."
                )
        if max_work_seconds is not None and not (isinstance(max_work_seconds, Real) and max_work_seconds > 0):
            raise ValueError(f"max_work_seconds is {max_work_seconds!r}, expected a positive number of seconds.")
        given = {
            "text": text, "window_seconds": window_seconds, "progress": progress, "max_work_seconds": max_work_seconds,
            "context": context, "public_urls": public_urls or None,
        }  # fmt: skip
        return {name: value for name, value in given.items() if value is not None}, {}, {}

    def preprocess(
        self,
        clip: Any,
        text: str | None = None,
        window_seconds: float | None = None,
        progress: Progress | None = None,
        max_work_seconds: float | None = None,
        context: Sequence[str] | None = None,
        public_urls: bool = False,
    ) -> Iterator[dict[str, Any]]:
        """The whole clip, then its pieces: each an item of a batch."""
        if isinstance(clip, _Spoken):
            clip, text = clip
        with ExitStack() as stack:
            clip = _local(clip, stack, progress, public_urls)
            words, deadline = [], None if max_work_seconds is None else Deadline(max_work_seconds)
            if self._lacks_words(clip, text):
                text, words = self._transcribe(clip, deadline)
                clip = {**clip, "text": text} if isinstance(clip, Mapping) else clip
            features, absent = self.processor.extract(clip, text, _seconds_of(clip, progress), deadline, context)
        if len(absent) == len(self.processor.modalities):
            reasons = ", ".join(absent.values())
            raise ValueError(f"There is nothing in this clip that the model can judge: {reasons}.")
        rates = {} if window_seconds is None else self.processor.feature_extractor.frame_rates
        pieces = windows(features, rates, window_seconds or 1.0)
        nothing = {"absent": {}, "face_share": None, "begin": None, "end": None}
        whole = {**nothing, "features": features, "absent": absent, "face_share": features.face_share}
        yield {**whole, "windowed": window_seconds is not None, "is_last": not pieces}
        before = features.get(BEFORE)  # of a model that reads none, None
        for number, (begin, end, part) in enumerate(pieces, start=1):
            if deadline is not None:
                deadline.check()
            said = " ".join(word for word, start in words if begin <= start < end)
            spoken, _ = self.processor.extract({"text": said}, context=before)
            before = [*before, said] if said and before is not None else before
            piece = {**nothing, "features": {**spoken, **part}, "begin": begin, "end": end}
            yield {**piece, "windowed": True, "is_last": number == len(pieces)}

    def _forward(self, items: dict[str, Any]) -> dict[str, Any]:
        alone = not isinstance(items["is_last"], list)
        if alone:  # a batch of one comes as it is
            items = {name: [value] for name, value in items.items()}
        batch = self.ensure_tensor_on_device(**self.processor.pad(items["features"]))
        output = self.model(**batch)
        facts = {name: items[name] for name in ("absent", "face_share", "begin", "end", "windowed", "is_last")}
        facts["text"] = [features.get("text") for features in items["features"]]
        scores = {
            "scores": output.logits,
            "unimodal": torch.stack([output.unimodal_logits[name] for name in self._modalities], dim=1),
            "present": torch.stack([output.present[name] for name in self._modalities], dim=1),
        }
        return {**scores, **({name: values[0] for name, values in facts.items()} if alone else facts)}

    def postprocess(self, outputs: list[dict[str, Any]]) -> dict[str, Any]:
        whole, *pieces = outputs
        text = whole["text"]
        result = self._scores(whole) | {
            **self._scale(),
            "absent": whole["absent"],
            "transcript": text if isinstance(text, str) and text else None,
        }
        result["face_share"] = whole["face_share"]
        result["words"] = self.processor.words(text) if result["transcript"] else None
        result["remarks"] = self._remarks(result)
        if whole["windowed"]:
            result["timeline"] = [
                {"begin": piece["begin"], "end": piece["end"], **self._scores(piece)} for piece in pieces
            ]
        return result

    def draw(self, result: dict[str, Any], title: str | None = None) -> str:
        """An SVG of what the pipeline has returned for one clip: see [`sentiment_svg`]."""
        return sentiment_svg(result, title)

    def disagreement(self, result: dict[str, Any]) -> str | None:
        """Which modalities disagree in what the pipeline has returned, as a sentence; `None` where they do not."""
        return disagreement(result)

    def _remarks(self, result: dict[str, Any]) -> list[str]:
        remarks, words = [], result["words"] or {}
        if unknown := words.get("unknown"):
            verb = "is" if unknown == 1 else "are"
            remarks.append(f"{unknown} of {words['count']} words {verb} unknown to this model.")
        if words.get("parts", 1) > 1:
            remarks.append(self.processor.parts_remark(words["parts"]))
        if result["face_share"] and result["face_share"] < FEW_FACES:
            remarks.append(f"A face is seen in only {result['face_share']:.0%} of the frames.")
        return remarks

    @property
    def _modalities(self) -> list[str]:
        return self.model.config.modalities

    def _scale(self) -> dict[str, Any]:
        """What the scores of a clip are, once for the whole of it."""
        task = self.model.config.task
        if task.label_range is not None:
            return {"label_range": task.label_range}
        scales = {name: list(scale) for name, scale in zip(task.names, task.scales, strict=False)}
        return {"task": task.problem_type, **({"scales": scales} if scales else {})}

    def _scores(self, output: dict[str, Any]) -> dict[str, Any]:
        task = self.model.config.task
        if not (output["scores"].isfinite().all() and output["unimodal"].isfinite().all()):
            raise ValueError(
                "The model gives no finite numbers for this clip: the features are too large for its precision, "
                f"{self.model.dtype}. Check them, or load the model with dtype=torch.float32."
            )
        present = dict(zip(self._modalities, output["present"][0].tolist(), strict=True))
        together, *unimodal = (
            dict(zip(task.names, task.predictions(logits.float()).tolist(), strict=True))
            for logits in (output["scores"][0], *output["unimodal"][0])
        )
        if task.label_range is not None:
            (score,) = together.values()
            scores = {"score": score, "label": label_of(score, task.label_range)}
            unimodal = [value for alone in unimodal for value in alone.values()]
        else:
            scores = {"scores": together, **_label(task, together)}
        alone = zip(self._modalities, unimodal, strict=True)
        return {
            **scores,
            "unimodal": {name: value if present[name] else None for name, value in alone},
            "present": present,
        }

    def _lacks_words(self, clip: Any, text: str | None) -> bool:
        given = clip.get("text") if isinstance(clip, Mapping) else text
        sound = clip.get("audio") if isinstance(clip, Mapping) else clip
        if self.transcriber is None or sound is None or self.processor.tokenizer is None:
            return False
        return not (given or text)

    def _transcribe(self, clip: Any, deadline: Deadline | None) -> tuple[str, list[tuple[str, float]]]:
        """What is said, and, where the transcriber tells, each word or phrase and when it begins."""
        sound, rate = (clip.get("audio"), clip.get("sampling_rate")) if isinstance(clip, Mapping) else (clip, None)
        return transcribed(self.transcriber, sound, rate, self.processor.feature_extractor.max_seconds, deadline)


def _seconds_of(clip: Any, progress: Progress | None) -> Callable[[float], None] | None:
    """Reports how many seconds of a clip's picture have been looked at."""
    if progress is None:
        return None
    picture = clip.get("vision") if isinstance(clip, Mapping) else clip
    total = clip_facts(picture).duration if isinstance(picture, str | os.PathLike) else None
    return lambda seconds: progress("picture", seconds, total)


def _label(task: Task, scores: dict[str, float]) -> dict[str, str | list[str]]:
    """What a classification says of a clip."""
    if task.problem_type == SINGLE_LABEL:
        return {"label": max(scores, key=scores.__getitem__)}
    if task.problem_type == MULTI_LABEL:
        return {"label": [name for name, probability in scores.items() if probability > 0.5]}
    return {}


def label_of(score: float, label_range: float = 3.0) -> str:
    """
    The class of a score in words.

    Args:
        score: Of a model whose labels lie in `[-label_range, label_range]`.
        label_range: 1 has CH-SIMS's five classes; any other the seven of CMU-MOSI, on a scale stretched to 3.
    """
    if label_range == 1:
        return next((name for bound, name in SIMS_CLASSES if score <= bound), "positive")
    return CLASSES[int(np.clip(np.round(score * 3 / label_range), -3, 3))]


def _local(clip: Any, stack: ExitStack, progress: Progress | None, public: bool) -> Any:
    """The clip with files in the place of URLs, which are deleted at the end of `stack`."""
    if isinstance(clip, Mapping):
        files = [name for name, value in clip.items() if isinstance(value, str) and name != "text"]
        return {**clip, **{name: _local(clip[name], stack, progress, public) for name in files}}
    if isinstance(clip, str) and clip.lower().startswith(("http://", "https://")):
        return stack.enter_context(downloaded(clip, progress, public))
    return clip


__all__ = ["MultimodalSentimentPipeline", "label_of"]
