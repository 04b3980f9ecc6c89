"""The table that `selfmm predict` prints."""

import os
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .terminal import printable

if TYPE_CHECKING:
    from selfmm_hf import SelfMMConfig


class Table:
    """
    One line for each clip: the prediction from all modalities together and from each, and remarks.

    Args:
        names: Names of all clips to come: a line is written before the next clip is read.
        config: Configuration of the model.
    """

    def __init__(self, names: list[str], config: "SelfMMConfig"):
        from selfmm_hf.model.pipeline_selfmm import CLASSES

        self.modalities, self.begun, task = config.modalities, False, config.task
        self.one = task.label_range is not None
        self.shown = shown(names)
        clip = max(map(len, ("clip", *self.shown.values())))
        if self.one:
            self.head, number, label = ["score", ""], len(_signed(0.0)), [-max(map(len, CLASSES.values()))]
        elif task.scales:
            number = len("/".join(max((f"{end:.2f}" for end in scale), key=len) for scale in task.scales))
            self.head, label = ["/".join(task.names)], []
        else:
            self.head, number, label = ["label"], max(map(len, task.names)) + len(" 100%"), []
        number = max(number, len(self.head[0]))
        self.widths = [-clip, number, *label, *(max(len(name), number) for name in self.modalities)]  # left: negative

    def lines(self, name: str, result: dict[str, Any]) -> list[str]:
        """Returns the line of a clip, and before the first one the names of the columns."""
        from selfmm_hf.model.picture_selfmm import disagreement

        alone = [result["unimodal"][modality] for modality in self.modalities]
        if self.one:
            cells = [_signed(result["score"]), result["label"], *map(_signed, alone)]
        else:
            cells = [_said(result, scores) for scores in (result["scores"], *alone)]
        remarks = [disagreement(result), *result["remarks"], *dict.fromkeys(result["absent"].values())]
        row = [self.shown[name], *cells, "; ".join(remark.rstrip(".") for remark in remarks if remark)]
        rows = [row] if self.begun else [["clip", *self.head, *self.modalities, ""], row]
        self.begun = True
        return [self._line(row) for row in rows]

    def _line(self, cells: list[str]) -> str:
        cells = [printable(cell) for cell in cells]
        padded = [
            cell.ljust(-width) if width <= 0 else cell.rjust(width)
            for cell, width in zip(cells, [*self.widths, 0], strict=True)
        ]
        return "  ".join(padded).rstrip()


def shown(names: Iterable[str]) -> dict[str, str]:
    """Returns the names of clips for a table or a page: those of the files alone, unless several share one."""
    files = {name: os.path.basename(name) or name for name in names}
    shared = Counter(files.values())
    return {name: printable(name if shared[file] > 1 else file) for name, file in files.items()}


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2f}"


def _said(result: dict[str, Any], scores: dict[str, float] | None) -> str:
    """Returns what one modality, or all together, say, as short as a table needs it."""
    from selfmm_hf.model.chart_selfmm import SINGLE_LABEL, said

    if scores is None:
        return "-"
    if "scales" in result:
        return "/".join(f"{value:.2f}" for value in scores.values())
    label = said(result, scores)
    return f"{label} {scores[label]:.0%}" if result["task"] == SINGLE_LABEL else label
