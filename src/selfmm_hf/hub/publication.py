"""Checks what a folder is and whether it is whole, and selects the files that go to the Hub."""

import ast
import fnmatch
import json
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets.config import DATASET_INFO_FILENAME
from transformers.dynamic_module_utils import get_relative_import_files

from ..data import BUILDERS, DataError
from ..data.builder import checksums, published_as
from ..data.card import CardError, parse_card, read_card
from ..data.prepare import card_fault
from ..data.prepared import ORIGIN_FILE, origins, split_files
from ..data.research import research_use_of
from .privacy import PrivateError, publishable
from .saved_model import load_model, model_of
from .sent_files import OWNED, SENT, TOKENIZER_FILES

THIS_REPOSITORY = re.compile(rb"THIS_REPOSITORY(_OR_FOLDER)?")  # in cards, until they are pushed
PLACEHOLDER = "NAME/selfmm-demo"  # the model of a Space, until it is pushed


class PublicationError(ValueError):
    """A folder cannot be pushed as it is."""


@dataclass
class Publication:
    """
    The content of a push.

    Args:
        kind: Kind of the repository: `model`, `dataset` or `space`.
        identity: What it is, see [`identity`]; another push must find the same in its repository.
        files: Files, or their contents, by their path in the repository.
        owned: Patterns of the files that our pushes put there.
        research: The title of the data set, if it is one for research use.
        metric: Whether it is a metric of `evaluate`, which looks for a module of the repository's name.
        left: Files of the folder that are not sent.
        scrubbed: Files that are sent without the paths and logins that they hold here.
    """

    kind: str
    identity: str
    files: dict[str, Path | bytes]
    owned: tuple[str, ...]
    research: str | None = None
    metric: bool = False
    left: tuple[str, ...] = ()
    scrubbed: tuple[str, ...] = ()

    def stale(self, names: Collection[str]) -> list[str]:
        """Returns the files `names` of the repository that an earlier push put there and this one does not have."""
        return sorted(
            name
            for name in set(names) - self.files.keys()
            if any(fnmatch.fnmatchcase(name, one) and name.count("/") == one.count("/") for one in self.owned)
        )


def read_publication(folder: Path, repository: str, model: str | None = None) -> Publication:
    """
    Checks a folder: that of a model or of a run, one that `selfmm data prepare` has made, or a Space.

    Args:
        repository: Where it will be; the card that is sent uses this name.
        model: The repository of the model that a Space shows.

    Raises:
        PublicationError: It is none of these, not whole, or would not load.
    """
    if not folder.is_dir():
        raise PublicationError(f"There is no folder {folder}.")
    folder = model_of(folder)
    names = _names(folder)
    card = _card(folder)
    if (folder / "config.json").is_file():
        make = _model
    elif any(name.endswith(f"/{ORIGIN_FILE}") for name in names):
        make = _dataset
    elif card is not None and "sdk" in card:
        make = _space
    else:
        raise PublicationError(
            f"{folder} is not the folder of a model (config.json), of a run (model/), of a data set as `selfmm data "
            "prepare` makes them (origin.json), or of a metric or a Space (README.md with `sdk: gradio`)."
        )
    if card is None:
        raise PublicationError(f"{folder} has no README.md: write its card, with metadata between two lines `---`.")
    if model is not None and make is not _space:
        raise PublicationError(f"--model names the model that a Space shows, but {folder} is not a Space.")
    publication = _space(folder, names, card, model) if make is _space else make(folder, names, card)
    publication.left = tuple(name for name in names if name not in publication.files)
    text = THIS_REPOSITORY.sub(repository.encode(), _content(publication.files["README.md"]))
    if publication.metric:
        text = text.replace(f"NAME/{repository.rpartition('/')[2]}".encode(), repository.encode())
    publication.files["README.md"] = text
    try:
        files = {name: publishable(name, source) for name, source in publication.files.items()}
    except PrivateError as error:
        raise PublicationError(str(error)) from error
    publication.scrubbed = tuple(sorted(name for name in files if files[name] is not publication.files[name]))
    publication.files = files
    return publication


def identity(kind: str, names: Collection[str], read: Callable[[str], bytes]) -> str | None:
    """
    Identifies a folder or repository: a type of model, the name of a data set, the title of a Space.

    Args:
        names: Names of its files.
        read: Returns the content of one of them.

    Returns:
        `None` if it is not of this kind.
    """
    origin = min((name for name in names if name.endswith(f"/{ORIGIN_FILE}")), default="")
    file = {"model": "config.json", "dataset": origin, "space": "README.md"}[kind]
    if file not in names:
        return None
    text = read(file).decode(errors="replace")
    try:
        if kind == "model":
            return f"a model of the type {json.loads(text)['model_type']!r}"
        if kind == "dataset":
            origin = json.loads(text)
            return _called(origin["dataset"], origin.get("research"))
        return f"the Space {parse_card(text)['title']!r}"
    except (ValueError, KeyError, TypeError):
        return None


