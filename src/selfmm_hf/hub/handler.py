"""
Serves this repository on Hugging Face Inference Endpoints, which look for the class `EndpointHandler`.

    {"inputs": {"clip": "https://...", "text": "what is said"}}         a clip at an address
    {"inputs": {"clip": "BASE64", "text": "what is said"}}              the bytes of a clip
    {"inputs": {"text": "what is said", "audio": [[...], [...]]}}       words and features, (frames, columns)
    {"inputs": "https://..."}, {"inputs": "BASE64"}, a body of bytes    a clip, without its words

`"parameters": {"window_seconds": 1.0}` adds a timeline. The answer is what the pipeline returns, as JSON.

An address is fetched only by https, from a public host, and up to 500 MB. Otherwise anybody who may call the endpoint
could read what is inside its network. No text is ever taken for a path.
"""

import base64
import binascii
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from transformers import pipeline

MAX_BYTES = 100_000_000  # of a clip in the request
MAX_LETTERS = 10_000
MAX_WORK_SECONDS = 60.0
PARAMETERS = {"window_seconds"}


class EndpointHandler:
    """
    Answers requests with the pipeline of a repository.

    Args:
        path: Folder of the repository; by default that of this file.
    """

    def __init__(self, path: str = ""):
        folder = path or str(Path(__file__).parent)
        self.pipe = pipeline("multimodal-sentiment", model=folder, trust_remote_code=True)

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        """
        Runs the pipeline on one request.

        Args:
            data: `inputs` and `parameters`, as above.

        Returns:
            The result of the pipeline for the clip.

        Raises:
            ValueError: The request is wrong, or the clip cannot be read or judged; the message says why.
        """
        has_inputs = isinstance(data, dict) and "inputs" in data
        if not has_inputs or not isinstance(parameters := data.get("parameters") or {}, dict):
            raise ValueError("The request must be an object with inputs and, as the case may be, an object parameters.")
        given, sequences = data.get("inputs"), self.pipe.model.config.sequences
        given = given if isinstance(given, dict) else {"clip": given}
        known = {"clip", "text", "context", *sequences}
        if unknown := sorted({*given} - known) + sorted({*parameters} - PARAMETERS):
            raise ValueError(f"The request has {', '.join(map(repr, unknown))}; inputs may have {sorted(known)}.")
        names = "clip", "text", "context"  # a model may have sequences of these names
        clip, text, context = (None if name in sequences else given.get(name) for name in names)
        if context is not None and not isinstance(context, list):
            raise ValueError("context must be a list of what was said before, utterance by utterance.")
        for words in (text, *(context or [])):
            if words is not None and (not isinstance(words, str) or len(words) > MAX_LETTERS):
                raise ValueError(f"Words must be text of at most {MAX_LETTERS} letters.")
        options = {**parameters, "context": context, "max_work_seconds": MAX_WORK_SECONDS, "public_urls": True}
        features = {name: _frames(name, given[name]) for name in sequences if given.get(name)}
        if clip is None:
            return self.pipe({"text": text, **features}, **options)
        if features:
            raise ValueError("The request has a clip and features: give one of them.")
        if isinstance(clip, str) and clip.lower().startswith(("http://", "https://")):
            return self.pipe(clip, text=text, **options)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "clip"
            file.write_bytes(_content(clip))
            return self.pipe(str(file), text=text, **options)


def _content(clip: Any) -> bytes:
    if isinstance(clip, str):
        try:
            lines = clip.rpartition("base64,")[2].split()  # `base64` breaks it into lines
            clip = base64.b64decode("".join(lines), validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("The clip is neither an https address nor base64.") from None
    if not isinstance(clip, bytes | bytearray) or not 0 < len(clip) <= MAX_BYTES:
        raise ValueError(f"A clip must be an https address, or base64 or bytes of at most {MAX_BYTES // 10**6} MB.")
    return bytes(clip)


def _frames(name: str, frames: Any) -> np.ndarray:
    try:
        found = np.asarray(frames, np.float32)
    except (OverflowError, TypeError, ValueError):
        found = np.empty(0)
    if found.ndim != 2:
        raise ValueError(f"{name} must be a list of frames, each a list of as many numbers.")
    return found
