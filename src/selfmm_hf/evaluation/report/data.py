"""Groups the runs of a report that differ only in their seeds, and loads their data."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...data import Splits, load_splits
from ...data.targets import describe
from ...runs.folder import OPTIONS_FILE, UNLEARNED_OPTIONS
from ...runs.stored import RunError, StoredRun
from ..sweep import SWEEP_FILE

LONGEST = 30  # letters that fit beside a drawing


@dataclass
class Group:
    """
    Runs that differ only in their seeds.

    Args:
        name: What sets these runs apart from the other groups; empty if there is no other group.
        runs: In the order of their seeds.
        slug: `name` as a part of file names.
    """

    name: str
    runs: list[StoredRun]
    slug: str = ""

    def titled(self, what: str) -> str:
        """Returns `what` with the name of these runs."""
        return f"{what} ({self.name})" if self.name else what

    def picture(self, kind: str, *parts: str) -> str:
        """Returns the name of a picture of these runs, such as `labels-official-audio`."""
        return "-".join(filter(None, [kind, self.slug, *parts]))

    @property
    def finished(self) -> list[StoredRun]:
        return [run for run in self.runs if run.results]

    def of_split(self, split: str) -> dict[str, NDArray]:
        """Returns the predictions of all finished runs for one split, one run after the other."""
        parts = [run.of_split(split) for run in self.finished]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def find_runs(paths: list[Path]) -> list[StoredRun]:
    """
    Reads the runs in folders, each of one run or of a sweep.

    Raises:
        RunError: There is no run, or one is damaged.
    """
    folders: dict[Path, Path] = {}
    for path in paths:
        found = (
            [path] if (path / OPTIONS_FILE).is_file() else [file.parent for file in sorted(path.rglob(OPTIONS_FILE))]
        )
        if not found:
            what = "holds no run: there is no options.yaml in it" if path.is_dir() else "is not the folder of a run"
            raise RunError(f"{path} {what}; name the --output_dir of `selfmm train`.")
        folders |= {folder.resolve(): folder for folder in found}
    return [_finished_with_test(StoredRun.read(folder)) for folder in folders.values()]


def _finished_with_test(run: StoredRun) -> StoredRun:
    if run.results and "test" not in run.predictions["split"]:
        raise RunError(f"{run.folder} has no predictions of the test split, which a report needs; a trial has none.")
    return run


def group_runs(runs: list[StoredRun]) -> list[Group]:
    """
    Groups runs that differ only in their seeds, and names groups by the options that set them apart.

    Raises:
        RunError: The runs cannot be compared.
    """
    if len(tasks := {run.task for run in runs}) > 1:
        found = "; ".join(sorted(describe(task) for task in tasks))
        raise RunError(f"These runs have labels of several kinds, {found}: make a report of each data set.")
    alike: dict[str, list[StoredRun]] = {}
    for run in runs:
        recipe = _recipe(run) | {"data": run.environment.get("data")}  # their content, wherever they lie
        alike.setdefault(json.dumps(recipe, sort_keys=True, default=str), []).append(run)
    groups = [_once(runs) for runs in alike.values()]
    names = _names([runs[0] for runs in groups])
    return [Group(*of) for of in zip(names, groups, _slugs(names), strict=True)]


def _recipe(run: StoredRun) -> dict[str, Any]:
    left_out = ("seed", *filter(UNLEARNED_OPTIONS.fullmatch, run.options))
    return {name: value for name, value in run.options.items() if name not in left_out}


def _once(runs: list[StoredRun]) -> list[StoredRun]:
    """Sorts runs by seed. Of two with the same seed, as two sweeps may have it, keeps one if both predict the same."""
    by_seed: dict[int, StoredRun] = {}
    for run in sorted(runs, key=lambda run: (not run.results, run.seed)):  # the finished ones first
        first, twin = next(iter(by_seed.values()), run), by_seed.setdefault(run.seed, run)
        if not run.results:
            continue
        if not run.same_clips(first):
            raise RunError(f"{first.folder} and {run.folder} have the same options, but not the same clips.")
        if not np.array_equal(twin.predictions["fusion"], run.predictions["fusion"]):
            raise RunError(
                f"{twin.folder} and {run.folder} have the same options and the same seed, but not the same "
                "predictions, as of two versions or machines: name one of them."
            )
    return [by_seed[seed] for seed in sorted(by_seed)]


def _names(runs: list[StoredRun]) -> list[str]:
    """Names each run by its configuration in a sweep, or by the options that set it apart; otherwise by its folder."""
    recipes = [_recipe(run) for run in runs]
    everything = sorted({name for recipe in recipes for name in recipe})
    apart = [name for name in everything if len({str(recipe.get(name)) for recipe in recipes}) > 1]
    names = [
        _configuration(run.folder) or ", ".join(_named(name, recipe.get(name)) for name in apart)
        for run, recipe in zip(runs, recipes, strict=True)
    ]
    if max(map(len, names)) > LONGEST:
        names = [_configuration(run.folder) or run.folder.name for run in runs]
    ends = [
        _end(run, [other for other, one in zip(runs, names, strict=True) if one == name and other is not run])
        for run, name in zip(runs, names, strict=True)
    ]
    return [
        name if names.count(name) == 1 else f"{name} ({end})".lstrip() for name, end in zip(names, ends, strict=True)
    ]


def _end(run: StoredRun, others: list[StoredRun]) -> str:
    """Returns the shortest end of the path of a run's sweep or folder that no other run has."""
    taken = {end for other in others for end in _ends(other)}
    return next((end for end in _ends(run) if end not in taken), "")


