"""The options of a training run on the command line, and their help, read off the source: importing it loads torch."""

import ast
import inspect
import re
import runpy
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

# Settings of commands that hand options on to `read_options`.
TAKES_TRAINING_OPTIONS: dict[str, Any] = {
    "context_settings": {"allow_extra_args": True, "ignore_unknown_options": True}
}
# Panels of the help, and the classes whose docstrings document the options.
DOCUMENTED = {
    "Data and text encoder": ("runs/options.py", "RunOptions"),
    "The training": ("training/arguments.py", "SelfMMTrainingArguments"),
    "The model": ("model/configuration_selfmm.py", "SelfMMConfig"),
}
NOT_OPTIONS = {"text_config", "id2label", "label_scales", "members"}


def documented(docstring: str) -> dict[str, str]:
    """Reads options and their descriptions from the section `Args:` of a docstring."""
    section = re.search(r"^Args:\n(.*?)(?=^\w|\Z)", inspect.cleandoc(docstring), re.MULTILINE | re.DOTALL)
    found = re.findall(r"^    (\w+)(?: \(.*?\))?:\s+(.+?)\s*(?=^    \w|\Z)", section[1], re.MULTILINE | re.DOTALL)
    return {name: " ".join(text.split()) for name, text in found if name not in NOT_OPTIONS}


def panels() -> Iterator[tuple[str, dict[str, str]]]:
    """Yields each panel of the help with its options and their descriptions."""
    seen: set[str] = set()
    for panel, (file, name) in DOCUMENTED.items():
        tree = ast.parse((_package() / file).read_text("utf-8"))
        (node,) = (one for one in tree.body if isinstance(one, ast.ClassDef) and one.name == name)
        found = documented(ast.get_docstring(node, clean=False))
        yield panel, {name: text for name, text in found.items() if name not in seen}
        seen |= found.keys()


def _package() -> Path:
    """Returns the folder of `selfmm_hf` without importing it."""
    return Path(find_spec("selfmm_hf").origin).parent


def named(folder: str = "") -> str:
    """Lists the YAML files that `selfmm_hf.resources` finds; only that file is run, as the package loads torch."""
    return ", ".join(runpy.run_path(str(_package() / "resources.py"))["named"](folder))


def print_help(command: str, text: str, epilog: str) -> None:
    """Prints the help of a command that takes all options of a training, our own first."""
    config = f"YAML file of options, or the name of a preset: {named()}. By default custom with --dataset custom."
    options = [("--config", config, "Data and text encoder")]
    options += [(f"--{name}", help, panel) for panel, ones in panels() for name, help in ones.items()]
    parameters = [
        inspect.Parameter(
            name[2:],
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[str | None, typer.Option(name, help=help, rich_help_panel=panel, metavar="VALUE")],
        )
        for name, help, panel in options
    ]
    parameters.append(
        inspect.Parameter(
            "help_all",
            inspect.Parameter.KEYWORD_ONLY,
            default=False,
            annotation=Annotated[bool, typer.Option("--help-all", help="Show the options of every Trainer, too.")],
        )
    )

    def shown(**_: Any) -> None: ...

    shown.__doc__ = text
    shown.__signature__ = inspect.Signature(parameters)
    shown.__annotations__ = {one.name: one.annotation for one in parameters}
    app = typer.Typer(add_completion=False, rich_markup_mode="markdown")
    app.command(epilog=epilog)(shown)
    app(["--help"], prog_name=command, standalone_mode=False)


def print_all_help() -> None:
    """Prints the help of all options, those of every Trainer too, which only their parser knows."""
    from selfmm_hf.runs.options import option_parser

    parser = option_parser()
    ours = {name: help.replace("%", "%%") for _, ones in panels() for name, help in ones.items()}
    for action in parser._actions:
        action.help = ours.get(action.dest, action.help)
    parser.print_help()
