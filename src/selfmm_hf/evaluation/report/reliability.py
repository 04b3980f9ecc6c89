"""Shows whether a prediction means what it says."""

import numpy as np
from numpy.typing import NDArray

from ...runs.plot import COLOURS, GREY, legend
from .data import Group
from .drawing import Figure, Panel, Table

BIN = 20  # least number of clips in a bin, for one seed


def _bins(values: NDArray, seeds: int) -> list[NDArray[np.int64]]:
    """Divides the rows, in the order of `values`, into at most ten bins of equally many."""
    count = min(10, max(1, len(values) // (BIN * seeds)))
    return [rows for rows in np.array_split(np.argsort(values, kind="stable"), count) if len(rows)]


def calibration(groups: list[Group]) -> Figure:
    """Draws whether the size and the sign of a prediction can be trusted."""
    panels, tables = [], []
    for number, group in enumerate(groups, start=1):
        test, seeds = group.of_split("test"), len(group.finished)
        labels, predictions = test["label"], test["fusion"]
        bins = _bins(predictions, seeds)
        means = np.array([(predictions[rows].mean(), labels[rows].mean()) for rows in bins])
        # Seeds predict the same clips, so they make no interval narrower.
        spread = np.array([1.96 * labels[rows].std() / max(1, len(rows) / seeds) ** 0.5 for rows in bins])
        sizes = [len(rows) for rows in bins]
        signed = labels != 0
        strength, right = np.abs(predictions[signed]), (predictions[signed] > 0) == (labels[signed] > 0)
        sign_bins = _bins(strength, seeds) if signed.any() else []
        shares = np.array([(strength[rows].mean(), right[rows].mean()) for rows in sign_bins]).reshape(-1, 2)
        n = np.array([max(1, len(rows) / seeds) for rows in sign_bins])
        low, high = _wilson(shares[:, 1], n)
        limit = group.finished[0].label_range

        def draw(axes, means=means, spread=spread, limit=limit) -> None:
            end = max(limit, np.abs(means).max()) * 1.05
            axes.plot([-end, end], [-end, end], color=GREY, linewidth=1)
            axes.errorbar(
                *means.T, yerr=spread, fmt="o-", color=COLOURS["text"], markersize=5, capsize=2, linewidth=1.3
            )
            axes.set(xlabel="mean prediction of the bin", ylabel="mean label", xlim=(-end, end), ylim=(-end, end))
            axes.set(aspect="equal")

        def draw_sign(axes, shares=shares, low=low, high=high) -> None:
            axes.axhline(0.5, color=GREY, linestyle=":", linewidth=1.2, label="chance")
            error = np.maximum(0, [shares[:, 1] - low, high - shares[:, 1]])
            axes.errorbar(
                *shares.T, yerr=error, fmt="s-", color=COLOURS["vision"], markersize=5, capsize=2, linewidth=1.3,
                label="right sign",
            )  # fmt: skip
            axes.set(xlabel="mean size of the prediction", ylabel="share with the right sign", ylim=(0, 1.03))
            axes.set(xlim=(0, None))
            legend(axes)

        slope = np.polyfit(predictions, labels, 1)[0] if np.ptp(predictions) else float("nan")
        alt = (
            f"Mean label against mean prediction in {len(bins)} bins; the slope of label on prediction is {slope:.2f}."
        )
        panels.append(Panel(group.picture("calibration"), group.titled("Does the size hold?"), alt, draw, number))
        columns = [*means.T, spread, sizes]
        head = ["bin", "mean prediction", "mean label", "±", "clips"]
        rows = [(place, *row) for place, row in enumerate(zip(*columns, strict=True), start=1)]
        tables.append(Table(head, rows, group.titled("Size of the prediction")))
        if not sign_bins:
            continue
        alt = "Share of predictions with the right sign, from the smallest to the largest: "
        alt += ", ".join(f"{share:.0%}" for share in shares[:, 1]) + "."
        panels.append(Panel(group.picture("sign"), group.titled("Does the sign hold?"), alt, draw_sign, number))
        columns = [*shares.T, low, high, map(len, sign_bins)]
        rows = [(place, *row) for place, row in enumerate(zip(*columns, strict=True), start=1)]
        head = ["bin", "mean size", "right sign", "from", "to", "clips"]
        tables.append(Table(head, rows, group.titled("Sign of the prediction")))
    text = (
        "The predictions for the test split, sorted from low to high, in bins of equally many clips. On the line, they "
        "are right on average; below it, they are too positive. If the points rise less steeply than the line, "
        "predictions exaggerate; if they rise more steeply, predictions are too cautious. The other drawing shows how "
        "often the sign is right, by the size of the prediction, without labels of 0. Bars are "
        "95\N{NO-BREAK SPACE}% intervals."
    )
    return Figure("calibration", "Calibration", text, panels, tables)


def _wilson(share: NDArray, n: NDArray) -> tuple[NDArray, NDArray]:
    """Returns Wilson's 95 % interval of a share of n."""
    z = 1.96
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return middle - half, middle + half
