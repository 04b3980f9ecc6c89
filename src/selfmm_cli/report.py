"""`selfmm report`."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from .errors import end_in_one_line, need


def report(
    runs: Annotated[list[Path], Argument(metavar="RUN...", help="Folders of runs, or of sweeps of runs.")],
    output_dir: Annotated[Path, Option("--output_dir", help="Folder to write. An earlier report in it is replaced.")],
) -> None:
    """Write an HTML report with figures. Runs that differ only by their seeds are combined."""
    need("matplotlib", "plots")
    with end_in_one_line():
        from datasets import disable_progress_bars

        from selfmm_hf.evaluation.report.write import write_report

        disable_progress_bars()
        print(f"The report: {write_report(runs, output_dir)}")
