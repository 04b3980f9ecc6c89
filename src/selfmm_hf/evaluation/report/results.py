"""Shows the metrics of the runs, beside published figures."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ...labels.conflict import conflict_in_words
from ...metrics import METRIC_NAMES, is_share, metric_name, reported
from ...published import PublishedFigures, published_figures, published_in_words
from ...runs.plot import COLOURS, GREY
from .data import Group
from .drawing import Figure, Panel, Table


def results(groups: list[Group]) -> Figure:
    """Shows the field's metrics: those of the test split by group and seed, and all in a table."""
    runs = [run for group in groups for run in group.finished]
    names = reported(dict.fromkeys(name for run in runs for name in run.results), "test")
    titles = {name: metric_name(name)[1] for name in names}
    several = _several_seeds(groups)
    panels = [_seeds_panel(groups, name, titles[name]) for name in names[:3] if several]
    first = runs[0]
    one_dataset = len({run.dataset for run in runs}) == 1
    published = published_figures(first.dataset, first.modalities, first.task, names) if one_dataset else []
    by_split = _by_metric if first.label_range is None else _by_run  # metrics of each target are too many for a line
    tables = [
        table
        for split in ("test", "validation")
        for table in by_split(groups, split, titles, published if split == "test" else [])
    ]
    if published:
        rows = [(one.name, one.of) for one in published]
        tables.append(Table(["published", "what it is of"], rows, f"Published figures of {published[0].dataset}"))
    text = "The epoch was chosen by the validation loss alone; the test split was read once, after that."
    if published:
        encoders = sorted({run.text_encoder for run in runs} - {None})
        text += f" {next(published_in_words(published, encoders)).rstrip(':')}: see the last table."
    if several:
        text += " Each point is a seed, and the stroke is their mean."
    if first.label_range is None:
        text += (
            ' The column "constant" predicts the same for each clip: the most frequent class or the median in training.'
        )
    elif conflict := conflict_in_words([run.results for run in runs], first.label_range):
        text += f" {conflict}"
    return Figure("results", "Results", text, panels, tables)


def _by_run(
    groups: list[Group], split: str, titles: dict[str, str], published: list[PublishedFigures]
) -> Iterator[Table]:
    """Yields one table: a row for each configuration, then one for each published model."""
    several = _several_seeds(groups)
    named = several or bool(published)
    rows: list[tuple] = []
    for group in groups:
        name = [group.name or ("all seeds" if several else "this run")] * named
        rows.append((*name, *[len(group.finished)] * several, *(_cell(group, f"{split}_{one}") for one in titles)))
    for one in published:
        cells = (_published_cell(one, name) for name in titles)
        rows.append((f"published: {one.name}", *[one.seeds or ""] * several, *cells))
    yield Table([*["runs"] * named, *["seeds"] * several, *titles.values()], rows, _caption(groups, split))


def _by_metric(
    groups: list[Group], split: str, titles: dict[str, str], published: list[PublishedFigures]
) -> Iterator[Table]:
    """Yields tables with a row for each metric: those of the task, those that are published, those of each target."""
    columns = [(group.name or "run", {name: _cell(group, f"{split}_{name}") for name in titles}) for group in groups]
    constant = [
        (group.titled("constant"), {name: _cell(group, f"{split}_constant_{name}") for name in titles})
        for group in groups
    ]
    alike = all(cells == constant[0][1] for _, cells in constant)  # otherwise the groups have other clips
    columns += [("constant", constant[0][1])] if alike else constant
    beside = [(f"published: {one.name}", {name: _published_cell(one, name) for name in titles}) for one in published]
    printed = {name for one in published for name in one.metrics}
    for kind, names, shown in (
        ("", [name for name in titles if name in METRIC_NAMES], columns),
        (", beside published figures", [name for name in titles if name in printed], columns + beside),
        (", each of them", [name for name in titles if name not in METRIC_NAMES], columns),
    ):
        cells = {name: [column[name] for _, column in shown] for name in names}
        if rows := [(titles[name], *of) for name, of in cells.items() if any(of)]:
            yield Table(["", *(head for head, _ in shown)], rows, _caption(groups, split) + kind)


def _several_seeds(groups: list[Group]) -> bool:
    return sum(len(group.finished) for group in groups) > 1


def _caption(groups: list[Group], split: str) -> str:
    return f"{split.capitalize()} split{', mean and standard deviation over the seeds' * _several_seeds(groups)}"


def _published_cell(one: PublishedFigures, name: str) -> str:
    """Writes a published figure in the units of the page, with the digits that are printed."""
    if name not in one.metrics:
        return ""
    return f"{one.metrics[name]:.{4 if is_share(name) else 3}f}"


def _cell(group: Group, name: str) -> str:
    values = _values(group, name)
    deviation = f" ± {values.std(ddof=1):.3f}" if len(values) > 1 else ""
    return f"{values.mean():.3f}{deviation}" if np.isfinite(values).all() else ""


def _values(group: Group, name: str) -> NDArray[np.float64]:
    return np.array([run.results.get(name) for run in group.finished], dtype=float)  # None becomes NaN


def _seeds_panel(groups: list[Group], name: str, title: str) -> Panel:
    values = [_values(group, f"test_{name}") for group in groups]

    def draw(axes) -> None:
        places = np.arange(len(groups))[::-1]
        for place, of in zip(places, values, strict=True):
            axes.plot(of, np.full(len(of), place), "o", color=COLOURS["text"], alpha=0.6, markersize=6, linewidth=0)
            axes.plot([of.mean()] * 2, [place - 0.25, place + 0.25], color=COLOURS["fusion"], linewidth=2)
        axes.set_yticks(places, [group.name or "all seeds" for group in groups])
        axes.set(xlabel=f"{title}, test split", ylim=(-0.6, len(groups) - 0.4))
        axes.grid(axis="x", color=GREY, alpha=0.25)

    said = "; ".join(f"{group.name} {of.mean():.3f}".strip() for group, of in zip(groups, values, strict=True))
    return Panel(
        f"results-{name}", title, f"{title}, mean over the seeds: {said}.", draw, 1, (4.0, 1.5 + 0.4 * len(groups))
    )