def _called(dataset: str, research: str | None) -> str:
    """Names a data set; a user's own with clips for research use is named differently from one without."""
    builder = BUILDERS.get(dataset)
    own = builder is None or not builder.CITATION
    return f"the data set {dataset!r}" + (f", clips of {research}" if research and own else "")


def loading_code(publication: Publication, repository: str, commit: str) -> str:
    """Returns the Python code that loads exactly what was pushed."""
    pinned = f'"{repository}", revision="{commit}"'
    if publication.kind == "model":
        return (
            "from transformers import AutoModel, AutoProcessor, pipeline\n\n"
            f"model = AutoModel.from_pretrained({pinned}, trust_remote_code=True)\n"
            f"processor = AutoProcessor.from_pretrained({pinned}, trust_remote_code=True)\n"
            f'pipe = pipeline("multimodal-sentiment", model={pinned}, trust_remote_code=True)'
        )
    if publication.kind == "dataset":
        config = next(name.partition("/")[0] for name in publication.files if name.endswith(f"/{ORIGIN_FILE}"))
        load = f'load_dataset("{repository}", "{config}", revision="{commit}")'
        return f"from datasets import load_dataset\n\ndataset = {load}"
    if publication.metric:
        return f'import evaluate\n\nmetric = evaluate.load("{repository}", "mosi", revision="{commit}")  # or "sims"'
    return ""


def _content(source: Path | bytes) -> bytes:
    return source if isinstance(source, bytes) else source.read_bytes()


def _names(folder: Path) -> list[str]:
    """Returns the files of a folder by their path in it, without hidden ones."""
    paths = (path for path in folder.rglob("*") if path.is_file() or path.is_symlink())
    names = (path.relative_to(folder).as_posix() for path in paths)
    return sorted(name for name in names if not any(part.startswith(".") for part in name.split("/")))


def _sent(folder: Path, names: Collection[str], patterns: Collection[str]) -> dict[str, Path | bytes]:
    """
    Returns the files whose names fit one of the patterns, level by level.

    Raises:
        PublicationError: A file is a link to something outside the folder, which nobody would expect to send.
    """
    found: dict[str, Path | bytes] = {}
    for name in names:
        if not any(fnmatch.fnmatchcase(name, one) and name.count("/") == one.count("/") for one in patterns):
            continue
        file = (folder / name).resolve()
        if not file.is_relative_to(folder.resolve()):
            raise PublicationError(
                f"{folder / name} is a link to {file}, outside the folder: put a copy of the file in its place, or "
                "delete the link."
            )
        found[name] = folder / name
    return found


def _card(folder: Path) -> dict[str, Any] | None:
    """Reads the metadata of the card, if there is one."""
    file = folder / "README.md"
    if not file.is_file():
        return None
    try:
        card = read_card(file)
    except CardError as error:
        raise PublicationError(str(error)) from error
    if not card:
        raise PublicationError(f"{file} has no metadata between two lines `---` at its beginning.")
    return card


def _model(folder: Path, names: Collection[str], card: dict[str, Any]) -> Publication:
    """Checks that all code of a model is there, and that its weights and processor load by the package's code."""
    named = identity("model", names, lambda name: (folder / name).read_bytes())
    if named != "a model of the type 'selfmm'":
        raise PublicationError(f"{folder / 'config.json'} is not of Self-MM; it describes {named or 'no model'}.")
    code = _code(folder, names)
    try:
        tokenizer = load_model(folder)[1].tokenizer
    except ValueError as error:
        raise PublicationError(str(error)) from error
    if not card.get("license"):
        raise PublicationError(f"{folder / 'README.md'} names no `license`.")
    vocabulary = () if tokenizer is None else (*TOKENIZER_FILES, *tokenizer.vocab_files_names.values())
    return Publication("model", named, _sent(folder, names, (*SENT["model"], *code, *vocabulary)), OWNED["model"])


