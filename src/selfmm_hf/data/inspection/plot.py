"""A picture of a data set."""

from pathlib import Path
from typing import Any

import numpy as np

from ...model.picture_parts_selfmm import COLOURS as OF_MODALITIES
from ...model.task_selfmm import REGRESSION
from ...storage.whole_files import write_figure
from ..columns import unimodal_labels
from . import Inspection

COLOURS = {**OF_MODALITIES, "word_vectors": "#56B4E9"}
# So that equal lines are all seen.
STYLES = {
    "text": {"linestyle": "-", "linewidth": 3.2},
    "audio": {"linestyle": "-", "linewidth": 1.6},
    "vision": {"linestyle": "--", "linewidth": 1.6},
    "word_vectors": {"linestyle": ":", "linewidth": 2.4},
}
SPLIT_COLOURS = ["#999999", "#E69F00", "#CC79A7", "#000000"]
GREY = "#dddddd"
OWN_COLOURS = ["#CC79A7", "#E69F00", "#56B4E9", "#000000"]  # of modalities of any name


def _line(name: str, inspection: Inspection) -> dict[str, Any]:
    """How a modality is drawn."""
    if name in COLOURS:
        return {"color": COLOURS[name], **STYLES[name]}
    own = [one for one in inspection.widths if one not in COLOURS].index(name)
    return {"color": OWN_COLOURS[own % len(OWN_COLOURS)], "linestyle": "-", "linewidth": 1.6}


