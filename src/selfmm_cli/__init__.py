"""
The command `selfmm`, one module for each of its commands: arguments, and what is printed.

It stands beside the package `selfmm_hf`, which loads torch when it is imported. Commands import the package when they
run, so that help appears at once.
"""

import sys
from typing import Annotated

import typer

from .benchmark import benchmark, search
from .convert import convert
from .data import data
from .errors import PROG, complain
from .export import export
from .extract import extract
from .predict import predict
from .push import push
from .report import report
from .robustness import robustness
from .terminal import escape_what_cannot_be_encoded, unwritten
from .train import demo, train
from .training_options import TAKES_TRAINING_OPTIONS

# Typer's own flags. With None, their default, Typer loads pydantic, a quarter of the time that help takes.
UNSET = {
    **dict.fromkeys(("help", "install_completion", "show_completion"), False),
    **{group: {"help": False} for group in ("data", "benchmark")},
}

app = typer.Typer(
    name=PROG,
    help="Self-MM: the sentiment of a video clip from its words, voice and face.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"default_map": UNSET},
)
app.command(**TAKES_TRAINING_OPTIONS, add_help_option=False)(train)
app.command(**TAKES_TRAINING_OPTIONS, add_help_option=False)(demo)
app.command()(predict)
app.command()(extract)
app.add_typer(data)
app.add_typer(benchmark)
app.command(**TAKES_TRAINING_OPTIONS)(search)
app.command()(report)
app.command()(robustness)
app.command()(convert)
app.command()(export)
app.command()(push)

INTERRUPTED = 130  # what Typer makes of Ctrl-C


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(version("selfmm-hf"))
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


def main(arguments: list[str] | None = None) -> None:
    """
    Runs the command `selfmm`.

    Args:
        arguments: By default those of the command line.

    Raises:
        SystemExit: The command has failed, or has something to report by its exit status.
    """
    escape_what_cannot_be_encoded()
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        status = app(arguments, prog_name=PROG, standalone_mode=False)
    except typer.TyperException as error:
        complain(error.format_message())
        raise SystemExit(2) from None
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    finally:
        if problem := unwritten():
            raise SystemExit(f"{PROG}: error: {problem}.")
    if status == INTERRUPTED:
        raise SystemExit(f"\n{PROG}: interrupted")
    if status:
        raise SystemExit(status)
