"""
Prints the table of extras in docs/install.md: what each is for, and the packages and megabytes that it adds to the
core.

    python benchmarks/extras.py          # of what is installed in this environment; packages that are missing are named

A package counts with the sizes in its RECORD, so a build of torch for GPUs weighs more than one for CPUs.
"""

import argparse
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PACKAGE = "selfmm-hf"
PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))["project"]

# In the order of the table.
PURPOSES = {
    "clips": "read clips: the pipeline, `selfmm extract`, `selfmm predict CLIP`",
    "demo": "the Space; includes `clips`",
    "plots": "`run.png`, `selfmm report`, `selfmm robustness`",
    "benchmark": "`selfmm benchmark`, `selfmm search`",
    "onnx": "`selfmm export`",
    "evaluate": "the metrics as a module of `evaluate`",
    "peft": "`--lora_rank`: light finetuning of a text encoder",
    "ray": "`--engine ray`: clips on the machines of a cluster; includes `clips`",
    "csd": "CMU-MOSEI's emotions from the SDK's file",
    "docs": "`make docs`: this site, for those who work on it",
    "test": "`make test`, for those who work on the package; includes all but `docs`",
}


def required(name: str, extras: frozenset[str]) -> list[Requirement]:
    """Returns what a package needs here with these extras."""
    if name == PACKAGE:
        named = [
            *PROJECT["dependencies"],
            *(one for extra in extras for one in PROJECT["optional-dependencies"][extra]),
        ]
        return [*map(Requirement, named)]
    try:
        found = map(Requirement, distribution(name).requires or [])
    except PackageNotFoundError:
        return []
    return [one for one in found if not one.marker or any(one.marker.evaluate({"extra": of}) for of in ("", *extras))]


def closure(name: str, extras: frozenset[str] = frozenset()) -> set[str]:
    """Returns the distributions that a package with these extras needs, itself among them."""
    found: set[tuple[str, frozenset[str]]] = set()
    waiting = {(canonicalize_name(name), extras)}
    while waiting:
        name, extras = one = waiting.pop()
        found.add(one)
        waiting |= {(canonicalize_name(one.name), frozenset(one.extras)) for one in required(name, extras)} - found
    return {name for name, _ in found}


def megabytes(name: str) -> float | None:
    """Returns the size of the files that the distribution has installed; `None` if it is not installed."""
    try:
        return sum(file.size or 0 for file in distribution(name).files or []) / 1e6
    except PackageNotFoundError:
        return None


def row(label: str, purpose: str, names: set[str]) -> str:
    weights = {name: megabytes(name) for name in names - {PACKAGE}}
    there = sorted((name for name in weights if weights[name]), key=lambda name: -weights[name])
    missing = sorted(name for name in weights if weights[name] is None)
    most = ", ".join(f"{name} {weights[name]:.0f}" for name in there[:3])
    most += f"; not installed here: {', '.join(missing)}" if missing else ""
    return f"| {label} | {purpose} | {len(there)} | {sum(weights[name] for name in there):.0f} | {most} |"


def main() -> None:
    argparse.ArgumentParser(description=__doc__.strip().splitlines()[0]).parse_args()
    core = closure(PACKAGE)
    print("| extra | what it is for | packages | MB | the largest, MB |\n|---|---|---|---|---|")
    print(row("none: the core", "train on features, score features and text, push", core))
    for extra, purpose in PURPOSES.items():
        print(row(f"`{extra}`", purpose, closure(PACKAGE, frozenset([extra])) - core))


if __name__ == "__main__":
    main()
