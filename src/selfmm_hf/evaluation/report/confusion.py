"""Shows which classes of sentiment are taken for which."""

import numpy as np
from numpy.typing import NDArray

from ...metrics import SIMS_LIMITS
from ...runs.plot import COLOURS, GREY
from .data import Group
from .drawing import Figure, Panel, Table

SEVEN = ["\N{MINUS SIGN}3", "\N{MINUS SIGN}2", "\N{MINUS SIGN}1", "0", "+1", "+2", "+3"]


def classes(scores: NDArray, label_range: float, count: int) -> tuple[NDArray[np.int64], list[str]]:
    """Returns the class of each score as the field counts them (`metrics.py`), and the names of the classes."""
    if label_range == 3:
        return (np.round(np.clip(np.float32(scores), -3, 3)) + 3).astype(int), SEVEN
    limits = SIMS_LIMITS[count]
    names = [f"≤ {limits[0]:g}", *(f"≤ {limit:g}" for limit in limits[1:]), f"> {limits[-1]:g}"]
    return np.digitize(np.clip(np.float32(scores), -1, 1), np.float32(limits), right=True), names


def confusion(labels: NDArray, predictions: NDArray, label_range: float, count: int) -> tuple[NDArray, list[str]]:
    """Counts clips by true class (rows) and predicted class (columns); also returns the names of the classes."""
    true, names = classes(labels, label_range, count)
    matrix = np.zeros((len(names), len(names)), dtype=int)
    np.add.at(matrix, (true, classes(predictions, label_range, count)[0]), 1)
    return matrix, names


def confusions(groups: list[Group]) -> Figure:
    """Draws which classes are taken for which: seven for MOSI and its kin, five and three for SIMS."""
    panels, tables = [], []
    label_range = groups[0].finished[0].label_range
    for number, group in enumerate(groups, start=1):
        test = group.of_split("test")
        for count in (7,) if label_range == 3 else (5, 3):
            matrix, names = confusion(test["label"], test["fusion"], label_range, count)
            title = group.titled(f"{count} classes")
            right, near = np.trace(matrix), sum(np.trace(matrix, offset) for offset in (-1, 0, 1))
            alt = (
                f"Confusion matrix: {right} of {matrix.sum()} predictions ({right / matrix.sum():.1%}) are of the "
                f"right class, {near / matrix.sum():.1%} of it or a class next to it."
            )
            panels.append(
                Panel(
                    group.picture("confusion", str(count)),
                    title,
                    alt,
                    _matrix(matrix, names),
                    1 if count == 7 else number,
                    (4.0, 3.9),
                )
            )
            head = ["true class", *(f"predicted {name}" for name in names), "clips"]
            rows = [(name, *map(int, row), int(row.sum())) for name, row in zip(names, matrix, strict=True)]
            tables.append(Table(head, rows, title))
    text = (
        "Rows are true classes, columns are predicted classes, and numbers count the clips of the test split. The "
        "stronger the colour of a cell, the larger its share of the row. Correct predictions lie on the framed "
        "diagonal."
    )
    if any(len(group.finished) > 1 for group in groups):
        text += " The predictions of all seeds are counted together."
    return Figure("confusion", "Confusion matrix", text, panels, tables)


def _matrix(matrix: NDArray, names: list[str]):
    def draw(axes) -> None:
        from matplotlib.patches import Rectangle

        for row, counts in enumerate(matrix):
            for column, clips in enumerate(counts):
                share = clips / max(1, counts.sum())
                place = (column - 0.5, row - 0.5)
                axes.add_patch(Rectangle(place, 1, 1, color=COLOURS["text"], alpha=0.62 * share, linewidth=0))
                if row == column:
                    axes.add_patch(Rectangle(place, 1, 1, fill=False, edgecolor=GREY, linewidth=1.2))
                if clips:
                    axes.text(column, row, clips, ha="center", va="center")
        axes.set_xticks(range(len(names)), names)
        axes.set_yticks(range(len(names)), names)
        edges = (-0.52, len(names) - 0.48)
        axes.set(xlabel="predicted class", ylabel="true class", xlim=edges, ylim=edges[::-1], aspect="equal")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)

    return draw
