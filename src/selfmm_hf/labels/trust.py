"""How far a run trusts the labels that it generates."""

from collections.abc import Collection, Iterator
from typing import Any

from .pseudo_labels import PseudoLabels

NOTHING = 0.05


def label_confidence(state: PseudoLabels, tasks: Collection[str]) -> dict[str, list[float]]:
    """
    The confidence of the default rule in each modality that has a task of its own, in [0, 1], by epoch; nothing for the
    other conventions, which have none.
    """
    return {
        name: [round(float(epoch[column, 0]), 6) for epoch in state.confidence]
        for column, name in enumerate(state.modalities)
        if name in tasks and state.confidence
    }


def chosen_confidence(results: dict[str, Any]) -> dict[str, float]:
    """[`label_confidence`] after the chosen epoch, by modality; `results` as `all_results.json` has them."""
    return {name: of[results["best_epoch"] - 1] for name, of in results.get("label_confidence", {}).items()}


def trust_in_words(confidence: dict[str, float]) -> Iterator[str]:
    """A line for each modality, from its confidence in [0, 1]."""
    for modality, value in confidence.items():
        if value < NOTHING:
            yield f"{modality} adds nothing: its labels are the fused labels"
        else:
            yield f"{modality}: where it differs from the fused label, the run trusts it to {100 * value:.0f} %"
