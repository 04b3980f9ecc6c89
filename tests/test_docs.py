"""What README and docs say: links lead somewhere, commands have the options that are named, imports exist."""

import ast
import importlib
import re
import shlex
from functools import cache
from pathlib import Path

import pytest
import typer

import selfmm_cli as cli
from selfmm_hf.runs.options import option_parser

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")), ROOT / "spaces_demo" / "README.md"]
TAKE_TRAINING_OPTIONS = {"train", "demo", "benchmark run", "search"}


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def anchors(page):
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if re.match(r"https?:", link):
            continue
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@cache
def options_of(command):

    if command == "train":
        return {option for action in option_parser()._actions for option in action.option_strings}
    group = typer.main.get_command(cli.app)
    for name in command.split():
        group = group.commands[name]
    own = {option for parameter in group.params for option in parameter.opts if option.startswith("--")} | {"--help"}
    return own | (options_of("train") if command in TAKE_TRAINING_OPTIONS else set())


def commands(page):
    """Each command of `selfmm` or `train.py` on a page: its name, and the options that are given."""
    text = "\n".join(blocks(page, "sh")) + "\n" + "\n".join(re.findall(r"`(selfmm [^`]+)`", page.read_text("utf-8")))
    for line in text.replace("\\\n", " ").splitlines():
        if found := re.search(r"(?:selfmm|train\.py)( .+)", line):
            words = shlex.split(found[1], comments=True)
            words = words[: words.index("|")] if "|" in words else words
            if "train.py" in line:
                words = ["train", *words]
            name = " ".join(words[:2]) if words[0] in ("data", "benchmark") else words[0]
            yield name, {word.partition("=")[0].rstrip(";") for word in words if word.startswith("--")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_have_the_options(page):
    for name, given in commands(page):
        assert given <= options_of(name), (name, given - options_of(name))


def test_commands_are_found():
    assert len({name for page in PAGES for name, _ in commands(page)}) >= 12


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_can_be_imported(page):
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("selfmm_hf"):
                module = importlib.import_module(node.module)
                assert all(hasattr(module, one.name) for one in node.names), ast.unparse(node)


def test_what_covers_the_attack_surface_is_there():
    named = set(re.findall(r"`(test_\w+\.py)`", (ROOT / "SECURITY.md").read_text("utf-8")))
    assert len(named) > 15 and all((ROOT / "tests" / name).is_file() for name in named)


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) < 130
