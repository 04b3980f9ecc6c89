"""Words, sound and picture of clips -> the inputs of a model. This file travels to the Hub."""

import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import (
    AutoTokenizer,
    BatchFeature,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)  # fmt: skip
from transformers.dynamic_module_utils import custom_object_save
from transformers.utils import FEATURE_EXTRACTOR_NAME, PROCESSOR_NAME

from .decoding_selfmm import ClipWarning, Deadline
from .edges_selfmm import Track
from .feature_extraction_selfmm import SelfMMFeatureExtractor
from .loading_selfmm import load, reading
from .text_encoder_selfmm import check_context, check_tokenizer, check_tokens, readable_tokens, why_unreadable
from .text_selfmm import check_unicode, count_words, parts, some_words, text_batch, tokenize

if TYPE_CHECKING:  # transformers 5.0 fetches the files that this one names, but not those that they name
    from .audio_features_selfmm import librosa33  # noqa: F401
    from .container_selfmm import opened  # noqa: F401
    from .decoding_selfmm import decode_audio  # noqa: F401
    from .face_landmarks_selfmm import FaceLandmarker  # noqa: F401
    from .frame_times_selfmm import Clock  # noqa: F401
    from .layers_selfmm import read_layer  # noqa: F401
    from .packing_selfmm import read_texts  # noqa: F401
    from .sound_selfmm import resample  # noqa: F401
    from .vision_features_selfmm import FaceFeatures  # noqa: F401

MAX_TEXT_TOKENS = 2**16  # that a text encoder may be asked to read at once
MAX_CONTEXT = 100  # utterances
BEFORE = "text before"  # the utterances before a text, among the features; no name of a modality


