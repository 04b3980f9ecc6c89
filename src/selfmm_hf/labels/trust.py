"""How far a run trusts the labels that it generates."""

from collections.abc import Collection, Iterator
from typing import Any, TypeVar

from .pseudo_labels import PseudoLabels

NOTHING = 0.05
Value = TypeVar("Value")


def label_confidence(state: PseudoLabels, tasks: Collection[str]) -> dict[str, list[float]]:
    """
    Returns the confidence of the default rule in each modality that has a task of its own, in [0, 1], by epoch; nothing
    for the other conventions, which have none. Each of several scores or emotions has its own: `text, valence`.
    """
    targets = [f", {name}" for name in state.task.names] if state.task.columns > 1 else [""]
    return {
        f"{name}{target}": [round(float(epoch[row, column]), 6) for epoch in state.confidence]
        for row, name in enumerate(state.modalities)
        if name in tasks and state.confidence
        for column, target in enumerate(targets)
    }


def chosen_confidence(results: dict[str, Any]) -> dict[str, float]:
    """Returns [`label_confidence`] after the chosen epoch; `results` as `all_results.json` has them."""
    return {name: of[results["best_epoch"] - 1] for name, of in results.get("label_confidence", {}).items()}


def by_target(confidence: dict[str, Value]) -> dict[str, dict[str, Value]]:
    """Groups [`label_confidence`] by target and modality; the target is `""` for one score and for classes."""
    found: dict[str, dict[str, Value]] = {}
    for name, value in confidence.items():
        modality, _, target = name.partition(", ")
        found.setdefault(target, {})[modality] = value
    return found


def trust_in_words(confidence: dict[str, float]) -> Iterator[str]:
    """Yields a line or two for each modality; `confidence` has the names of [`label_confidence`]."""
    targets = by_target(confidence)
    for modality in dict.fromkeys(name for of in targets.values() for name in of):
        known = {target: of[modality] for target, of in targets.items() if modality in of}
        if nothing := [target for target, value in known.items() if value < NOTHING]:
            to, there = (f" to {', '.join(nothing)}", " there") if any(nothing) else ("", "")
            yield f"{modality} adds nothing{to}: its labels{there} are the fused labels"
        if shares := [
            f"{100 * value:.0f} %{f' ({target})' if target else ''}"
            for target, value in known.items()
            if value >= NOTHING
        ]:
            yield f"{modality}: where it differs from the fused label, the run trusts it to {', '.join(shares)}"
