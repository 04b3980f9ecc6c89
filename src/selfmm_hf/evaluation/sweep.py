"""A sweep: each of some configurations with each of some seeds, with a run folder for each."""

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ..resources import named
from ..runs.folder import ENVIRONMENT_FILE, OPTIONS_FILE, difference
from ..runs.options import as_arguments, find_file, read_map, read_options
from ..runs.run import Run
from ..storage.whole_files import write_text
from ..training.arguments import SelfMMTrainingArguments
from ..training.processes import FolderInUse, is_empty, occupied
from .sweep_runs import RunFailed, complete, is_done

SWEEPS = named("sweeps")
SWEEP_FILE = "sweep.yaml"
ONE_CONFIGURATION: dict[str, dict[str, Any]] = {"base": {}}
DEFAULT_SEED = SelfMMTrainingArguments.__dataclass_fields__["seed"].default
# Options that the sweep sets itself.
OWN_OPTIONS = ("seed", "output_dir", "overwrite_output_dir", "resume_from_checkpoint", "push_to_hub")


@dataclass
class Sweep:
    """
    The runs of a sweep, as `sweep.yaml` in its folder records them.

    Attributes:
        base: Options of all runs that are not the defaults.
        configurations: By name, the options in which each differs from the base. The others are compared with the
            first.
        first_seed, seeds: Each configuration is run with `seeds` seeds from `first_seed` on, and with no others, so
            that nobody can choose among them afterwards.
        seeds_before: How many seeds there were before more were added. The table tells it, because adding seeds until a
            difference shows tests it many times.
    """

    base: dict[str, Any]
    configurations: dict[str, dict[str, Any]]
    first_seed: int
    seeds: int
    seeds_before: list[int] = field(default_factory=list)

    def runs(self) -> Iterator[tuple[str, int]]:
        """Yields configuration and seed of each run, the first seed of all configurations first."""
        for seed in range(self.first_seed, self.first_seed + self.seeds):
            for name in self.configurations:
                yield name, seed


def run_folder(folder: Path, name: str, seed: int) -> Path:
    return folder / name / str(seed)


def read_configurations(name: str) -> dict[str, dict[str, Any]]:
    """
    Reads configurations, names with a map of options each, from a YAML file, or from one of `SWEEPS` by its name.

    Raises:
        ValueError: There is no such file, or it holds something else.
    """
    file = find_file(name, SWEEPS, f"There is no sweep file {name}, and those that come along are")
    configurations = read_map(file, what := "configurations as `name: {option: value, ...}`")
    if not configurations:
        raise ValueError(f"{file} must hold {what}.")
    for one, options in configurations.items():
        if not re.fullmatch(r"\w[\w.+-]*", str(one)):
            raise ValueError(f"{file}: {one!r} names a folder: use letters, digits and . + - _ alone.")
        if not isinstance(options, dict):
            raise ValueError(f"{file}: {one} must be a map of options, {{}} for none, got {options!r}.")
        if own := options.keys() & {*OWN_OPTIONS, "config"}:
            raise ValueError(f"{file}: {one} sets {sorted(own)[0]}, which must be the same for the whole sweep.")
    return {str(one): options for one, options in configurations.items()}


def read_sweep(folder: Path) -> Sweep:
    """
    Reads the sweep in a folder.

    Raises:
        ValueError: It holds none.
    """
    if not (folder / SWEEP_FILE).is_file():
        raise ValueError(f"{folder} holds no sweep: there is no {SWEEP_FILE}; `selfmm benchmark run` makes it.")
    return Sweep(**yaml.safe_load((folder / SWEEP_FILE).read_text("utf-8")))


def base_options(arguments: list[str]) -> dict[str, Any]:
    """
    Returns the options that all runs have in common, as `options.yaml` has them.

    Raises:
        ValueError: An option is wrong, or is set by the sweep.
    """
    options, _, args = read_options(arguments)
    if options.overwrite_output_dir or args.resume_from_checkpoint or args.push_to_hub:
        raise ValueError(
            "overwrite_output_dir, resume_from_checkpoint and push_to_hub cannot be set for many runs: finished runs "
            "are left as they are, interrupted ones resume, and none is published."
        )
    if args.world_size > 1:
        raise ValueError(
            f"This is one of {args.world_size} processes, but sweeps and searches train in one: start `selfmm` without "
            "a launcher."
        )
    return {name: value for name, value in options.given.items() if name not in OWN_OPTIONS}


def run_arguments(sweep: Sweep, arguments: list[str], name: str, seed: int) -> list[str]:
    return [*arguments, *as_arguments(sweep.configurations[name]), "--seed", str(seed)]


