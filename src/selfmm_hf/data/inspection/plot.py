"""A picture of a data set."""

from pathlib import Path

import numpy as np

from ...storage.whole_files import whole
from ..columns import UNIMODAL_LABELS
from . import Inspection

# Okabe and Ito's colours, which colour-blind people can tell apart; of the modalities as in the picture of a run.
COLOURS = {"text": "#0072B2", "audio": "#D55E00", "vision": "#009E73", "word_vectors": "#56B4E9"}
# So that equal lines are all seen.
STYLES = {
    "text": {"linestyle": "-", "linewidth": 3.2},
    "audio": {"linestyle": "-", "linewidth": 1.6},
    "vision": {"linestyle": "--", "linewidth": 1.6},
    "word_vectors": {"linestyle": ":", "linewidth": 2.4},
}
SPLIT_COLOURS = ["#999999", "#E69F00", "#CC79A7", "#000000"]
GREY = "#dddddd"


def plot(inspection: Inspection, file: str | Path) -> Path:
    """
    Draws labels, lengths, padding, far values, and the unimodal labels, where there are any.

    Returns:
        The picture's file, a PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = [_labels, _sizes]
    frames = [of for report in inspection.splits.values() for of in report.sequences.values()]
    if any(of.padding or of.zero_frames for of in frames):
        panels.append(_padding)
    if _far_lines(inspection):
        panels.append(_far)
    if any(report.labels.correlations for report in inspection.splits.values()):
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
    file = Path(file)
    with whole(file) as part:
        figure.savefig(part, dpi=110, format="png")
    return file


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
        axes.step(sizes, share, where="post", label=label, color=COLOURS[kind], **STYLES[kind])
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
            rows.append((COLOURS[name], 100 * (1 - padding - zeros), 100 * zeros, 100 * padding))
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
        axes.plot(x, far, "-" if training else ":", marker=marker, markersize=4, color=COLOURS[name])
    names = dict.fromkeys(name for name, *_ in lines)
    handles = [axes.plot([], [], color=COLOURS[name], label=name.replace("_", " "))[0] for name in names]
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
    for modality, name in UNIMODAL_LABELS.items():
        if not all(name in values for values in inspection.values.values()):
            continue
        own = np.concatenate([values[name] for values in inspection.values.values()])
        full = [one for one in range(len(edges) - 1) if np.isfinite(own[bins == one]).any()]
        quartiles = np.array([np.nanpercentile(own[bins == one], [25, 50, 75]) for one in full]).T
        middles = ((edges[1:] + edges[:-1]) / 2)[full]
        axes.fill_between(middles, quartiles[0], quartiles[2], color=COLOURS[modality], alpha=0.15, linewidth=0)
        axes.plot(middles, quartiles[1], color=COLOURS[modality], label=modality, **STYLES[modality])
    axes.set(title="Labels of one modality alone: median and quartiles", xlabel="label", ylabel="unimodal label")
    _legend(axes)
