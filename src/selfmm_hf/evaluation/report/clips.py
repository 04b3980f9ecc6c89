"""Shows where the modalities disagree most, with the sentences (the paper's case study)."""

import numpy as np
from numpy.typing import NDArray

from ...labels.conflict import ranges
from ...runs.plot import COLOURS, GREY, legend, looks_of
from .data import Data, Group
from .drawing import PAPER, Figure, Panel, Table

CLIPS = 8
KINDS = {"train": "Generated labels, training clips", "test": "Predictions, test clips"}


def case_study(groups: list[Group], data: Data) -> Figure:
    """Draws the clips with the widest range of generated labels, and of predictions."""
    panels, tables, notes = [], [], set()
    for number, group in enumerate(groups, start=1):
        first = group.finished[0]
        if len(first.tasks) < 2:
            notes.add("If fewer than two modalities have a task of their own, none can disagree.")
            continue
        splits = data.of(first)
        if isinstance(splits, str):
            notes.add(f"{splits} So the sentences are left out.")
        for split, kind in KINDS.items():
            ids, columns = _training(group) if split == "train" else _test(group)
            rows = _widest(np.array([columns[name] for name in first.tasks]))
            if not len(rows):
                notes.add(f"No {split} clip has two modalities that could disagree.")
                continue
            found = {name: of[rows] for name, of in columns.items()}
            title, draw = group.titled(kind), _strips(found, first.label_range)
            panels.append(Panel(group.picture("clips", split), title, _said(found), draw, number, (4.0, 4.2)))
            words = {}
            if not isinstance(splits, str):
                by_id = dict(zip(splits[split]["id"], splits[split]["text"], strict=True))
                words = {"sentence": [by_id.get(ids[row], "") for row in rows]}
            columns = {"": range(1, len(rows) + 1), "clip": [ids[row] for row in rows], **words, **found}
            tables.append(Table(list(columns), list(zip(*columns.values(), strict=True)), title))
    text = (
        f"The {CLIPS} clips on which the modalities disagree most: training clips by their generated labels of the "
        "chosen epoch, test clips by the predictions of each modality alone. For several seeds, these are means. The "
        "numbers on the left are those of the table, which shows the sentences."
    )
    return Figure("clips", "Where the modalities disagree most", " ".join([text, *sorted(notes)]), panels, tables)


def _said(found: dict[str, NDArray]) -> str:
    """Describes the drawing in words, without absent modalities."""
    clips = zip(*found.values(), strict=True)
    said = [
        ", ".join(f"{name} {value:+.1f}" for name, value in zip(found, values, strict=True) if np.isfinite(value))
        for values in clips
    ]
    return " ".join(f"Clip {place}: {values}." for place, values in enumerate(said, start=1))


def _training(group: Group) -> tuple[list[str], dict[str, NDArray]]:
    """Returns ids, the fused label, and the generated labels of the chosen epoch."""
    first = group.finished[0]
    columns = {"label": first.fused}
    for name in first.tasks:
        columns[name] = np.mean([run.generated[name][run.results["best_epoch"] - 1] for run in group.finished], axis=0)
    return first.train_ids, columns


def _test(group: Group) -> tuple[list[str], dict[str, NDArray]]:
    """Returns ids, the label, and the predictions."""
    tests = [run.of_split("test") for run in group.finished]
    columns = {name: np.mean([test[name] for test in tests], axis=0) for name in ("fusion", *group.finished[0].tasks)}
    return list(tests[0]["id"]), {"label": tests[0]["label"], **columns}


def _widest(values: NDArray) -> NDArray[np.int64]:
    """Returns the clips with the widest range among (modalities, clips), which may be NaN; the widest first."""
    found = ranges(values)
    return np.argsort(-found, kind="stable")[: min(CLIPS, int(np.isfinite(found).sum()))]  # NaN comes last


def _strips(found: dict[str, NDArray], limit: float):
    """Draws a line for each clip, from the lowest to the highest modality, and a mark for each modality."""

    def draw(axes) -> None:
        count = len(found["label"])
        places = np.arange(count)[::-1]
        alone = np.array([of for name, of in found.items() if name not in ("label", "fusion")])
        axes.axvline(0, color=GREY, linewidth=1, alpha=0.6)
        axes.hlines(places, np.nanmin(alone, 0), np.nanmax(alone, 0), color=GREY, alpha=0.45, linewidth=2)
        axes.plot(found["label"], places, "|", color=COLOURS["fusion"], markersize=16, markeredgewidth=2, label="label")
        for name, look in looks_of(name for name in found if name != "label").items():
            style = {"markerfacecolor": PAPER, "markersize": 8} if name == "fusion" else {"markersize": 7}
            axes.plot(found[name], places, look.mark, color=look.colour, label=name, **style)
        axes.set_yticks(places, range(1, count + 1))
        reach = max(limit, np.nanmax(np.abs(alone))) * 1.06
        axes.set(xlim=(-reach, reach), xlabel="negative  \N{LEFT RIGHT ARROW}  positive", ylabel="clip")
        axes.grid(axis="y", color=GREY, alpha=0.15)
        legend(axes, 3 if "fusion" in found else 4)

    return draw