def prepare(folder: Path, configurations: dict[str, dict[str, Any]], seeds: int, arguments: list[str]) -> Sweep:
    """
    Checks that everything in `folder` is of one kind, and adds what is new to its `sweep.yaml`.

    Args:
        folder: New, or of an earlier sweep of the same options and data, to which configurations and seeds are added.
        seeds: Number of seeds; the first is that of the options.
        arguments: Options of all runs, as for `train.py`.

    Raises:
        ValueError: An option is wrong, the folder holds runs of other options or other data, or another command is at
            work there. Nothing is written.
    """
    if seeds < 1:
        raise ValueError(f"A sweep needs at least one seed, got {seeds}.")
    wanted = Sweep(base_options(arguments), configurations, read_options(arguments)[2].seed, seeds)
    sweep = _added(folder, wanted)
    unread = {}
    for name in sweep.configurations:
        try:
            unread[name] = read_options(run_arguments(sweep, arguments, name, sweep.first_seed))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    data = _data_fingerprints(folder, unread)
    for name, seed in sweep.runs():
        check_run(run_folder(folder, name, seed), unread[name][0].given | {"seed": seed}, data[name])
    with occupied(folder):
        if _added(folder, wanted) != sweep:
            raise ValueError(f"Another command has changed the sweep in {folder} meanwhile: start again.")
        text = yaml.safe_dump(asdict(sweep), allow_unicode=True, sort_keys=False)
        write_text(folder / SWEEP_FILE, text)
    return sweep


def _data_fingerprints(folder: Path, unread: dict[str, tuple]) -> dict[str, dict[str, str]]:
    """
    Returns the fingerprints of the data of each configuration.

    Raises:
        ValueError: The configurations have different clips, or clips that cannot be trained on.
    """
    found: dict[tuple, dict[str, str]] = {}
    clips: dict[str, Any] = {}
    data = {}
    for name, (options, model_options, args) in unread.items():
        place = tuple(getattr(options, one) for one in ("dataset", "data", "data_config", "data_revision"))
        if place not in found:
            args.output_dir = str(folder / "none")  # of a run that is made, but never begun
            run = Run(options, model_options, args, test=False)
            found[place] = run.data_fingerprint()
            clips[name] = {split: (samples["id"], samples["label"]) for split, samples in run.splits.items()}
            first = next(iter(clips))
            if clips[name] != clips[first]:
                raise ValueError(f"{first} and {name} have different clips: one table cannot hold both.")
        data[name] = found[place]
    return data


def _added(folder: Path, sweep: Sweep) -> Sweep:
    """Returns `sweep` with what the one in `folder`, if there is one, has beyond it."""
    if is_empty(folder):
        return sweep
    if not (folder / SWEEP_FILE).is_file():
        raise ValueError(f"{folder} is not empty, but holds no sweep; name another --output_dir.")
    before = read_sweep(folder)
    was, wanted = (one.base | {"seed": one.first_seed} for one in (before, sweep))
    if name := difference(was, wanted):
        raise ValueError(
            f"The sweep in {folder} was started with {name}: {was.get(name, 'the default')}, and cannot be resumed "
            f"with {wanted.get(name, 'the default')}: name another --output_dir."
        )
    for name, options in sweep.configurations.items():
        if before.configurations.get(name, options) != options:
            raise ValueError(
                f"In {folder}, {name} has the options {before.configurations[name]}, not {options}: rename it."
            )
    return Sweep(
        sweep.base,
        before.configurations | sweep.configurations,
        sweep.first_seed,
        max(before.seeds, sweep.seeds),
        before.seeds_before + [before.seeds] * (sweep.seeds > before.seeds),
    )


def check_run(folder: Path, given: dict[str, Any], data: dict[str, str]) -> None:
    """
    Checks that the run in `folder`, if there is one, belongs to the sweep.
    Raises:
        ValueError: The run in `folder`, if there is one, has other options or other data.
    """
    if (folder / OPTIONS_FILE).is_file():
        before = yaml.safe_load((folder / OPTIONS_FILE).read_text("utf-8"))
        if name := difference({"seed": DEFAULT_SEED, **before}, given):
            was, wanted = (one.get(name, "the default") for one in (before, given))
            raise ValueError(f"The run in {folder} has {name}: {was}, not {wanted}: name another --output_dir.")
    if (folder / ENVIRONMENT_FILE).is_file():
        before = json.loads((folder / ENVIRONMENT_FILE).read_text("utf-8"))["data"]
        if split := next((split for split in data if before.get(split) != data[split]), None):
            raise ValueError(f"The run in {folder} has other data: its {split} split is another one.")


def run_sweep(folder: Path, sweep: Sweep, arguments: list[str], tell: Callable[[str], None]) -> int:
    """
    Does the runs that are not done yet, one after the other. One that fails does not stop the others.

    Args:
        arguments: As for [`prepare`].
        tell: Called with a line on each run.

    Returns:
        How many runs are not done in the end.
    """
    todo = [(name, seed) for name, seed in sweep.runs() if not is_done(run_folder(folder, name, seed))]
    tell(f"{len(todo)} of {sweep.seeds * len(sweep.configurations)} runs to do, in {folder}")
    started, undone = time.monotonic(), 0
    for number, (name, seed) in enumerate(todo):
        spent = time.monotonic() - started
        left = f", about {minutes(spent / number * (len(todo) - number))} left" if number else ""
        tell(f"run {number + 1} of {len(todo)}: {name}, seed {seed}{left}")
        try:
            complete(run_folder(folder, name, seed), run_arguments(sweep, arguments, name, seed), test=True)
        except (RunFailed, FolderInUse) as error:
            undone += 1
            tell(f"{name}, seed {seed}: {error}")
    return undone


def minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
