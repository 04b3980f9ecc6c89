"""`selfmm data prepare`, `selfmm data inspect`, `selfmm data verify`."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer
from typer import Argument, Option

from .errors import end_in_one_line

Dataset = Literal["mosi", "mosei", "sims", "simsv2", "iemocap", "custom"]
EMOTIONS = Option(help="For mosei: .csv of id and six emotions, or CMU_MOSEI_Labels.csd. They become the labels.")
DATA_CONFIG = Option(
    "--data_config", help="aligned or unaligned, if the data have both. For custom: a fold, such as fold1of5."
)

data = typer.Typer(name="data", help="Prepare, inspect or verify a data set.", no_args_is_help=True)


@data.command()
def prepare(
    dataset: Annotated[Dataset, Argument(help="Name of the data set.")],
    data: Annotated[str, Option(help="Published feature file. For custom: a file or folder of your own.")],
    output_dir: Annotated[Path, Option("--output_dir", help="Folder to write, or to add a configuration to.")],
    data_config: Annotated[str | None, DATA_CONFIG] = None,
    label_range: Annotated[
        float | None, Option("--label_range", help="For custom: labels are in [-range, range]; 3 by default, or 1.")
    ] = None,
    problem_type: Annotated[
        Literal["regression", "multi_label_classification", "single_label_classification"] | None,
        Option("--problem_type", help="The kind of labels to use, if the data set has several."),
    ] = None,
    emotions: Annotated[Path | None, EMOTIONS] = None,
    not_finite: Annotated[
        Literal["zero", "keep", "refuse"],
        Option(
            "--not_finite",
            help="What to do with NaN and infinite frame values: set them to 0, keep them, or refuse the file.",
        ),
    ] = "zero",
    overwrite: Annotated[
        bool, Option("--overwrite", help="Replace the configuration if the folder has it already.")
    ] = False,
) -> None:
    """Convert a feature file into a Parquet folder for `load_dataset` and the Hub."""
    with end_in_one_line():
        from selfmm_hf.data import find_builder
        from selfmm_hf.data.prepare import prepare as write
        from selfmm_hf.data.prepared import origins

        if label_range is not None and dataset != "custom":
            raise ValueError(f"--label_range is for custom data sets; that of {dataset} is known.")
        if emotions is not None and dataset != "mosei":
            raise ValueError(f"--emotions is for mosei, not {dataset}.")
        more = {} if emotions is None else {"emotions": emotions}
        builder = find_builder(dataset, data, data_config, label_range, problem_type, not_finite=not_finite, **more)
        if builder is None:
            raise ValueError(f"{data} is neither a feature file nor a folder with a table.csv or table.parquet.")
        write(builder, output_dir, overwrite)
        there = {one["config"]: one for one in origins(output_dir)}
        origin = there[builder.config.name]
    if origin["research"] not in (None, builder.TITLE):
        print(
            f"These are clips of {origin['research']}, for research use: they cannot be pushed to a public repository."
        )
    rows = ", ".join(f"{split} {count}" for split, count in origin["rows"].items())
    print(f"{output_dir}: {builder.TITLE}, {rows}. Use it with")
    print(f"  load_dataset({str(output_dir)!r}, {builder.config.name!r})")
    given = f" --data_config {builder.config.name}" if len(there) > 1 else ""
    given += f" --label_range {builder.label_range:g}" if dataset == "custom" and builder.label_range else ""
    print(f"  selfmm train --dataset {builder.name} --data {output_dir}{given} ...")


@data.command()
def inspect(
    path: Annotated[str, Argument(help="Feature file, folder or Hub repository; demo for the synthetic corpus.")],
    data_config: Annotated[str | None, DATA_CONFIG] = None,
    png: Annotated[Path | None, Option(help="Picture to draw.")] = None,
    as_json: Annotated[bool, Option("--json", help="Print JSON instead of the table.")] = False,
) -> None:
    """Print a table of what a data set contains, and draw a picture of it if wanted."""
    with end_in_one_line():
        from selfmm_hf.data.inspection import inspect as look
        from selfmm_hf.data.inspection import open_clips
        from selfmm_hf.data.inspection.table import format_table

        if png and not png.absolute().parent.is_dir():
            raise ValueError(f"There is no folder for the picture {png}.")
        inspection = look(open_clips(path, data_config))
        print(json.dumps(inspection.to_dict(), indent=2) if as_json else format_table(inspection))
        if png:
            from selfmm_hf.data.inspection.plot import plot

            plot(inspection, png)
            print(f"The picture: {png}")


@data.command()
def verify(
    path: Annotated[Path, Argument(help="Feature file, or a folder of `selfmm data prepare`.")],
    dataset: Annotated[Dataset | None, Option(help="Name of the data set that it should be; by default any.")] = None,
    source: Annotated[
        Path | None, Option(help="The feature file that the folder was made from: every clip is compared with it.")
    ] = None,
    emotions: Annotated[Path | None, EMOTIONS] = None,
) -> None:
    """Check a file or a prepared folder. The exit status is 1 if anything is wrong."""
    with end_in_one_line():
        from selfmm_hf.data.verify import verify_file, verify_folder

        if not path.exists():
            raise ValueError(f"There is no {path}.")
        if source is not None and not path.is_dir():
            raise ValueError(f"--source is for a prepared folder, and {path} is a file.")
        if emotions is not None and source is None:
            raise ValueError("--emotions says what a folder was made of together with --source: name both.")
        problems = 0
        more = {} if emotions is None else {"emotions": emotions}
        found = verify_folder(path, source, dataset, **more) if path.is_dir() else verify_file(path, dataset)
        for problem in found:
            problems += 1
            print(problem)
    print(f"{path}: {f'{problems} to look at' if problems else 'as it should be'}")
    raise typer.Exit(1 if problems else 0)
