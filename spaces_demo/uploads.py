"""What visitors send to the page: who may send what, where it lies, and when it is deleted."""

import os
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from gradio import route_utils, utils

MAX_MEGABYTES = 2000  # of everybody
SWEEP_SECONDS = 30


def keep_apart() -> Path:
    """
    Gives this page a folder for uploads, and each upload a folder of its own.

    Returns:
        The folder, in which there is nothing else.
    """
    folder = Path(utils.get_upload_folder()) / "selfmm"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    route_utils.GradioUploadFile = Upload
    return folder


class Upload(route_utils.GradioUploadFile):
    """An upload in a folder of its own. Gradio names it by its content: visitors with the same file would share one."""

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.sha.update(secrets.token_bytes(16))


class Doorkeeper:
    """
    Lets in what the page needs. Gradio has further functions that take what anybody sends, and does not count how much
    one request uploads, or all of them.

    Args:
        app: The page, an ASGI application.
        folder: Where uploads are.
        megabytes: The most that one request may send.
    """

    SENDS = re.compile(r".*/gradio_api/(upload|queue/join|call/predict|run/[^/]+|cancel|reset)/?")

    def __init__(self, app: Callable[..., Awaitable[None]], folder: Path, megabytes: float):
        self.app, self.folder, self.megabytes = app, folder, megabytes

    async def __call__(self, scope: dict[str, Any], receive: Callable[[], Awaitable], send: Callable) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self.app(scope, receive, send)
        elif not (sends := self.SENDS.fullmatch(scope["path"])):
            await self._refuse(send, 404, "There is no such function.")
        elif sends[1] == "upload" and self._is_full():
            await self._refuse(send, 503, "Too many clips are here by now; come back in a few minutes.")
        else:
            await self.app(scope, self._counted(receive), send)

    def _is_full(self) -> bool:
        size = 0
        for path in entries(self.folder):
            with suppress(OSError):  # gone by now
                size += path.lstat().st_size
        return size > MAX_MEGABYTES * 1_000_000

    def _counted(self, receive: Callable[[], Awaitable]) -> Callable[[], Awaitable]:
        received = 0

        async def next_part() -> dict[str, Any]:
            nonlocal received
            part = await receive()
            received += len(part.get("body", b""))
            return part if received <= (self.megabytes + 1) * 1_000_000 else {"type": "http.disconnect"}

        return next_part

    @staticmethod
    async def _refuse(send: Callable, status: int, reason: str) -> None:
        headers = [(b"content-type", b"text/plain; charset=utf-8")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": reason.encode()})


def entries(folder: Path) -> Iterator[Path]:
    """All that is in a folder, what is in a folder of it before that; others may delete things meanwhile."""
    for parent, folders, files in os.walk(folder, topdown=False):
        yield from (Path(parent, name) for name in (*files, *folders))


def sweep(folder: Path, seconds: float) -> None:
    """Deletes the files, and the empty folders, that nobody has written to for so long."""
    for path in entries(folder):
        with suppress(OSError):  # gone by now, or not empty
            if time.time() - path.lstat().st_mtime > seconds:
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


def sweep_forever(folder: Path, seconds: float) -> None:
    """
    Gradio forgets uploads that broke off, and what an earlier process has left.

    Args:
        seconds: After which nothing is left of an upload.
    """
    while True:
        sweep(folder, seconds - SWEEP_SECONDS)
        time.sleep(SWEEP_SECONDS)
