# /// script
# requires-python = ">=3.11"
# dependencies = ["selfmm-hf[clips]", "fastapi", "python-multipart", "uvicorn"]
# [tool.uv.sources]
# selfmm-hf = { path = "..", editable = true }
# ///
"""
A service for clips: a file or an address, and what is said in it, in; scores out.

    uv run examples/serve.py runs/demo/model                                        # then:
    curl localhost:8000/score --form clip=@clip.mp4 --form text="the food is great"

FastAPI runs each request in a thread of its own; the pipeline may be called by several threads. Reading a clip is most
of the work, so only a few clips are read at a time, a few more wait, and the others are told to come back.
"""

import argparse
import os
import shutil
import tempfile
import threading
from collections.abc import Awaitable, Callable
from typing import Annotated

import torch
import uvicorn
from fastapi import FastAPI, File, Form, HTTPException, Request, Response, UploadFile
from fastapi.responses import JSONResponse
from transformers import pipeline

# With this import, the pipeline runs the package, and no code of the model's repository.
from selfmm_hf.environment import cores

MAX_BYTES = 50_000_000  # of a request
MAX_WORK_SECONDS = 60.0
AT_ONCE = min(max(1, cores() // 2), 20)  # of FastAPI's 40 threads; with the next line, some are left to refuse
WAITING = 16  # requests; more of them are refused at once, rather than after minutes
MAX_WAIT_SECONDS = 120.0


def create_app(model: str, at_once: int = AT_ONCE, waiting: int = WAITING) -> FastAPI:
    """
    The service.

    Args:
        model: A folder, or a repository on the Hub.
        at_once: Clips that are read at a time.
        waiting: Requests that may wait for that.
    """
    torch.set_num_threads(1)  # each request has its own thread
    pipe = pipeline("multimodal-sentiment", model=model)
    room, turn = threading.BoundedSemaphore(at_once + waiting), threading.BoundedSemaphore(at_once)
    app = FastAPI(title="Self-MM")

    @app.middleware("http")
    async def limit(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        """Before anything of an upload is stored; a server holds a request to its length, if it is not chunked."""
        length = "" if "transfer-encoding" in request.headers else request.headers.get("content-length", "")
        if request.method == "POST" and not (length.isdigit() and int(length) <= MAX_BYTES):
            return JSONResponse({"detail": f"A request must tell its length, at most {MAX_BYTES // 10**6} MB."}, 413)
        return await go_on(request)

    @app.post("/score")
    def score(
        clip: Annotated[UploadFile | None, File()] = None,
        url: Annotated[str | None, Form(max_length=2_000)] = None,
        text: Annotated[str, Form(max_length=10_000)] = "",
    ) -> dict:
        if not room.acquire(blocking=False):
            raise HTTPException(503, "Too many clips are waiting.", {"Retry-After": "10"})
        try:
            if not turn.acquire(timeout=MAX_WAIT_SECONDS):
                raise HTTPException(503, "The clips before this one took too long.", {"Retry-After": "10"})
            try:
                return judged(clip, url, text)
            finally:
                turn.release()
        finally:
            room.release()

    def judged(clip: UploadFile | None, url: str | None, text: str) -> dict:
        if clip is not None and url:
            raise HTTPException(400, "There are a clip and an address: send one of them.")
        if url and not url.lower().startswith("https://"):  # any other text would be a path on this machine
            raise HTTPException(400, "The address does not begin with https://.")
        try:
            # `public_urls`: else visitors could fetch what is inside the network of this machine.
            options = {"max_work_seconds": MAX_WORK_SECONDS, "public_urls": True}
            if clip is None:
                return pipe(url, text=text, **options) if url else pipe({"text": text}, **options)
            with tempfile.TemporaryDirectory() as folder:
                file = os.path.join(folder, "clip")  # not by the name that the visitor gives
                with open(file, "wb") as written:
                    shutil.copyfileobj(clip.file, written)
                return pipe(file, text=text, **options)
        except ValueError as error:  # what is wrong with the clip; anything else is a fault of the service, and a 500
            raise HTTPException(400, str(error)) from None

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Score clips behind HTTP: POST /score, GET /health.")
    parser.add_argument("model", help="folder of a model, or its repository on the Hub")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 in a container")
    parser.add_argument("--port", type=int, default=8000)
    arguments = parser.parse_args()
    uvicorn.run(create_app(arguments.model), host=arguments.host, port=arguments.port)
