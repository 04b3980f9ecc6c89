"""`selfmm robustness`."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from .data import DATA_CONFIG
from .errors import end_in_one_line, need


def robustness(
    model: Annotated[str, Argument(help="Folder of a run or of a model, or a Hub repository.")],
    output_dir: Annotated[
        Path, Option("--output_dir", help="Folder to write: tables as JSON, Parquet and Markdown, and curves.")
    ],
    dataset: Annotated[
        str | None, Option(help="demo, mosi, mosei, sims, simsv2, iemocap or custom; the run's by default.")
    ] = None,
    data: Annotated[str | None, Option(help="Feature file, folder or Hub repository; the run's by default.")] = None,
    data_config: Annotated[str | None, DATA_CONFIG] = None,
    data_revision: Annotated[str | None, Option("--data_revision", help="Revision of the data's repository.")] = None,
    revision: Annotated[str | None, Option(help="Revision of the model's repository.")] = None,
) -> None:
    """Measure a finished model on the test split with missing data. Never choose a model by the results."""
    need("matplotlib", "plots")
    with end_in_one_line():
        from selfmm_hf.evaluation.robustness.measure import measure_model

        print(
            measure_model(
                model,
                output_dir,
                dataset=dataset,
                data=data,
                data_config=data_config,
                data_revision=data_revision,
                revision=revision,
            )
        )
    print(f"Everything is in {output_dir}")