def plot(inspection: Inspection, file: str | Path) -> Path:
    """
    Draws labels, lengths, padding, far values, and the unimodal labels, where there are any.

    Returns:
        The picture's file, a PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = [_labels if inspection.label_edges else _targets, _sizes]
    frames = [of for report in inspection.splits.values() for of in report.sequences.values()]
    if any(of.padding or of.zero_frames for of in frames):
        panels.append(_padding)
    if _far_lines(inspection):
        panels.append(_far)
    if any(report.labels and report.labels.correlations for report in inspection.splits.values()):
        panels.append(_unimodal)
    rows = [panels] if len(panels) < 4 else [panels[: (len(panels) + 1) // 2], panels[(len(panels) + 1) // 2 :]]
    figure = Figure(figsize=(5 * max(2.4, len(rows[0])), 4.3 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1)  # ty: ignore[unknown-argument]
    for part, row in zip(figure.subfigures(len(rows), squeeze=False)[:, 0], rows, strict=True):
        for axes, draw in zip(part.subplots(1, len(row), squeeze=False)[0], row, strict=True):
            draw(axes, inspection)
            axes.spines[["top", "right"]].set_visible(False)
    clips = [f"{split} {report.clips}" for split, report in inspection.splits.items()]
    figure.suptitle(f"{sum(report.clips for report in inspection.splits.values())} clips: {', '.join(clips)}")
    write_figure(Path(file), figure, format="png")
    return Path(file)


def _labels(axes, inspection: Inspection) -> None:
    edges = np.array(inspection.label_edges)
    for number, (split, report) in enumerate(inspection.splits.items()):
        colour = SPLIT_COLOURS[number % len(SPLIT_COLOURS)]
        share = 100 * np.array(report.labels.histogram) / report.clips
        if split == inspection.training:
            axes.stairs(share, edges, fill=True, color=GREY, label=split)
        else:
            axes.stairs(share, edges, color=colour, linewidth=1.6, linestyle=["-", "--"][number % 2], label=split)
    axes.set(title="Labels of each split", xlabel="label", ylabel="share of the split's clips (%)")
    _legend(axes)


def _targets(axes, inspection: Inspection) -> None:
    """Of scores median and quartiles, of classes and emotions the share of the clips that have them."""
    scores = inspection.task.problem_type == REGRESSION
    names, splits = list(inspection.task.names), list(inspection.splits.items())
    for number, (split, report) in enumerate(splits):
        places = np.arange(len(names)) + 0.8 * (number + 0.5) / len(splits) - 0.4
        colour = GREY if split == inspection.training else SPLIT_COLOURS[number % len(SPLIT_COLOURS)]
        of = [report.targets[name] for name in names]
        if scores:
            middle, low, high = ([getattr(one, end) for one in of] for end in ("median", "q1", "q3"))
            spread = np.array([np.subtract(middle, low), np.subtract(high, middle)])
            axes.errorbar(places, middle, spread, fmt="o", color=colour.replace(GREY, "#555555"), label=split)
        else:
            share = [100 * one.mean for one in of]
            axes.bar(places, share, 0.8 / len(splits), color=colour, label=split)
    axes.set_xticks(range(len(names)), names, rotation=0 if len("".join(names)) < 40 else 45)
    axes.set(
        title="Labels of each split" + ": median and quartiles" * scores,
        ylabel="label" if scores else "clips that have it (%)",
    )
    _legend(axes)


def _legend(axes, columns: int = 3, handles: list | None = None) -> None:
    """Below the axes, where nothing is drawn."""
    handles = handles or axes.get_legend_handles_labels()[0]
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.13)}
    axes.legend(handles=handles, frameon=False, ncols=columns, fontsize=9, columnspacing=1.5, **place)


def _logarithmic(axis) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter("{x:g}")


def _sizes(axes, inspection: Inspection) -> None:
    longest = 1
    for name in ("words", *inspection.widths):
        lengths = np.sort(np.concatenate([values[name] for values in inspection.values.values()]))
        if not lengths[-1]:
            continue
        longest = max(longest, lengths[-1])
        sizes, counts = np.unique(lengths, return_counts=True)
        share = 100 * np.cumsum(counts) / len(lengths)
        if sizes[0] > 0:
            sizes, share = np.r_[sizes[0], sizes], np.r_[0, share]
        else:  # the clips without, where a logarithmic axis begins
            sizes[0] = 1
        kind = "text" if name == "words" else name
        middle = np.median(lengths[lengths > 0])
        label = f"{name.replace('_', ' ')}, median {middle:g}"
        axes.step(sizes, share, where="post", label=label, **_line(kind, inspection))
    unit = "words, or frames of a sequence" if inspection.widths else "words"
    axes.set(title="Lengths of clips", xlabel=unit, ylabel="clips of at most this length (%)")
    _logarithmic(axes.xaxis)
    axes.set(xlim=(0.8, longest * 1.3), ylim=(0, 104))
    if axes.lines:
        _legend(axes, 2 if "word_vectors" in inspection.widths else 3)


def _padding(axes, inspection: Inspection) -> None:
    names, rows = [], []
    for name in inspection.widths:
        for split, report in inspection.splits.items():
            frames = report.sequences[name]
            padding = frames.padding or 0
            zeros = (1 - padding) * (frames.zero_frames or 0)
            names.append(f"{name.replace('_', ' ')}, {split}")
            rows.append((_line(name, inspection)["color"], 100 * (1 - padding - zeros), 100 * zeros, 100 * padding))
    places = np.arange(len(rows))[::-1]
    colours, real, zeros, padding = map(np.array, zip(*rows, strict=True))
    axes.barh(places, real, color=colours)
    axes.barh(places, zeros, left=real, color="white", edgecolor=colours, hatch="////", linewidth=0)
    axes.barh(places, padding, left=real + zeros, color=GREY)
    axes.set_yticks(places, names)
    handles = [axes.barh([0], [0], color="#555555", label="frames")]
    handles.append(axes.barh([0], [0], color="white", edgecolor="#555555", hatch="////", label="frames, all zeros"))
    if any(padding):
        handles.append(axes.barh([0], [0], color=GREY, label="padding"))
    title = "Frames and padding in the file" if any(padding) else "Frames (there is no padding)"
    axes.set(title=title, xlabel="share of the steps (%)", xlim=(0, 100))
    _legend(axes, handles=handles)


def _far_lines(inspection: Inspection) -> list[tuple[str, bool, np.ndarray]]:
    """By sequence, of the training split and of all others: the farthest value of each column, from far to near."""
    lines = []
    for name in inspection.widths:
        for training in (True, False):
            far = [
                values[f"far {name}"]
                for split, values in inspection.values.items()
                if (split == inspection.training) is training
            ]
            far = np.array(far)[:, ~np.isnan(far).all(0)] if far else np.zeros((0, 0))
            if far.size:
                lines.append((name, training, np.sort(np.nanmax(far, 0))[::-1]))
    return lines


def _far(axes, inspection: Inspection) -> None:
    lines = _far_lines(inspection)
    for name, training, far in lines:
        x = 100 * (np.arange(len(far)) + 0.5) / len(far)
        marker = "o" if len(far) < 25 else None
        axes.plot(x, far, "-" if training else ":", marker=marker, markersize=4, color=_line(name, inspection)["color"])
    names = dict.fromkeys(name for name, *_ in lines)
    handles = [
        axes.plot([], [], color=_line(name, inspection)["color"], label=name.replace("_", " "))[0] for name in names
    ]
    handles.append(axes.plot([], [], "-", color="#555555", label=inspection.training)[0])
    if not all(training for _, training, _ in lines):
        handles.append(axes.plot([], [], ":", color="#555555", label="other splits")[0])
    _logarithmic(axes.yaxis)
    axes.set(title="Farthest value of each column from its mean", xlabel="columns, the farthest first (%)")
    axes.set(ylabel=f"standard deviations of {inspection.training}", xlim=(-1, 101))
    axes.set(ylim=(1, max(10, 1.3 * max(far[0] for *_, far in lines))))
    _legend(axes, len(handles), handles)


def _unimodal(axes, inspection: Inspection) -> None:
    edges = np.array(inspection.label_edges)
    labels = np.concatenate([values["label"] for values in inspection.values.values()])
    bins = np.clip(np.digitize(labels, edges) - 1, 0, len(edges) - 2)
    axes.axline((0, 0), slope=1, color="#999999", linewidth=1)
    for modality, name in unimodal_labels(inspection.widths).items():
        if not all(name in values for values in inspection.values.values()):
            continue
        own = np.concatenate([values[name] for values in inspection.values.values()])
        full = [one for one in range(len(edges) - 1) if np.isfinite(own[bins == one]).any()]
        quartiles = np.array([np.nanpercentile(own[bins == one], [25, 50, 75]) for one in full]).T
        middles = ((edges[1:] + edges[:-1]) / 2)[full]
        line = _line(modality, inspection)
        axes.fill_between(middles, quartiles[0], quartiles[2], color=line["color"], alpha=0.15, linewidth=0)
        axes.plot(middles, quartiles[1], label=modality, **line)
    axes.set(title="Labels of one modality alone: median and quartiles", xlabel="label", ylabel="unimodal label")
    _legend(axes)
