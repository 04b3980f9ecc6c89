"""The page of predictions."""

from typing import Any

from markupsafe import Markup

from ..model.picture_selfmm import (
    FEW_FACES,
    label_of,
    modality_name,
    number_text,
    readings_of,
    score_of,
    seconds_text,
    sentence_of,
    sentiment_svg,
    shortened,
)
from . import fill


def sentiment_html(results: list[tuple[str, dict[str, Any]]]) -> str:
    """
    A page of clips, one section each; it needs no other file and runs no script.

    Args:
        results: The name of each clip, and what the pipeline has returned for it.

    Returns:
        The HTML document.

    Raises:
        ValueError: The model has several targets.
    """
    title = f"Sentiment of {len(results)} clip{'s' * (len(results) != 1)}"
    return fill("predictions.html", title=title, clips=[_clip(name, result) for name, result in results])


def _clip(name: str, result: dict[str, Any]) -> dict[str, Any]:
    limit, score = result["label_range"], score_of(result["score"])
    readings = [(modality_name(name), why or number_text(value, limit, 2)) for name, value, why in readings_of(result)]
    share, remarks = result.get("face_share"), list(result.get("remarks", ()))
    if share is not None and share >= FEW_FACES:  # else it is among the remarks
        remarks.append(f"A face is seen in {share:.0%} of the picture.")
    pieces = result.get("timeline") or ()
    modalities = list(pieces[0]["unimodal"]) if pieces else []
    return {
        "name": name,
        "short_name": shortened(name, 60),
        "label": label_of(result),
        "score": number_text(score, limit),
        "svg": Markup(sentiment_svg(result)),
        "sentence": sentence_of(result),
        "transcript": result.get("transcript"),
        "remarks": remarks,
        "limit": f"{limit:g}",
        "rows": [("all together", number_text(score, limit, 2)), *readings],
        "columns": ["all together", *modalities],
        "timeline": [
            (
                f"{seconds_text(piece['begin'])}\N{EN DASH}{seconds_text(piece['end'])} s",
                [
                    number_text(score_of(value), limit, 2)
                    for value in (piece["score"], *(piece["unimodal"].get(one) for one in modalities))
                ],
            )
            for piece in pieces
        ],
    }