def _code(folder: Path, names: Collection[str]) -> set[str]:
    """
    Returns the files of the modules that a configuration names, and of all modules that these import.

    Raises:
        PublicationError: One of them is missing, or is not Python.
    """
    named: dict[str, str] = {}
    for name in [name for name in names if "/" not in name and name.endswith("config.json")]:
        try:
            options = json.loads((folder / name).read_text("utf-8-sig"))
        except ValueError as error:
            raise PublicationError(f"{folder / name} is not JSON: {error}") from error
        for value in (options.get("auto_map") or {}).values():
            # a tokenizer has a pair, slow and fast
            named |= {one.partition(".")[0]: name for one in (value if isinstance(value, list) else [value]) if one}
        for pipeline in (options.get("custom_pipelines") or {}).values():
            named[pipeline["impl"].partition(".")[0]] = name
    if not {"configuration_selfmm", "modeling_selfmm", "processing_selfmm", "pipeline_selfmm"} <= named.keys():
        raise PublicationError(
            f"{folder} does not name its code for AutoModel, AutoProcessor and pipeline; training, or `selfmm "
            "convert`, makes whole model folders."
        )
    files: set[str] = set()
    for module, config in named.items():
        file = folder / f"{module}.py"
        try:
            for path in [file, *map(Path, get_relative_import_files(file))]:
                if path.name not in files:  # most import each other
                    ast.parse(path.read_text("utf-8-sig"))
                    files.add(path.name)
        except OSError as error:
            missing = Path(error.filename or file).name
            raise PublicationError(f"{folder} lacks {missing}, which the code that {config} names needs.") from error
        except (SyntaxError, ValueError) as error:
            raise PublicationError(f"{folder}: the code that {config} names is damaged: {error}") from error
    return files


def _dataset(folder: Path, names: Collection[str], _: dict[str, Any]) -> Publication:
    """Checks that a data set has the files that were made, and a card that describes them to `load_dataset`."""
    try:
        facts = origins(folder)
    except DataError as error:
        raise PublicationError(str(error)) from error
    made = {f"{one['config']}/{name}": sha256 for one in facts for name, sha256 in one["files"].items()}
    for name, sha256 in made.items():
        if not (folder / name).is_file() or checksums(folder / name)["sha256"] != sha256:
            raise PublicationError(f"{folder / name} has changed since it was prepared. Prepare {folder} again.")
    if fault := card_fault(folder, facts):
        raise PublicationError(f"{fault}.")
    owned = (*OWNED["dataset"], *(f"{one['config']}/*" for one in facts))
    described = [f"{one['config']}/{name}" for one in facts for name in (ORIGIN_FILE, DATASET_INFO_FILENAME)]
    sent = _sent(folder, names, (*SENT["dataset"], *made, *described))
    research = next(filter(None, (_research(folder / one["config"], one) for one in facts)), None)
    return Publication("dataset", _called(facts[0]["dataset"], research), sent, owned, research)


def _research(folder: Path, origin: dict[str, Any]) -> str | None:
    """Returns the title of the research data set that this is, by its name, by what was noted, or by its content."""
    builder = BUILDERS.get(origin["dataset"])
    if builder is not None and builder.CITATION:
        return builder.TITLE
    published = published_as({"sha256": origin["sha256"]})
    if origin.get("research") or published:
        return origin.get("research") or published[0].TITLE
    files = {split: [folder / name for name in split_files(origin, split)] for split in origin["rows"]}
    try:
        return research_use_of(files)
    except (ValueError, KeyError, TypeError) as error:  # columns of another type, or none
        raise PublicationError(f"{folder}: its ids and labels cannot be read: {error}") from error


def _space(folder: Path, names: Collection[str], card: dict[str, Any], model: str | None) -> Publication:
    """Checks that the Hub can start a Space, and writes the name of its model into the copy that is sent."""
    if card["sdk"] != "gradio" or not card.get("title"):
        raise PublicationError(f"{folder / 'README.md'} must say `sdk: gradio` and have a `title`.")
    script = str(card.get("app_file", "app.py"))
    sent = _sent(folder, names, (*SENT["space"], script))
    for name in (script, "requirements.txt"):
        if name not in sent:
            raise PublicationError(f"{folder} lacks {name}, which a Space needs.")
    for name in [name for name in sent if name.endswith(".py")]:
        try:
            ast.parse((folder / name).read_text("utf-8-sig"))
        except (SyntaxError, ValueError) as error:
            raise PublicationError(f"{folder / name} is damaged: {error}") from error
    holders = {name: (folder / name).read_bytes() for name in (script, "README.md")}
    holders = {name: content for name, content in holders.items() if PLACEHOLDER.encode() in content}
    if model is None and holders:
        raise PublicationError(
            f"{folder} names the placeholder {PLACEHOLDER}. Pass the model that it shows: --model NAME/MODEL."
        )
    if model is not None and not holders:
        raise PublicationError(f"--model replaces {PLACEHOLDER}, but no file in {folder} contains it.")
    for name, content in holders.items():
        sent[name] = content.replace(PLACEHOLDER.encode(), str(model).encode())
    metric = "evaluate" in (card.get("tags") or [])
    return Publication("space", f"the Space {card['title']!r}", sent, OWNED["space"], metric=metric)
