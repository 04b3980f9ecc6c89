"""Published figures of Self-MM, to set beside those of a run: hub_configs/published/, a file for each data set."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import yaml

from .metrics import is_share
from .model.task_selfmm import REGRESSION, Task
from .resources import CONFIGS

FOLDER = CONFIGS / "published"
OWN = {"emer": {"face", "eye", "fixation"}}  # data sets that are read as custom ones, by their modalities


@dataclass(frozen=True)
class PublishedFigures:
    """
    The figures that one source prints.

    Args:
        dataset: What the data set is called.
        name: Of the source, short.
        seeds: Number of seeds over which the figures are means; `None` if unknown.
        of: What they describe, and where they are printed: what to know before comparing.
        metrics: By name and in the units of `metrics.py`; never empty.
    """

    dataset: str
    name: str
    seeds: int | None
    of: str
    metrics: dict[str, float]


def published_figures(
    dataset: str, modalities: Collection[str], task: Task, known: Collection[str]
) -> list[PublishedFigures]:
    """
    Of the data set of a run, those of its kind of task.

    Args:
        dataset: As in `--dataset`; one of one's own is told by its modalities.
        modalities: Of the run.
        known: The metrics that are shown; others are left out.
    """
    own = next((name for name, those in OWN.items() if those == set(modalities)), None)
    file = FOLDER / f"{own if dataset == 'custom' else dataset}.yaml"
    if not file.is_file():
        return []
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    # Of a task of one target, `mae_arousal` is `mae`.
    alone = f"_{task.names[0]}" if task.problem_type == REGRESSION and len(task.names) == 1 else "_"
    found = []
    for row in content["rows"]:
        kinds, name, of, seeds = (row.pop(key, None) for key in ("problem_types", "name", "of", "seeds"))
        if (task.label_range is None) if kinds is None else (task.problem_type not in kinds):
            continue
        figures = {metric.removesuffix(alone): value for metric, value in row.items()}
        figures = {
            metric: value / 100 if is_share(metric) else value for metric, value in figures.items() if metric in known
        }
        if figures:
            found.append(PublishedFigures(content["title"], name, seeds, of, figures))
    return found


def as_printed(metric: str, value: float) -> str:
    """A share in percent with two decimals, anything else with three."""
    return f"{100 * value:.2f}" if is_share(metric) else f"{value:.3f}"


def published_in_words(rows: Collection[PublishedFigures], encoders: Collection[str] = ()) -> Iterator[str]:
    """
    Says what to know before comparing: a line, and one for each source.

    Args:
        encoders: The text encoders of the runs that they stand beside.
    """
    if rows:
        dataset = next(iter(rows)).dataset
        own = f" (of the runs here: {', '.join(encoders)})" if encoders else ""
        yield f"Published figures of {dataset} come from other trainings, and perhaps other features and encoders{own}:"
    for row in rows:
        yield f"- {row.name}: {row.of}"
