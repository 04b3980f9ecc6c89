"""Divides clips into those whose modalities agree and those in conflict; the definition is this project's."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# A third of the synthetic corpus is then in conflict, and so are 3 % of its clips that are made to agree.
SHARE = 1 / 3
ROUNDING = 1e-6  # so that float32 labels in steps of .2 are not in conflict by rounding
SOURCES = {"labels": "true unimodal labels", "predictions": "unimodal predictions"}


def in_conflict(scores: NDArray, label_range: float) -> NDArray[np.float64]:
    """
    Finds the clips whose highest and lowest unimodal scores differ by more than a third of the label range.

    Args:
        scores: (modalities, clips), not a number where a clip has no such score.
        label_range: Labels lie in [-label_range, label_range].

    Returns:
        (clips,): 1 for conflict, 0 for agreement, not a number for clips with fewer than two scores.
    """
    apart = ranges(scores)
    return np.where(np.isnan(apart), np.nan, apart > label_range * (SHARE + ROUNDING))


def ranges(scores: NDArray) -> NDArray[np.float64]:
    """Returns the difference of the highest and the lowest of (modalities, clips), (clips,); NaN for fewer than two."""
    known = np.isfinite(scores)
    highest, lowest = np.where(known, scores, -np.inf).max(0), np.where(known, scores, np.inf).min(0)
    return np.subtract(highest, lowest, out=np.full(scores.shape[1], np.nan), where=known.sum(0) > 1)


def conflict_errors(errors: NDArray, conflict: NDArray) -> dict[str, float]:
    """
    Returns `mae_agreement` and `mae_conflict`, the mean errors of both groups, and `conflict_share`, the share of clips
    in conflict among both; NaN if there are no clips.

    Args:
        errors: Absolute errors of the fused predictions, (clips,).
        conflict: As [`in_conflict`] returns it, (clips,).
    """
    groups = {"mae_agreement": errors[conflict == 0], "mae_conflict": errors[conflict == 1]}
    maes = {name: float(of.mean()) if len(of) else float("nan") for name, of in groups.items()}
    counted = sum(map(len, groups.values()))
    return {**maes, "conflict_share": len(groups["mae_conflict"]) / counted if counted else float("nan")}


def conflict_in_words(results: Sequence[dict[str, Any]], label_range: float) -> str | None:
    """
    Explains the columns of agreement and conflict below a table of results; `None` where no run has them.

    Args:
        results: Of each run of the table, as `all_results.json` has them.
    """
    sources = {one["conflict_by"] for one in results if "conflict_by" in one}
    shares = [one.get("test_conflict_share") for one in results]
    shares = [share for share in shares if share is not None and math.isfinite(share)]
    if not shares:
        return None
    scores = " or, where the data have none, ".join(SOURCES[name] for name in SOURCES if name in sources)
    low, high = (f"{100 * share:.0f}" for share in (min(shares), max(shares)))
    share = low if low == high else f"{low} to {high}"
    said = (
        f"Clips in conflict: their {scores} differ by more than {label_range * SHARE:.2g}, a third of the label range. "
        f"These are {share} % of the test clips with two such scores or more; the others agree."
    )
    several = "predictions" in sources and len(shares) > 1
    return said + " Each run divides the clips by its own predictions." * several
