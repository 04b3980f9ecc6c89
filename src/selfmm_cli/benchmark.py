"""`selfmm benchmark run`, `selfmm benchmark table` and `selfmm search`."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from .errors import complain, end_in_one_line, need
from .training_options import TAKES_TRAINING_OPTIONS, named

EPILOG = "All other options are those of `selfmm train`. They apply to all runs."

benchmark = typer.Typer(name="benchmark", help="Train many runs and compare them in a table.", no_args_is_help=True)


@benchmark.command(**TAKES_TRAINING_OPTIONS, epilog=EPILOG)
def run(
    context: typer.Context,
    output_dir: Annotated[
        Path, Option("--output_dir", help="Folder of the sweep. The same command resumes an interrupted sweep.")
    ],
    sweep: Annotated[
        str | None,
        Option(help=f"YAML file of configurations, or one of {named('sweeps')}; by default one configuration."),
    ] = None,
    seeds: Annotated[int, Option(help="Number of seeds: consecutive numbers from --seed on.")] = 5,
    folds: Annotated[
        int | None,
        Option(min=2, help="For --dataset custom: number of folds across the subjects of the table; each is a sweep."),
    ] = None,
) -> None:
    """Train each configuration with each seed. Finished runs are not trained again."""
    need("scipy", "benchmark")
    with end_in_one_line():
        from selfmm_hf.evaluation import folds as of_folds
        from selfmm_hf.evaluation import sweep as sweeps
        from selfmm_hf.evaluation.table import read_table
        from selfmm_hf.evaluation.table_markdown import markdown, write_table

        configurations = sweeps.ONE_CONFIGURATION if sweep is None else sweeps.read_configurations(sweep)
        if folds is None:
            prepared = sweeps.prepare(output_dir, configurations, seeds, context.args)
            do, read, write, told = sweeps.run_sweep, read_table, write_table, markdown
        else:
            prepared = of_folds.prepare(output_dir, folds, configurations, seeds, context.args)
            do, read, write, told = of_folds.run_folds, of_folds.read_folds, of_folds.write_folds, of_folds.markdown
    undone = do(output_dir, prepared, context.args, _tell)
    try:
        content = read(output_dir)
    except ValueError as error:  # not a single run is done
        _tell(str(error))
    else:
        files = write(content, output_dir)
        print(f"\n{told(content)}\n{', '.join(map(str, files))}")
    raise typer.Exit(1 if undone else 0)


@benchmark.command()
def table(
    folder: Annotated[Path, Argument(help="The --output_dir of `selfmm benchmark run`.")],
    against: Annotated[
        str | None, Option(help="Configuration to compare the others with; by default the first.")
    ] = None,
    latex: Annotated[bool, Option("--latex", help="Print LaTeX for a paper: a tabular with booktabs.")] = False,
    csv: Annotated[bool, Option("--csv", help="Print CSV: every number unrounded, a row for each metric.")] = False,
) -> None:
    """Print the table of a sweep."""
    need("scipy", "benchmark")
    with end_in_one_line():
        from selfmm_hf.evaluation import folds, table_files
        from selfmm_hf.evaluation.table import read_table
        from selfmm_hf.evaluation.table_markdown import markdown

        if latex and csv:
            raise ValueError("--latex and --csv are two tables: take one of them.")
        if (latex or csv or against) and folds.fold_folders(folder):
            raise ValueError(f"{folder} holds folds, whose table is folds.md; name the sweep of one fold in it.")
        if latex or csv:
            print((table_files.latex if latex else table_files.csv_text)(read_table(folder, against)), end="")
        elif folds.fold_folders(folder):
            print(folds.markdown(folds.read_folds(folder)).rstrip("\n"))
        else:
            print(markdown(read_table(folder, against)).rstrip("\n"))


@benchmark.command()
def ensemble(
    folder: Annotated[Path, Argument(help="The --output_dir of `selfmm benchmark run`.")],
    output_dir: Annotated[Path, Option("--output_dir", help="New folder for the model.")],
    configuration: Annotated[str | None, Option(help="Configuration; needed if the sweep has several.")] = None,
) -> None:
    """Make one model of all seeds of a configuration. It predicts the mean of their predictions."""
    with end_in_one_line():
        from selfmm_hf.evaluation.ensemble import Ensemble

        made = Ensemble.read(folder, configuration)
        model = made.save(output_dir)
    for line in made.lines():
        print(line)
    print(f"{output_dir}: {model.num_parameters():,} parameters; load it with AutoModel and trust_remote_code=True.")


def search(
    context: typer.Context,
    output_dir: Annotated[
        Path, Option("--output_dir", help="Folder of the search. The same command resumes an interrupted search.")
    ],
    space: Annotated[
        str, Option(help="YAML file of choices for each option, or official: the choices of the official code.")
    ] = "official",
    trials: Annotated[int, Option(min=1, help="Number of trials, including those that are done.")] = 50,
) -> None:
    """Search hyperparameters on the validation split. The test split is not loaded."""
    need("optuna", "benchmark")
    with end_in_one_line():
        from selfmm_hf.evaluation import search as searching

        choices = searching.read_space(space)
        searching.prepare(output_dir, choices, context.args)
    from selfmm_hf.training.processes import FolderInUse, occupied

    try:
        with occupied(output_dir):
            found = searching.search(output_dir, choices, trials, context.args, _tell)
    except FolderInUse as error:
        complain(f"{error} A search runs in one process.")
        raise typer.Exit(1) from None
    done = [trial for trial in found if trial.value is not None]
    if not done:
        raise typer.Exit(1)
    varied = [name for name, values in choices.items() if len(values) > 1]
    print("\nvalidation loss, and what was drawn:")
    for trial in sorted(done, key=lambda trial: trial.value)[:5]:
        drawn = ", ".join(f"{name} {trial.params[name]}" for name in varied)
        print(f"{trial.value:.4f}  trial {trial.number}: {drawn}")
    print(f"\nThe best is {output_dir / searching.BEST_FILE}: pass it to `selfmm benchmark run` with --config.")


def _tell(line: str) -> None:
    print(line, flush=True)