def _ends(run: StoredRun) -> Iterator[str]:
    folder = run.folder.absolute()
    for place in [folder.parents[1], folder] if _configuration(folder) else [folder]:
        for count in range(1, len(place.parts)):
            yield "/".join(place.parts[-count:])


def _slugs(names: list[str]) -> list[str]:
    """Turns the names into parts of file names, which differ even where case does not count."""
    slugs = [re.sub(r"\W+", "-", name.casefold()).strip("-")[:60] for name in names]
    if len(set(slugs)) == len(slugs):
        return slugs
    return [f"{number}-{slug}".strip("-") for number, slug in enumerate(slugs, start=1)]


class Data:
    """The data sets of runs. Each is read once, if it is still there."""

    def __init__(self):
        self._loaded: dict[tuple, Splits | str] = {}
        self._fingerprints: dict[tuple, dict[str, str]] = {}

    def of(self, run: StoredRun) -> Splits | str:
        """Returns the splits that `run` was trained on, or a sentence that says why they are not there."""
        names = ("data", "data_config", "data_revision")
        key = (run.dataset, *(run.options.get(name) for name in names), run.label_range)
        if key not in self._loaded:
            try:
                self._loaded[key] = load_splits(*key, problem_type=run.options.get("problem_type"))
            except (ValueError, OSError):
                self._loaded[key] = f"The data, {_place(key[1])}, can no longer be read from where the run had them."
        splits = self._loaded[key]
        if not isinstance(splits, str) and not self._same(key, splits, run):
            return f"The data, {_place(key[1])}, have changed since the run was trained on them."
        return splits

    def _same(self, key: tuple, splits: Splits, run: StoredRun) -> bool:
        """Checks that the run was trained on these clips, as it has recorded them; older runs record only their ids."""
        if "data" not in run.environment:
            return splits["train"]["id"] == run.train_ids
        if key not in self._fingerprints:
            self._fingerprints[key] = {split: samples.fingerprint() for split, samples in splits.items()}
        return self._fingerprints[key] == run.environment["data"]


def _place(data: str | None) -> str:
    return Path(data).name if data else "the generated corpus"


def _configuration(folder: Path) -> str:
    """Returns the name of a run's configuration: the runs of `selfmm benchmark` lie in SWEEP/CONFIGURATION/SEED."""
    configuration = folder.absolute().parent
    return configuration.name if (configuration.parent / SWEEP_FILE).is_file() else ""


def _named(name: str, value: Any) -> str:
    """Writes an option with its value, of a path only the end, to tell groups apart."""
    if isinstance(value, list):
        value = " ".join(map(str, value)) or "none"
    elif isinstance(value, str) and "/" in value:
        value = Path(value).name
    return f"{name} {'default' if value is None else str(value):.40}".replace("_", " ")
