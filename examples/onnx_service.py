# /// script
# requires-python = ">=3.11"
# dependencies = ["selfmm-hf[clips,onnx]", "fastapi", "uvicorn"]
# [tool.uv.sources]
# selfmm-hf = { path = "..", editable = true }
# ///
"""
A model as an ONNX file behind HTTP: a text and features in, scores out.

    selfmm export runs/demo/model --output model.onnx
    uv run examples/onnx_service.py runs/demo/model model.onnx      # then:
    curl localhost:8000/score --json '{"text": "the food is great"}'

onnxruntime is thread-safe, and FastAPI runs each request in a thread of its own, so one session serves all of them.
"""

import argparse
import json
from typing import Annotated

import numpy as np
import onnxruntime
import uvicorn
from fastapi import Body, FastAPI, HTTPException

from selfmm_hf import SelfMMProcessor

OUTPUTS = {"logits", "text_logits", "audio_logits", "vision_logits"}
Frames = Annotated[list[list[float]], Body(max_length=20_000)]  # of the width that the model's recipe says


def create_app(model: str, file: str) -> FastAPI:
    """
    The service. What a request leaves out of a clip is absent.

    Args:
        model: A folder, or a repository on the Hub: its processor is used.
        file: The ONNX file.
    """
    processor = SelfMMProcessor.from_pretrained(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # requests run beside each other already
    session = onnxruntime.InferenceSession(file, options)
    task, outputs = session.get_modelmeta().custom_metadata_map, {one.name for one in session.get_outputs()}
    one_score = task.get("problem_type") == "regression" and len(json.loads(task["names"])) == 1
    if not one_score or outputs != OUTPUTS or processor.tokenizer is None:
        raise ValueError(f"{file} is not of one score from words, voice and face, which this example is for.")
    app = FastAPI(title="Self-MM")

    @app.post("/score")
    def score(
        text: Annotated[str, Body(max_length=10_000)] = "", audio: Frames = (), vision: Frames = ()
    ) -> dict[str, float | None]:
        if processor.words(text)["parts"] > 1:  # which the file does not read
            raise HTTPException(400, f"The text has more than {processor.max_text_tokens} tokens.")
        try:
            frames = {"audio": np.array(audio, np.float32), "vision": np.array(vision, np.float32)}
            inputs = processor([{name: one for name, one in frames.items() if len(one)}], text=[text])
        except ValueError as error:  # frames of another width, or of different widths
            raise HTTPException(400, str(error)) from None
        arrays = {one.name: inputs[one.name].numpy() for one in session.get_inputs()}
        names = [one.name for one in session.get_outputs()]
        scores = {name: float(one[0, 0]) for name, one in zip(names, session.run(names, arrays), strict=True)}
        there = {name: bool(arrays[f"{name}_lengths"][0]) for name in ("audio", "vision")}
        there |= {"text": bool(arrays["attention_mask"].any()), "": True}
        if not any(there[name] for name in ("text", "audio", "vision")):
            raise HTTPException(400, "The clip has neither words that the model knows, nor voice, nor face.")
        unimodal = {name: scores[f"{name}_logits"] if there[name] else None for name in ("text", "audio", "vision")}
        return {"score": scores["logits"], **unimodal}

    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Score words and features behind HTTP: POST /score.")
    parser.add_argument("model", help="folder of a model, or its repository on the Hub")
    parser.add_argument("file", help="what `selfmm export` has made of it")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 in a container")
    parser.add_argument("--port", type=int, default=8000)
    arguments = parser.parse_args()
    uvicorn.run(create_app(arguments.model, arguments.file), host=arguments.host, port=arguments.port)
