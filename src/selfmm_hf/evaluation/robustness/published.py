"""Reads published figures from hub_configs/published/robustness.yaml."""

from dataclasses import dataclass

import yaml

from ...metrics import is_share
from ...resources import CONFIGS

FILE = CONFIGS / "published" / "robustness.yaml"


@dataclass(frozen=True)
class Published:
    """
    The figures that a paper prints for one method on one data set.

    Args:
        protocol: `random` or `subsets`.
        paper: A short name of the paper.
        source: The paper, and what its figures are.
        metrics: By name, and by the label of the row, see [`label`]; in the units of `metrics.py`.
    """

    dataset: str
    protocol: str
    method: str
    paper: str
    source: str
    metrics: dict[str, dict[str, float]]


def published(dataset: str | None = None) -> list[Published]:
    """Returns all rows, or those of one data set."""
    content = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    rows = []
    for row in content["rows"]:
        told = {name: row.pop(name) for name in ("dataset", "protocol", "method")}
        source = content["sources"][row.pop("source")]
        metrics = {
            name: {str(label): value / 100 if is_share(name) else value for label, value in cells.items()}
            for name, cells in row.items()
        }
        if dataset in (None, told["dataset"]):
            rows.append(Published(paper=source["short"], source=source["text"], metrics=metrics, **told))
    return rows
