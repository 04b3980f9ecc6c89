"""What README and docs say: links lead somewhere, commands have the options that are named, Python runs."""

import importlib
import importlib.util
import re
import shlex
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from conftest import TASKS, command, mmsa_file, tiny_text_config
from transformers import BertModel

import selfmm_cli as cli
import selfmm_hf
from selfmm_hf import SelfMMConfig, SelfMMFeatureExtractor, SelfMMModel, SelfMMProcessor
from selfmm_hf.data.synthetic.words import demo_text_config, demo_tokenizer
from selfmm_hf.hub.model_folder import save_loadable
from selfmm_hf.runs.options import option_parser

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
PAGES += [ROOT / "examples" / "README.md", ROOT / "spaces_demo" / "README.md"]
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
        if "benchmarks/" in line:  # see test_benchmarks_have_the_options
            continue
        if found := re.search(r"(?:selfmm|train\.py)( .+)", line):
            words = shlex.split(found[1], comments=True)
            words = words[: words.index("|")] if "|" in words else words
            if "train.py" in line:
                words = ["train", *words]
            name = " ".join(words[:2]) if words[0] in ("data", "benchmark") else words[0]
            name = "" if name.startswith("--") else name  # of `selfmm` itself
            yield name, {word.partition("=")[0].rstrip(";") for word in words if word.startswith("--")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_have_the_options(page):
    for name, given in commands(page):
        assert given <= options_of(name), (name, given - options_of(name))


def test_commands_are_found():
    assert len({name for page in PAGES for name, _ in commands(page)}) >= 12


def test_benchmarks_have_the_options():
    found = 0
    for page in PAGES:
        for line in page.read_text("utf-8").replace("\\\n", " ").splitlines():
            for script, rest in re.findall(r"(?<!\w)benchmarks/(\w+\.py)([^`|]*)", line):
                source = (ROOT / "benchmarks" / script).read_text("utf-8")
                given = {word.partition("=")[0] for word in rest.split(" #")[0].split() if word.startswith("--")}
                assert all(f'"{option}"' in source for option in given), (page.name, script, given)
                found += 1
    assert found > 10


def test_every_sweep_is_in_its_table():
    table = (ROOT / "docs" / "training.md").read_text("utf-8").split("| sweep | configurations |")[1].split("\n\n")[0]
    sweeps = {file.stem for file in (ROOT / "hub_configs" / "sweeps").glob("*.yaml")}
    assert set(re.findall(r"(?m)^\| `(\w+)` \|", table)) == sweeps


def test_every_page_is_in_the_menu_of_the_site():
    menu = re.search(r"(?ms)^nav:\n(.*)", (ROOT / "mkdocs.yml").read_text("utf-8"))[1]
    listed = re.findall(r"[\w/-]+\.md", menu)
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")}
    outside = {page.name for page in ROOT.glob("*.md")} - {"README.md"}
    examples = {f"examples/notebooks/{file.stem}.md" for file in (ROOT / "examples" / "notebooks").glob("*.py")}
    assert sorted(listed) == sorted(pages | outside | examples | {"examples/README.md"})
    assert set(re.findall(r'"([\w/]+\.md)"', (ROOT / "docs" / "hooks.py").read_text("utf-8"))) == outside | {
        "examples/README.md"
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_lists_begin_after_a_blank_line(page):
    """Else the site shows them as part of the paragraph."""
    text = re.sub(r"(?ms)^```.*?^```", "", page.read_text("utf-8"))
    assert not re.findall(r"(?m)^(?![ \-|#]|\d+\.)\S.*\n(?:- |1\. ).*", text)


API = sorted((ROOT / "docs" / "api").glob("*.md"))


@pytest.mark.parametrize("page", API, ids=lambda page: page.stem)
def test_what_the_api_page_shows_has_a_docstring(page):
    for name, members in re.findall(
        r"(?m)^::: (\S+)(?:\n    options: \{members: \[(.*?)\]\})?", page.read_text("utf-8")
    ):
        module, _, attribute = name.rpartition(".")
        shown = getattr(importlib.import_module(module), attribute)
        assert shown.__doc__, name
        for member in filter(None, members.split(", ")):
            assert getattr(shown, member).__doc__, f"{name}.{member}"


def test_the_api_pages_show_the_public_names():
    shown = set(re.findall(r"::: selfmm_hf\.(\w+)$", "\n".join(page.read_text("utf-8") for page in API), re.MULTILINE))
    assert shown == set(selfmm_hf.__all__) - {"SelfMMPreTrainedModel", "__version__"}


# What stands in the pages for names of the reader's own, and for what is too large for a test.
READERS_OWN = {
    '"NAME/selfmm-mosi", revision="COMMIT"': '"runs/demo/model"',
    'model="NAME/selfmm-mosi"': 'model="runs/demo/model"',
    ', revision="COMMIT"': "",
    '"google-bert/bert-base-uncased"': '"encoder"',
    'output_dir="runs/mine"': 'output_dir="runs/mine", num_train_epochs=1, use_cpu=True, disable_tqdm=True',
}
ASKS_A_SERVER = "gradio_client"  # of a Space: tests/test_space.py asks one in the same words
PROGRAMS = [
    pytest.param(block, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, block in enumerate(blocks(page, "python"))
    if ASKS_A_SERVER not in block
]


@pytest.fixture(scope="module")
def folder(model_folder, tmp_path_factory):
    """What the pages assume, such as what `selfmm demo` leaves."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "runs" / "demo" / "clips").mkdir(parents=True)
    (folder / "runs" / "demo" / "model").symlink_to(model_folder, target_is_directory=True)
    shutil.copyfile(ROOT / "spaces_demo" / "examples" / "sarcasm.mp4", folder / "runs/demo/clips/sarcasm.mp4")
    (folder / "hub_configs").symlink_to(ROOT / "hub_configs", target_is_directory=True)
    torch.manual_seed(0)
    options = {"eye_dim": 39, "text_config": demo_text_config(), **TASKS["emotions"]}
    model = SelfMMModel(SelfMMConfig(modalities=["text", "eye"], **options)).eval()
    extractor = SelfMMFeatureExtractor(audio=None, vision=None, eye={"kind": "features", "dim": 39})
    save_loadable(folder / "runs" / "emotions" / "model", model, SelfMMProcessor(extractor, demo_tokenizer()))
    BertModel(tiny_text_config()).save_pretrained(folder / "encoder")
    mosi = ["mosi", "--data", mmsa_file(folder / "file.pkl"), "--output_dir", folder / "data" / "mosi"]
    assert command("data", "prepare", *mosi) == 0
    if importlib.util.find_spec("onnxruntime"):
        assert command("export", model_folder, "--output", folder / "demo.onnx") == 0
    return folder


@pytest.mark.parametrize("program", PROGRAMS)
def test_python_runs(program, folder, monkeypatch):
    for needed in ("evaluate", "onnxruntime"):
        if f"import {needed}" in program:
            pytest.importorskip(needed)
    for written, replaced in READERS_OWN.items():
        program = program.replace(written, replaced)
    assert "NAME" not in program and "COMMIT" not in program
    monkeypatch.chdir(folder)
    frames = {name: np.ones((3, width), np.float32) for name, width in (("audio", 74), ("vision", 35))}
    samples = [{"input_ids": [2, 5, 3], "label": label, **frames} for label in (1.4, -0.6, 0.2, -1.0)]
    exec(compile(program, "page", "exec"), {"train_samples": samples, "validation_samples": samples})


def test_programs_are_found():
    assert len(PROGRAMS) >= 9


def test_what_covers_the_attack_surface_is_there():
    named = set(re.findall(r"`(test_\w+\.py)`", (ROOT / "SECURITY.md").read_text("utf-8")))
    assert len(named) > 15 and all((ROOT / "tests" / name).is_file() for name in named)


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) < 130
