"""Records the versions and the hardware of a run, so that a figure can be traced to them."""

import hashlib
import os
import platform
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path

from .version import __version__

PACKAGES = ("torch", "transformers", "accelerate", "datasets", "numpy")


def environment() -> dict[str, str | int]:
    """
    `python` and each of `PACKAGES`: their versions; `selfmm-hf`: the version, and a hash of the code, which tells
    changed code from released one; `processor`, `cores` that this process may use, and `threads` of torch.
    """
    import torch

    return {
        "selfmm-hf": f"{__version__} ({code_hash()[:8]})",
        "python": platform.python_version(),
        **_versions(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
    }


def cores() -> int:
    """How many cores this process may use, which may be fewer than the machine has: in a container, under `taskset`."""
    if hasattr(os, "process_cpu_count"):  # Python 3.13
        return os.process_cpu_count() or 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def code_hash() -> str:
    """SHA-256 over the names and contents of the package's Python files."""
    root, digest = Path(__file__).parent, hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        digest.update(f"{file.relative_to(root).as_posix()}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()


@cache
def _versions() -> dict[str, str]:
    return {package: version(package) for package in PACKAGES}


@cache
def _processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