class SelfMMProcessor(ProcessorMixin):
    """
    A feature extractor for voice and face, and a tokenizer for the words.

    Args:
        feature_extractor ([`SelfMMFeatureExtractor`]): The recipe of the audio and vision sequences.
        tokenizer (`PreTrainedTokenizerBase`, *optional*): Of the text encoder, where the model has one.
        max_text_tokens (`int`, defaults to 50): Longer texts are read in parts; in training they were cut. 3 to 65,536.
        context_utterances (`int`, defaults to 0):
            How many utterances before a text, of the same video, the text encoder sees with it. Up to 100.
    """

    def __init__(
        self,
        feature_extractor: SelfMMFeatureExtractor,
        tokenizer: PreTrainedTokenizerBase | None = None,
        max_text_tokens: int = 50,
        context_utterances: int = 0,
    ):
        number = isinstance(context_utterances, int) and not isinstance(context_utterances, bool)
        if not number or not 0 <= context_utterances <= MAX_CONTEXT:
            given = f"{context_utterances!r:.100}"
            raise ValueError(f"context_utterances is {given}, expected a number from 0 to {MAX_CONTEXT}.")
        if not isinstance(max_text_tokens, int) or not 3 <= max_text_tokens <= MAX_TEXT_TOKENS:
            raise ValueError(
                f"max_text_tokens is {max_text_tokens!r}, expected 3 or more, one word between the special tokens, and "
                f"{MAX_TEXT_TOKENS:,} at most."
            )
        # Not by the base class, which knows no processor that may lack a tokenizer.
        self.feature_extractor = feature_extractor
        self.tokenizer = tokenizer
        self.max_text_tokens = max_text_tokens
        self.context_utterances = context_utterances
        self.chat_template = None

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any) -> "SelfMMProcessor":
        with reading(PROCESSOR_NAME):
            options, _ = cls.get_processor_dict(pretrained_model_name_or_path, **kwargs)
        # Not `trust_remote_code`: it is for this code, and a tokenizer may name the code of anybody.
        known = ("cache_dir", "force_download", "local_files_only", "revision", "token")
        kwargs = {name: kwargs[name] for name in known if kwargs.get(name) is not None}
        tokenizer = None
        if not isinstance(options, dict) or not isinstance(options.get("has_tokenizer"), bool):
            raise ValueError(f"{PROCESSOR_NAME}: it is missing, or its has_tokenizer is neither true nor false.")
        if options["has_tokenizer"]:
            with reading("The tokenizer"):
                # With a configuration, for transformers would look for one that it cannot read without our code.
                tokenizer = load(
                    AutoTokenizer.from_pretrained, pretrained_model_name_or_path, config=PreTrainedConfig(), **kwargs
                )
                check_tokenizer(tokenizer)
        with reading(FEATURE_EXTRACTOR_NAME):
            extractor = SelfMMFeatureExtractor.from_pretrained(pretrained_model_name_or_path, **kwargs)
        return cls(extractor, tokenizer, options.get("max_text_tokens"), options.get("context_utterances", 0))

    def to_dict(self) -> dict[str, Any]:
        return {
            "processor_class": type(self).__name__,
            "has_tokenizer": self.tokenizer is not None,
            "max_text_tokens": self.max_text_tokens,
            "context_utterances": self.context_utterances,
            **({"auto_map": self.auto_map} if hasattr(self, "auto_map") else {}),
        }

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> list[str]:
        """Saves the recipe with its models, the tokenizer, and the code of both."""
        self.feature_extractor.save_pretrained(save_directory)
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(save_directory)
        custom_object_save(self, save_directory, config=self)
        file = Path(save_directory) / PROCESSOR_NAME
        file.write_text(json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n", encoding="utf-8")
        return [str(file)]

    def fit(self, model: PreTrainedModel) -> None:
        """
        Checks that the processor fits its model, on whatever device that is. On the CPU, texts are from now on read in
        parts that are no longer than the text encoder can read.

        Raises:
            ValueError: They do not belong together.
        """
        config = model.config
        for name in self.modalities:
            if name not in config.modalities:
                raise ValueError(f"The processor gives {name}, and the model has {', '.join(config.modalities)} only.")
        for name in config.sequences:
            if name not in self.feature_extractor.recipe:
                raise ValueError(f"The model has {name}, for which the processor has no recipe.")
            width, expected = self.feature_extractor.known_width(name), config.sequence_options(name)["input_dim"]
            if width not in (None, expected):
                raise ValueError(f"The processor's {name} is {width} wide, and the model's {expected}.")
        if self._tokenizes("text"):
            if "text" in self.feature_extractor.recipe:
                raise ValueError("The processor has a tokenizer and a recipe of word vectors; a text is read by one.")
            if config.is_sequence("text"):
                raise ValueError("The processor has a tokenizer, and the model no text encoder.")
            for encoder in model.text_encoders:
                check_tokens(encoder, self.tokenizer)
                if model.device.type == "cpu":
                    self._fit_text(model, encoder)
            if model.device.type == "cpu":
                self._try(model)

    def _fit_text(self, model: PreTrainedModel, encoder: torch.nn.Module) -> None:
        if self.context_utterances:
            check_context(encoder, self.tokenizer, self.max_text_tokens, self.context_utterances)
        self.max_text_tokens = readable_tokens(encoder, self.max_text_tokens)
        config = model.config
        how = config.text_config, config.text_pooling, config.text_layer
        exact = model.dtype == torch.float32 and not encoder.training
        if exact and (problem := why_unreadable(encoder, *how)):
            raise ValueError(f"The text encoder cannot be used: {problem}.")

    @torch.no_grad()
    def _try(self, model: PreTrainedModel) -> None:
        """Has the model read some words, as it will read all others."""
        with reading("The model cannot read what its tokenizer makes of words"):
            batch = text_batch(self.tokenizer, [some_words(self.tokenizer)], self.max_text_tokens)
            if not batch["attention_mask"].any():
                raise ValueError("it knows none of its own words")
            scores = model(**batch).logits
            if not scores.isfinite().all():
                raise ValueError(f"it answers {scores.tolist()}, expected finite numbers")

    @property
    def modalities(self) -> list[str]:
        """What a clip may have."""
        sequences = self.feature_extractor.recipe
        words = [name for name in ("text",) if self._tokenizes(name)]
        return [*words, *(name for name in sequences if name not in words)]

    @property
    def model_input_names(self) -> list[str]:
        tokens = [] if self.tokenizer is None else list(self.tokenizer.model_input_names)
        tokens += ["context_mask"] if self.context_utterances else []
        lengths = [name + ending for name in self.feature_extractor.recipe for ending in ("", "_lengths")]
        return [*tokens, *lengths]

    def extract(
        self,
        clip: str | os.PathLike | Mapping[str, Any],
        text: str | None = None,
        progress: Callable[[float], None] | None = None,
        deadline: Deadline | None = None,
        context: Sequence[str] | None = None,
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """
        Extracts the words and features of one clip, before it becomes a batch.

        Args:
            clip: As [`SelfMMFeatureExtractor.extract`] takes it; a dict may have `text` and `context` too.
            text (`str`, *optional*): What is said, if `clip` does not tell.
            context (`list` of `str`, *optional*):
                What was said before in the same video, utterance by utterance, the last one at the end, if `clip` does
                not tell. Only the last `context_utterances` are read.
            progress, deadline (*optional*): See [`SelfMMFeatureExtractor.extract`].

        Returns:
            By modality, (frames, width) float32, the words as `text`; and, for each that is absent, why.

        Raises:
            ClipError: A file cannot be read, is too long, or takes too long.
            ValueError: Something else was given.
        """
        words = clip.get("text") if isinstance(clip, Mapping) and clip.get("text") is not None else text
        if isinstance(clip, Mapping) and "context" in clip and "context" not in self.feature_extractor.recipe:
            context = clip["context"] if clip["context"] is not None else context
            clip = {name: part for name, part in clip.items() if name != "context"}
        before = self._context(context)
        features, absent = self.feature_extractor.extract(clip, progress, deadline)
        if self._tokenizes("text"):
            if words is not None and not isinstance(words, str):
                raise ValueError(f"text is {type(words).__name__}, expected a string: what is said in the clip.")
            check_unicode("text", words or "")
            features["text"] = words or ""
            if self.context_utterances:
                features[BEFORE] = before
            pieces = parts(self.tokenizer, features["text"], self.max_text_tokens)
            if not any(tokenize(self.tokenizer, pieces, self.max_text_tokens)["input_ids"]):
                absent["text"] = "no word that the model knows" if features["text"].strip() else "no words"
                features["text"] = ""
            elif len(pieces) > 1:
                warnings.warn(self.parts_remark(len(pieces)), ClipWarning, stacklevel=2)
        return features, {name: absent[name] for name in self.modalities if name in absent}

    def _context(self, given: Any) -> list[str]:
        """The utterances before a text that are read."""
        if given is None:
            return []
        listed = hasattr(given, "__len__") and not isinstance(given, str | Mapping)
        if not listed or not all(isinstance(one, str) for one in given):
            raise ValueError("context must be a list of strings: what was said before, utterance by utterance.")
        check_unicode("context", *given)
        if not len(given):
            return []
        if not self.context_utterances:
            raise ValueError("This model was trained without context, and reads none; leave context out.")
        return list(given)[-self.context_utterances :]

    def words(self, text: str) -> dict[str, int]:
        """How many words a text has (`count`), how many of them are `unknown`, and in how many `parts` it is read."""
        count, unknown = count_words(self.tokenizer, text)
        number = len(parts(self.tokenizer, text, self.max_text_tokens))
        return {"count": count, "unknown": unknown, "parts": number}

    def parts_remark(self, number: int) -> str:
        """The remark on a text that is read in so many parts."""
        return (
            f"The text is longer than the {self.max_text_tokens} tokens that this model reads at once: it was read in "
            f"{number} parts and counts as their mean."
        )

    def pad(self, clips: list[dict[str, Any]]) -> BatchFeature:
        """
        A batch of what `extract` has returned.

        Returns:
            `audio`, `vision` (clips, frames, width) float32, normalised and padded at the end, `audio_lengths`,
            `vision_lengths` (clips,), and what the tokenizer gives, (clips, tokens), or (clips, parts, tokens) where a
            text is longer than `max_text_tokens`. A clip that lacks a modality has the length 0, or an attention mask
            of zeros.
        """
        batch = self.feature_extractor.pad(clips)
        if self._tokenizes("text"):
            contexts = [clip.get(BEFORE, []) for clip in clips] if self.context_utterances else None
            texts = [clip["text"] for clip in clips]
            batch.update(text_batch(self.tokenizer, texts, self.max_text_tokens, contexts))
        return batch

    def __call__(self, clips: Any = None, text: str | list[str | None] | None = None, **kwargs: Any) -> BatchFeature:
        """
        The model's inputs.

        Args:
            clips: One clip as `extract` takes it, or a list of them; nothing where there are only words.
            text: What is said in the clip, or a list of what is said in each.
            kwargs: `return_tensors="pt"` is what there is.

        Returns:
            As `pad`.
        """
        if kwargs.pop("return_tensors", "pt") != "pt" or kwargs:
            raise ValueError("The processor takes clips and text, and gives torch's tensors, return_tensors='pt'.")
        if clips is None and text is None:
            raise ValueError("Give clips, text, or both.")
        texts = list(text) if isinstance(text, list | tuple) else None
        if clips is None:
            clips = [{}] * (len(texts) if texts is not None else 1)
        clips = list(clips) if isinstance(clips, list | tuple) else [clips]
        if texts is None:
            if text is not None and len(clips) > 1:
                raise ValueError("There are several clips, but text belongs to one of them: give a list of texts.")
            texts = [text] * len(clips)
        if not clips:
            raise ValueError("There is no clip in the list; a batch needs one at least.")
        if len(texts) != len(clips):
            raise ValueError(f"There are {len(clips)} clips, but {len(texts)} texts; give one for each.")
        return self.pad([self.extract(clip, words)[0] for clip, words in zip(clips, texts, strict=True)])

    def _tokenizes(self, name: str) -> bool:
        return name == "text" and self.tokenizer is not None


def windows(
    features: Mapping[str, Any], frame_rates: Mapping[str, float], seconds: float
) -> list[tuple[float, float, dict[str, np.ndarray]]]:
    """
    A clip cut into pieces of equal length, the last one at least half as long as the others.

    Args:
        features: As [`SelfMMProcessor.extract`] returns them; arrays alone count from the clip's begin. Words have no
            time and are left out.
        frame_rates: Frames per second, by modality; others are left out.
        seconds: Length of a piece, above 0.

    Returns:
        Begin and end in seconds, and the frames in between, by modality: without edges in which nobody speaks or is to
        be seen, and none where nobody is.
    """
    tracks = {name: Track(features[name], rate) for name, rate in frame_rates.items()}
    tracks |= {name: track for name, track in getattr(features, "tracks", {}).items() if name in tracks}
    duration = max((track.end for track in tracks.values()), default=0.0)
    count = max(1, round(duration / seconds)) if duration else 0
    pieces = []
    for number in range(count):
        begin, end = number * seconds, duration if number == count - 1 else (number + 1) * seconds
        pieces.append((begin, end, {name: track.between(begin, end) for name, track in tracks.items()}))
    return pieces


SelfMMProcessor.register_for_auto_class("AutoProcessor")

__all__ = ["SelfMMProcessor"]
