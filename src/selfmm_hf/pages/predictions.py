"""The page of predictions."""

from typing import Any

from markupsafe import Markup

from ..model.chart_selfmm import SINGLE_LABEL, columns_of, finite, said, value_text
from ..model.picture_parts_selfmm import modality_name, number_text, seconds_text, shortened
from ..model.picture_selfmm import FEW_FACES, label_of, readings_of, score_of, sentence_of, sentiment_svg
from . import fill


def sentiment_html(results: list[tuple[str, dict[str, Any]]]) -> str:
    """
    A page of clips, one section each; it needs no other file and runs no script.

    Args:
        results: The name of each clip, and what the pipeline has returned for it, with its `warnings`, if any.

    Returns:
        The HTML document.
    """
    several = any("task" in result for _, result in results)
    title = f"{'Predictions for' if several else 'Sentiment of'} {len(results)} clip{'s' * (len(results) != 1)}"
    return fill("predictions.html", title=title, clips=[_clip(name, result) for name, result in results])


def _clip(name: str, result: dict[str, Any]) -> dict[str, Any]:
    share, remarks = result.get("face_share"), [*result.get("remarks", ()), *result.get("warnings", ())]
    if share is not None and share >= FEW_FACES:  # else it is among the remarks
        remarks.append(f"A face is seen in {share:.0%} of the frames.")
    return {
        "name": name,
        "short_name": shortened(name, 60),
        "svg": Markup(sentiment_svg(result)),
        "sentence": sentence_of(result),
        "transcript": result.get("transcript"),
        "remarks": remarks,
        **(_scores(result) if "task" in result else _score(result)),
    }


def _score(result: dict[str, Any]) -> dict[str, Any]:
    """The tables of one score: a row for each modality."""
    limit, score = result["label_range"], score_of(result["score"])
    readings = [
        (modality_name(name), [why or number_text(value, limit, 2)]) for name, value, why in readings_of(result)
    ]
    pieces = result.get("timeline") or ()
    modalities = list(pieces[0]["unimodal"]) if pieces else []
    return {
        "label": label_of(result),
        "score": number_text(score, limit),
        "caption": f"Scores from \N{MINUS SIGN}{limit:g} (negative) to +{limit:g} (positive): {label_of(result)}",
        "head": [],
        "rows": [("all together", [number_text(score, limit, 2)]), *readings],
        "columns": ["all together", *modalities],
        "timeline": [
            (
                _time(piece),
                [
                    number_text(score_of(value), limit, 2)
                    for value in (piece["score"], *(piece["unimodal"].get(one) for one in modalities))
                ],
            )
            for piece in pieces
        ],
    }


def _scores(result: dict[str, Any]) -> dict[str, Any]:
    """The tables of emotions, classes or several scores: a row for each, and a column for each modality."""
    columns = [("all together", finite(result["scores"]), ""), *columns_of(result)]
    label, scales = said(result, result["scores"]), ""
    if "scales" in result:
        scales = ", ".join(f"{name} from {low:g} to {high:g}" for name, (low, high) in result["scales"].items())
    pieces = result.get("timeline") or ()
    modalities = list(pieces[0]["unimodal"]) if pieces else []
    return {
        "label": label,
        "score": f"{result['scores'][label]:.0%}" if result["task"] == SINGLE_LABEL else "",
        "caption": f"Scores: {scales}" if scales else f"Probabilities: {label}",
        "head": ["", *(f"{modality_name(name)}{f': {why}' if why else ''}" for name, _, why in columns)],
        "rows": [
            (name, [value_text(result, name, scores and scores[name], 2) for _, scores, _ in columns])
            for name in result["scores"]
        ],
        "columns": [*result["scores"], *modalities],
        "timeline": [
            (
                _time(piece),
                [
                    *(value_text(result, name, value, 2) for name, value in piece["scores"].items()),
                    *(said(result, piece["unimodal"].get(one)) for one in modalities),
                ],
            )
            for piece in pieces
        ],
    }


def _time(piece: dict[str, Any]) -> str:
    return f"{seconds_text(piece['begin'])}\N{EN DASH}{seconds_text(piece['end'])} s"
