"""Recognises the words of a clip with a speech recognition model. This file travels to the Hub."""

import os
import threading
from typing import Any

import numpy as np
from transformers import pipeline

from .decoding_selfmm import Deadline, decode_audio
from .loading_selfmm import without_its_code

_TRANSCRIBING = threading.Lock()  # a pipeline for speech recognition is not made for two threads at once


def load_transcriber(name: str | os.PathLike, device: Any) -> Any:
    """A pipeline "automatic-speech-recognition", by the code of transformers alone."""
    with without_its_code(name):
        return pipeline("automatic-speech-recognition", str(name), device=device, trust_remote_code=False)


def transcribed(
    transcriber: Any,
    sound: Any,
    sampling_rate: int | None = None,
    max_seconds: float | None = None,
    deadline: Deadline | None = None,
) -> tuple[str, list[tuple[str, float]]]:
    """
    What is said in a sound.

    Args:
        transcriber: A pipeline for "automatic-speech-recognition".
        sound: The path of a media file, or (samples,) float32, mono; anything else holds no words.
        sampling_rate: Of samples, Hz.
        max_seconds, deadline: Of a file, as `decode_audio` takes them.

    Returns:
        The words, and, where the transcriber tells, each word or phrase and when it begins, in seconds.
    """
    if isinstance(sound, str | os.PathLike):
        sampling_rate = transcriber.feature_extractor.sampling_rate
        sound = decode_audio(sound, sampling_rate, max_seconds, deadline)
    if sound is None or np.ndim(sound) != 1 or not len(sound):
        return "", []
    # Without times, Whisper takes 30 s at most.
    times = "word" if str(getattr(transcriber, "type", "")).startswith("ctc") else True
    inputs = {"raw": np.asarray(sound, dtype=np.float32), "sampling_rate": sampling_rate}
    with _TRANSCRIBING:
        said = transcriber(inputs, return_timestamps=times)
    parts = [(part["text"].strip(), part["timestamp"][0]) for part in said.get("chunks", ())]
    return said["text"].strip(), [(words, begin) for words, begin in parts if begin is not None]


__all__ = ["load_transcriber", "transcribed"]
