"""How commands fail: bad input ends in one line, a fault of the program in its traceback."""

import dis
import importlib.metadata
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from .terminal import printable, unwritten

PROG = "selfmm"


@contextmanager
def end_in_one_line(kinds: tuple[type[Exception], ...] = (ValueError, OSError), status: int = 2) -> Iterator[None]:
    """
    Ends the command with one line on standard error if its input is bad. `SELFMM_DEBUG=1` prints the traceback, too.

    Args:
        kinds: Kinds of errors; by default `ValueError`, which the package raises for bad input, and `OSError`.
        status: The exit status.
    """
    try:
        yield
    except kinds as error:
        if os.environ.get("SELFMM_DEBUG"):
            traceback.print_exc()
        if problem := unwritten(error):
            raise SystemExit(f"{PROG}: error: {problem}.") from None
        if not getattr(error, "is_told", False):  # told by another process
            complain(str(error) + _origin(error))
        raise SystemExit(status) from None


def _origin(error: Exception) -> str:
    """Says how to trace an error, which may be a bug, unless this package or the system raised it on purpose."""
    last = error.__traceback__
    while last.tb_next is not None:
        last = last.tb_next
    module, code = last.tb_frame.f_globals.get("__name__", ""), last.tb_frame.f_code
    ours = module.startswith(("selfmm_hf.", "selfmm_cli.")) or module.endswith("_selfmm")
    # An error raised in C has no frame of its own, and seems to come from the line that calls the function.
    if isinstance(error, OSError) or (ours and code.co_code[last.tb_lasti] == dis.opmap["RAISE_VARARGS"]):
        return ""
    return f" ({type(error).__name__} of another package; SELFMM_DEBUG=1 shows the traceback)"


def complain(message: str) -> None:
    print(f"{PROG}: error: {printable(' '.join(message.split()))}", file=sys.stderr)


def need(package: str, extra: str) -> None:
    """Ends the command if an optional package is missing, and says how to install the packages of its extra."""
    if importlib.util.find_spec(package) is None:
        packages = " ".join(f"'{one}'" for one in packages_of(extra))
        raise SystemExit(f"{PROG}: error: this command needs {package}: pip install {packages}")


def packages_of(extra: str) -> list[str]:
    """Returns the requirements of an extra, such as `onnx>=1.21`: selfmm-hf itself need not be on an index."""
    requirements = (one.partition(";") for one in importlib.metadata.requires("selfmm-hf") or [])
    return [name.strip() for name, _, marker in requirements if re.search(rf"extra == ['\"]{extra}['\"]", marker)]
