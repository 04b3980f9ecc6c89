"""Writes the report of `selfmm report`."""

import re
from functools import partial
from pathlib import Path

from tqdm import tqdm

from ...runs.folder import OPTIONS_FILE
from ...storage.whole_files import beside, move
from .clips import case_study
from .confusion import confusions
from .data import Data, Group, find_runs, group_runs
from .drawing import Figure, render
from .learning import label_distributions, label_quality, learning_curves
from .page import page
from .predictions import modality_errors, outcomes, scatter
from .reliability import calibration
from .representations import representations
from .results import results
from .robustness import robustness

PAGE = "report.html"


def write_report(paths: list[Path], out: Path) -> Path:
    """
    Writes the page and the pictures of runs. The same runs give the same bytes.

    Args:
        paths: Folders of runs, or of sweeps, whose runs lie anywhere in them.
        out: Folder to write to; an earlier report there is replaced.

    Returns:
        The page's file.

    Raises:
        RunError: A folder holds no run, or one that is damaged.
    """
    groups = group_runs(find_runs(paths))
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; name a folder for the report.")
    if (out / OPTIONS_FILE).exists():
        raise ValueError(f"{out} is the folder of a run; name another for the report, such as {out / 'report'}.")
    figures = make_figures(groups)
    panels = [panel for figure in figures for panel in figure.panels]
    drawn = {panel.name: render(panel) for panel in tqdm(panels, desc="Drawing", unit="picture", delay=1, leave=False)}
    out.mkdir(parents=True, exist_ok=True)
    earlier = (out / PAGE).read_text(encoding="utf-8") if (out / PAGE).is_file() else ""
    content = {f"{name}.png": png for name, (png, _) in drawn.items()}
    pictures = {name: svg for name, (_, svg) in drawn.items()}
    content[PAGE] = page(_title(groups), _notes(groups), figures, pictures).encode()
    with beside(out / PAGE) as folder:
        for name, one in content.items():
            (folder / name).write_bytes(one)
        for name in content:
            move(folder / name, out / name)
    for name in set(re.findall(r'href="([\w-]+\.png)"', earlier)) - content.keys():
        (out / name).unlink(missing_ok=True)
    return out / PAGE


def make_figures(groups: list[Group]) -> list[Figure]:
    """Makes all figures of the report; a group without a finished run has only learning curves."""
    finished = [group for group in groups if group.finished]
    if not finished:
        return [learning_curves(groups)]
    data = Data()
    if finished[0].finished[0].label_range is None:
        steps = [
            partial(results, finished),
            partial(learning_curves, groups),
            partial(label_quality, finished, data),
            partial(outcomes, finished),
            partial(robustness, finished),
        ]
    else:
        steps = [
            partial(results, finished),
            partial(learning_curves, groups),
            partial(label_distributions, finished),
            partial(label_quality, finished, data),
            partial(case_study, finished, data),
            partial(representations, finished, data),
            partial(confusions, finished),
            partial(scatter, finished),
            partial(calibration, finished),
            partial(modality_errors, finished, data),
            partial(robustness, finished),
        ]
    return [step() for step in tqdm(steps, desc="Reading the runs", unit="part", delay=1, leave=False)]


def _title(groups: list[Group]) -> str:
    runs = [run for group in groups for run in group.runs]
    names = ", ".join(dict.fromkeys(run.dataset for run in runs))
    return f"Self-MM on {names}: {'a run' if len(runs) == 1 else f'{len(runs)} runs'}"


def _notes(groups: list[Group]) -> list[str]:
    notes = []
    for group in groups:
        seeds = ", ".join(str(run.seed) for run in group.runs)
        chosen = ", ".join(f"{run.results['best_epoch']} of {run.results['epochs']}" for run in group.finished)
        name = f"{group.name[:1].upper()}{group.name[1:]}: seed" if group.name else "Seed"
        said = f"{name}{'s' * (len(group.runs) > 1)} {seeds}"
        if chosen:
            said += f"; chosen epoch{'s' * (len(group.finished) > 1)} {chosen}"
        notes.append(f"{said}.")
        if unfinished := [str(run.seed) for run in group.runs if not run.results]:
            named = f"seed{'s' * (len(unfinished) > 1)} {', '.join(unfinished)}"
            notes.append(f"Not finished: {group.titled(named)}; losses are shown up to the last whole checkpoint.")
    return notes
