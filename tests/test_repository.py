"""The repository as a whole: what it imports is declared, what it writes has an encoding, what is built is whole."""

import ast
import importlib.metadata
import io
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import fresh
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import selfmm_cli as cli
from selfmm_hf.hub import push as hub
from selfmm_hf.version import __version__

ROOT = Path(__file__).resolve().parents[1]
METRIC = ROOT / "hub_configs" / "metrics" / "multimodal_sentiment"
FOLDERS = [ROOT / "benchmarks", ROOT / "examples", ROOT / "spaces_demo", METRIC]
SCRIPTS = [ROOT / "train.py", *(file for folder in FOLDERS for file in folder.glob("*.py"))]
PACKAGE = sorted((ROOT / "src").rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
# Of the checkout that benchmarks/official.py is given.
OFFICIAL = {"config", "data", "models", "trains", "utils"}
# What comes with every Space of gradio; elsewhere ours does without the last.
ON_THE_HUB = {"gradio", "huggingface-hub", "pyyaml", "spaces"}


def tree(file):
    return ast.parse(file.read_text("utf-8"))


def imported(files):
    """Distributions that the files import, by the first file that does."""
    siblings = {file.stem for one in files for file in one.parent.glob("*.py")} | {"selfmm_hf", "selfmm_cli"} | OFFICIAL
    distributions = importlib.metadata.packages_distributions()
    found = {}
    for file in files:
        for node in ast.walk(tree(file)):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            for name in {name.partition(".")[0] for name in names} - sys.stdlib_module_names - siblings:
                for distribution in distributions.get(name, [name])[:1]:
                    found.setdefault(canonicalize_name(distribution), file.relative_to(ROOT).as_posix())
    return found


def declared(*groups):
    return {canonicalize_name(Requirement(one).name) for group in groups for one in group}


def test_everything_that_is_imported_is_declared():
    extras = PROJECT["optional-dependencies"]
    ours = declared(PROJECT["dependencies"], *(extras[one] for one in extras if one != "test"))
    assert not {name: file for name, file in imported(PACKAGE).items() if name not in ours}
    # scikit-learn is for the official code alone
    tests = sorted((ROOT / "tests").glob("*.py"))
    assert not {name: file for name, file in imported([*SCRIPTS, *tests]).items()
                if name not in ours | declared(extras["test"]) | ON_THE_HUB}  # fmt: skip


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_the_lowest_versions_are_those_of_the_extras_too():
    extras = PROJECT["optional-dependencies"].values()
    named = map(Requirement, [*PROJECT["dependencies"], *(one for extra in extras for one in extra)])
    lowest = {f"{one.name}=={bound.version}" for one in named for bound in one.specifier}
    made = subprocess.run(["make", "-n", "test-lowest"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(re.search('EXTRA="(.*?)"', made).group(1).split()) == lowest


@pytest.mark.parametrize("folder", [ROOT / "spaces_demo", METRIC], ids=lambda folder: folder.name)
def test_a_space_installs_what_it_imports(folder):
    lines = [line for line in (folder / "requirements.txt").read_text("utf-8").splitlines() if not line.startswith("#")]
    known = declared(lines) | ON_THE_HUB
    assert not {name: file for name, file in imported([*folder.glob("*.py")]).items() if name not in known}


# A room imports those before it, never those after it.
ROOMS = ["version", "resources", "environment", "quiet_terminal", "metrics", "storage", "model", "task_metrics",
         "published", "pages", "data", "labels", "training", "clips", "hub",
         "cluster", "conversion", "runs", "evaluation"]  # fmt: skip


def test_imports_point_down():
    root = ROOT / "src" / "selfmm_hf"
    seen = set()
    for file in (file for file in PACKAGE if file.is_relative_to(root) and file != root / "__init__.py"):
        *folders, name = file.relative_to(root).with_suffix("").parts
        room = [*folders, name][0]
        seen.add(room)
        for node in ast.walk(tree(file)):
            if isinstance(node, ast.ImportFrom) and node.level:
                path = [*folders[: len(folders) - node.level + 1], *(node.module or "").split(".")]
                other = next(filter(None, path), node.names[0].name)
                assert ROOMS.index(other) <= ROOMS.index(room), f"{file}: {ast.unparse(node)}"
            assert not (isinstance(node, ast.ImportFrom) and (node.module or "").startswith("selfmm_")), file
    assert seen == set(ROOMS)


def calls(file):
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            yield node, name, {one.arg: one.value for one in node.keywords}


def without_encoding(node, name, keywords):
    """Whether a call reads or writes text by the encoding of the machine."""
    text = [getattr(keywords.get(one), "value", False) for one in ("text", "universal_newlines")]
    if "encoding" in keywords:
        return False
    if name in ("run", "Popen", "check_output", "NamedTemporaryFile", "TemporaryFile"):
        return any(text) or any(isinstance(one, ast.Constant) and one.value in ("w", "r", "w+") for one in node.args)
    if name == "read_text" and isinstance(node.func, ast.Attribute):
        return not node.args
    if name == "write_text" and isinstance(node.func, ast.Attribute):
        return len(node.args) < 2
    if name != "open":
        return False
    if isinstance(node.func, ast.Attribute):
        mode = node.args[0] if node.args else keywords.get("mode")
        if node.args and not (isinstance(mode, ast.Constant) and re.fullmatch(r"[rwax]t?\+?", str(mode.value))):
            return False  # of binary files, or what libraries open: not the method of a path
    else:
        mode = node.args[1] if len(node.args) > 1 else keywords.get("mode")
    return "b" not in getattr(mode, "value", "r")


def test_text_files_are_read_and_written_with_a_stated_encoding():
    found = [f"{file.relative_to(ROOT)}:{node.lineno}" for file in [*PACKAGE, *SCRIPTS]
             for node, name, keywords in calls(file) if without_encoding(node, name, keywords)]  # fmt: skip
    assert not found


def test_cores_are_those_that_the_process_may_use():
    """`cores` of environment.py looks at the affinity of the process; nothing else counts cores."""
    names = ("cpu_count", "process_cpu_count", "sched_getaffinity")
    counting = {file.name for file in [*PACKAGE, *SCRIPTS] for _, name, _ in calls(file) if name in names}
    assert counting == {"environment.py"}


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system pins no processes")
def test_a_pinned_process_counts_its_cores():
    code = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from selfmm_hf.environment import cores, environment
print(cores(), environment()["cores"])
"""
    done = subprocess.run([fresh.python(), "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["1", "1"], done.stderr


@pytest.mark.parametrize(
    ("encoding", "written"),
    [
        ("cp1252", "a\\u2212 \xe4 \\u4e2d \\ud83d\\ude00"),
        ("ascii", "a\\u2212 \\u00e4 \\u4e2d \\ud83d\\ude00"),
        ("utf-8", "a\u2212 \xe4 \u4e2d \U0001f600"),
    ],
)
def test_what_the_terminal_cannot_write_is_escaped_as_in_json(encoding, written, monkeypatch):
    said = "a\u2212 \xe4 \u4e2d \U0001f600"
    stdout = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stdout)
    monkeypatch.setattr(
        sys.modules["selfmm_cli.push"], "print_left", lambda _: print(json.dumps(said, ensure_ascii=False), flush=True)
    )
    monkeypatch.setattr(hub, "plan", lambda *_, **__: "")
    cli.main(["push", "folder", "me/repository", "--dry_run"])
    assert stdout.buffer.getvalue().decode(encoding).strip() == f'"{written}"'
    assert json.loads(f'"{written}"') == said


def test_commands_of_the_hub_that_the_documentation_names_exist():
    """With this version of huggingface-hub; `make test-lowest` looks at the lowest."""
    files = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "spaces_demo").glob("*.md"),
             *(ROOT / "hub_configs").rglob("*.md"), *PACKAGE]  # fmt: skip
    command = re.compile(r"(?:^|`)hf ([a-z]+(?: (?:login|create))?)(?=[\s`])", re.MULTILINE)
    named = {match for file in files for match in command.findall(file.read_text("utf-8"))}
    assert {"auth login", "download"} <= named
    for command in named:
        line = [sys.executable, "-m", "huggingface_hub.cli.hf", *command.split(), "--help"]
        done = subprocess.run(line, capture_output=True, text=True)
        assert done.returncode == 0, f"hf {command}: {done.stdout}{done.stderr}"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Names in the sdist, without its folder, and in the wheel that is made of the sdist."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("built")
    source = folder / "source"
    unwanted = shutil.ignore_patterns(".git", ".venv*", "__pycache__", "*cache", "dist")
    shutil.copytree(ROOT, source, symlinks=True, ignore=unwanted)
    (source / "data").mkdir()
    (source / "data" / "mosi.pkl").write_bytes(b"research data")  # stay out: .gitignore names the folder

    def build(kind, where):
        code = f"from hatchling import build; build.build_{kind}({str(folder)!r})"
        done = subprocess.run([sys.executable, "-c", code], cwd=where, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]

    build("sdist", source)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as sdist:
        sdist.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    build("wheel", unpacked)
    (wheel,) = folder.glob("*.whl")
    names = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    with zipfile.ZipFile(wheel) as packed:
        return names, set(packed.namelist())


def test_there_are_no_links():
    """Git writes a link as a file with a path in it where links are not allowed, as on Windows."""
    folders = ("src", "hub_configs", "docs", "examples", "benchmarks", "spaces_demo", "tests")
    assert not [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_symlink()]


def test_the_classifiers_are_of_the_versions_that_pip_takes():
    named = {one.rpartition(" ")[2] for one in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d+$", one)}
    lowest = min(named, key=Version)
    assert PROJECT["requires-python"] == f">={lowest}"
    assert named == {f"3.{minor}" for minor in range(int(lowest[2:]), int(lowest[2:]) + len(named))}


def test_nothing_asks_pip_for_a_name_that_is_not_on_the_index():
    """Until the first release: the packages by their names, or the address of the repository."""
    texts = [*PACKAGE, *ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.*"),
             *(ROOT / "spaces_demo").glob("*.*"), *(ROOT / "hub_configs").rglob("*.md")]  # fmt: skip
    asked = re.compile(r"pip install [^\n`]*?['\"]?selfmm-hf\b(?!\S* @ git\+)")
    found = {file.name for file in texts if asked.search(file.read_text("utf-8", errors="replace"))}
    assert found == {"RELEASING.md"}


def test_each_extra_has_its_weight():
    table = (ROOT / "docs" / "install.md").read_text("utf-8")
    rows = dict(re.findall(r"(?m)^\| `(\w+)` \| (.+?) \| \d+ \| \d+ \|", table))
    assert rows.keys() == PROJECT["optional-dependencies"].keys()
    assert rows == runpy.run_path(str(ROOT / "benchmarks" / "extras.py"))["PURPOSES"], "python benchmarks/extras.py"


def files(*folders):
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    names = {path.relative_to(ROOT).as_posix() for path in paths}
    return {name for name in names if "__pycache__" not in name and "/." not in name}


def test_the_sdist_is_the_repository(built):
    sdist, _ = built
    wanted = files("benchmarks", "docs", "examples", "hub_configs", "spaces_demo", "tests") | {
        file.relative_to(ROOT).as_posix() for file in PACKAGE
    }
    wanted |= {"train.py", "README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile", "pyproject.toml"}
    assert not wanted - sdist
    assert not [name for name in sdist if name.endswith((".pyc", ".pkl")) or name.startswith(("runs/", "data/"))]


def test_the_wheel_has_all_that_the_package_reads(built):
    _, wheel = built
    package = {f"selfmm_hf/{name}" for name in ("LICENSE", *files("hub_configs"))}
    package |= {name.removeprefix("src/") for name in files("src/selfmm_hf", "src/selfmm_cli")}
    assert not package - wheel
    assert {name.partition("/")[0] for name in wheel - package} == {f"selfmm_hf-{__version__}.dist-info"}
