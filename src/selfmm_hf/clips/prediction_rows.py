"""Predictions as rows of a table."""

import csv
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..model.configuration_selfmm import SelfMMConfig
from ..storage.tables import plain_cell
from ..storage.whole_files import whole, write_text

WORDS = ("id", "clip", "label", "transcript", "error", "warnings")  # columns that hold no numbers


def prediction_columns(config: SelfMMConfig) -> list[str]:
    """
    Returns the columns of [`prediction_row`].

    Raises:
        ValueError: Two columns of the table would have the same name. JSON lines keep them apart.
    """
    names, targets = ["score", *config.modalities], config.task.names
    if config.task.label_range is None:
        names = [f"{name}_{target}" for name in names for target in targets]
    if twice := [name for name, count in Counter([*WORDS, *names]).items() if count > 1]:
        raise ValueError(
            f"A table of predictions would have two columns {twice[0]!r}, because the model's modalities are called "
            f"{', '.join(config.modalities):.200}. Take --output FILE.jsonl, without --engine ray: it keeps them apart."
        )
    return [*names, "label", "transcript"]


def prediction_row(result: dict[str, Any]) -> dict[str, float | str | None]:
    """
    Turns the result of the pipeline into cells by column: `score`, then each modality's name, then `label` and
    `transcript`; for other tasks than one score, `score_TARGET`, `text_TARGET`, ... for each target.
    """
    one = "score" in result
    row: dict[str, Any] = {}
    targets = () if one else tuple(result["scores"])
    for name, said in {"score": result.get("score" if one else "scores"), **result["unimodal"]}.items():
        row |= {name: said} if one else {f"{name}_{target}": said and said[target] for target in targets}
    label = result.get("label")
    row["label"] = "; ".join(label) if isinstance(label, list) else label
    row["transcript"] = result.get("transcript")
    return row


def write_predictions(file: Path, answers: Sequence[dict[str, Any]], config: SelfMMConfig) -> None:
    """
    Writes predictions to a file.

    Args:
        file: `.csv`, with the columns `clip`, those of [`prediction_row`], `error` and `warnings`; or `.jsonl`, with
            everything.
        answers: For each clip, its name as `clip`, and the result of the pipeline, perhaps with `warnings`, or an
            `error`.
        config: Configuration of the model.
    """
    if file.suffix == ".jsonl":
        write_text(file, "".join(f"{json.dumps(answer)}\n" for answer in answers))
        return
    names = ["clip", *prediction_columns(config), "error", "warnings"]
    with whole(file) as part, part.open("w", encoding="utf-8", newline="") as content:
        writer = csv.writer(content)
        writer.writerow(names)
        for answer in answers:
            row = {} if "error" in answer else prediction_row(answer)
            notes = "; ".join(answer.get("warnings", ()))
            cells = {"clip": answer["clip"], **row, "error": answer.get("error"), "warnings": notes}
            writer.writerow([plain_cell(cells.get(name)) if name in WORDS else cells.get(name) for name in names])
