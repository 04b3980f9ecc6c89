"""
The search for options: many runs with options drawn from a space, scored on the validation split.

Optuna proposes the options, but not by way of `Trainer.hyperparameter_search`, which is for Python, because there

- only options of the training can vary; those of the model need a function of your own, and those of the data cannot;
- an interrupted trial is lost, and its random numbers are not those of a run of `train.py`, which therefore would not
  reproduce it.

Here, each trial is a [`Run`] that never loads the test split. Optuna keeps the trials in a journal, and draws each with
a seed of its number, so that a search that was killed resumes as if it had not been.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ..resources import named
from ..runs.folder import OPTIONS_FILE, difference
from ..runs.options import as_arguments, find_file, read_map, read_options
from ..runs.run import Run
from ..storage.whole_files import write_text
from ..training.processes import is_empty, occupied
from .sweep import OWN_OPTIONS, base_options
from .sweep_runs import RunFailed, complete, is_done

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

SPACES = named("search")
# With other values of these, a validation loss is one of other clips, labels or missing data: the lowest says nothing.
OF_THE_LOSS = (
    "dataset", "data", "data_config", "data_revision", "problem_type", "label_range", "max_missing_rate"
)  # fmt: skip
SEARCH_FILE, STUDY_FILE, BEST_FILE = "search.yaml", "optuna.journal", "best.yaml"


def read_space(name: str) -> dict[str, list]:
    """
    Reads the choices for each option from a YAML file, or from one of `SPACES` by its name. Options within maps have
    names such as `learning_rates.encoders.text`.

    Raises:
        ValueError: There is no such file, it holds something else, or an option in it is the same for all trials.
    """
    file = find_file(name, SPACES, f"There is no search space {name}, and those that come along are")
    options = read_map(file, what := "the choices for options, as `option: [value, ...]`")
    if not options:
        raise ValueError(f"{file} must hold {what}.")
    space = {}
    for option, value in options.items():
        nested = {f"{option}.{prefix}": one for prefix, one in value.items()} if isinstance(value, dict) else None
        space |= nested or {str(option): value}
    for option, choices in space.items():
        if option in (*OWN_OPTIONS, "config", *OF_THE_LOSS):
            why = ": their validation losses would not compare" if option in OF_THE_LOSS else ""
            raise ValueError(f"{file}: {option} must be the same for all trials{why}; name it on the command line.")
        if not isinstance(choices, list) or not choices or any(isinstance(one, list | dict) for one in choices):
            raise ValueError(f"{file}: {option} must be a list of choices, as [0.0, 0.1], got {choices!r}.")
    return space


def trial_arguments(options: dict[str, Any]) -> list[str]:
    """Turns options into arguments; `learning_rates.encoders.text` is an entry of the map `learning_rates`."""
    nested: dict[str, Any] = {}
    for name, value in options.items():
        option, _, prefix = name.partition(".")
        if prefix:
            nested.setdefault(option, {})[prefix] = value
        else:
            nested[option] = value
    return as_arguments(nested)


def prepare(folder: Path, space: dict[str, list], arguments: list[str]) -> None:
    """
    Checks that the options fit each other and the data, and that everything in `folder` belongs to this search.

    Raises:
        ValueError: Something does not fit, or another search is at work there. Nothing is written.
    """
    base = base_options(arguments)
    seed = read_options(arguments)[2].seed
    for number in range(max(map(len, space.values()))):  # so that each choice of each option occurs
        read_options([*arguments, *trial_arguments({name: c[number % len(c)] for name, c in space.items()})])
    _check_not_given(space, arguments)
    wanted = {"base": base | {"seed": seed}, "space": space}
    _check_same(folder, wanted)
    first = trial_arguments({name: choices[0] for name, choices in space.items()})
    options, model_options, args = read_options([*arguments, *first, "--output_dir", str(folder / "none")])
    wanted["data"] = Run(options, model_options, args, test=False).data_fingerprint()
    with occupied(folder):
        _check_same(folder, wanted)
        if not (folder / SEARCH_FILE).is_file():
            write_text(folder / SEARCH_FILE, yaml.safe_dump(wanted, allow_unicode=True, sort_keys=False))


def _check_not_given(space: dict[str, list], arguments: list[str]) -> None:
    """
    Raises:
        ValueError: The command line, which comes before every file, has an option that the space would override.
    """
    given = read_options(arguments)[0].overrides
    names = {one.partition("=")[0].lstrip("-").replace("-", "_") for one in given if one.startswith("--")}
    for option in space:
        name, _, prefix = option.partition(".")
        if name in names and (not prefix or f'"{prefix}"' in " ".join(given)):
            raise ValueError(f"{option} is in the search space: leave it out of the command line, or of the space.")


def _check_same(folder: Path, wanted: dict[str, Any]) -> None:
    if is_empty(folder):
        return
    if not (folder / SEARCH_FILE).is_file():
        raise ValueError(f"{folder} is not empty, but holds no search; name another --output_dir.")
    before = yaml.safe_load((folder / SEARCH_FILE).read_text("utf-8"))
    name = difference(before["base"], wanted["base"])
    if name or before["space"] != wanted["space"]:
        raise ValueError(f"The search in {folder} has another {name or 'space'}: name another --output_dir.")
    if before["data"] != wanted.get("data", before["data"]):
        raise ValueError(f"The search in {folder} is of other data: name another --output_dir.")


def search(
    folder: Path, space: dict[str, list], trials: int, arguments: list[str], tell: Callable[[str], None]
) -> "list[FrozenTrial]":
    """
    Runs up to `trials` trials, one after the other, those of earlier calls included. Keeps the options of the best in
    `best.yaml`, as `train.py --config` takes them. Resumes an interrupted trial, tries a failed one again, and does not
    repeat one that is done with the options that were drawn.

    Args:
        folder, space, arguments: As for [`prepare`], which comes first.
        tell: Called with a line on each trial.

    Returns:
        All trials, in order: `value` is the validation loss of the best epoch, or `None` where the run failed;
        `params` is what was drawn, by name as in [`read_space`].
    """
    from optuna.distributions import CategoricalDistribution
    from optuna.samplers import TPESampler
    from optuna.trial import TrialState

    study, seed = _study(folder), read_options(arguments)[2].seed
    drawn_from = {name: CategoricalDistribution(choices) for name, choices in space.items()}
    trials = max(trials, len(study.trials))
    for number in range(trials):
        if number == len(study.trials):
            study.sampler = TPESampler(seed=seed + number)  # so that a stopped search draws as one that was not
            study.ask(drawn_from)
        trial = study.trials[number]
        told = f"trial {number}, {number + 1} of {trials}"
        if trial.params.keys() != space.keys():
            study.tell(number, state=TrialState.FAIL, skip_if_finished=True)
            tell(f"{told}: the process was killed while it drew the options")
            continue
        if trial.value is None:
            run, own = _trial_folder(folder, number), [*arguments, *trial_arguments(trial.params)]
            try:
                _check_trial(run, own)
                loss = complete(run, own, test=False)["selection_loss"]
            except RunFailed as error:
                tell(f"{told}: {error}")
                continue
            study.tell(number, loss)
        _keep(folder, study.best_trial)
        tell(f"{told}: validation loss {study.trials[number].value:.4f}, the best {study.best_value:.4f}")
    return study.trials


def _study(folder: Path) -> "Study":
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    file = str(folder / STUDY_FILE)
    Path(f"{file}.lock").unlink(missing_ok=True)  # left by a process that was killed; `occupied` keeps others out
    storage = optuna.storages.JournalStorage(JournalFileBackend(file, JournalFileOpenLock(file)))
    return optuna.create_study(storage=storage, study_name="search", direction="minimize", load_if_exists=True)


def _check_trial(run: Path, arguments: list[str]) -> None:
    """
    Raises:
        RunFailed: The trial is done, but with other options than those drawn: its journal was another one.
    """
    if not is_done(run):
        return
    before = yaml.safe_load((run / OPTIONS_FILE).read_text("utf-8"))
    if name := difference(before, read_options([*arguments, "--output_dir", str(run)])[0].given):
        raise RunFailed(f"{run} holds a trial with another {name} than {STUDY_FILE} has drawn: delete that trial")


def _trial_folder(folder: Path, number: int) -> Path:
    return folder / "trials" / f"{number:04d}"


def _keep(folder: Path, trial: "FrozenTrial") -> None:
    given = yaml.safe_load((_trial_folder(folder, trial.number) / OPTIONS_FILE).read_text("utf-8"))
    given.pop("output_dir", None)
    text = (
        f"# Trial {trial.number} of a search: validation loss {trial.value!r}, too good, as the best of many.\n"
        + yaml.safe_dump(given, allow_unicode=True)
    )
    write_text(folder / BEST_FILE, text)
