"""What a folder is, whether it is whole, and which of its files go to the Hub."""

import ast
import fnmatch
import json
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import yaml
from huggingface_hub import RepoCard
from transformers.dynamic_module_utils import get_relative_import_files

from .data import BUILDERS, DataError
from .data.builder import checksums
from .data.prepare import ORIGIN_FILE, origins
from .data.recipe import RECIPE_FILE
from .modeling_selfmm import SelfMMModel
from .processing_selfmm import SelfMMProcessor

THIS_REPOSITORY = re.compile(rb"THIS_REPOSITORY(_OR_FOLDER)?")  # in cards, until they are pushed
PLACEHOLDER = "NAME/selfmm-demo"  # the model of a Space, until it is pushed
NEVER = ("__pycache__", "runs", "*.pyc", "*.egg-info", "checkpoint-*", "training_args.bin")  # and what is hidden

# What we have put into a repository, by pattern: what is not in the folder any more is deleted with the next push.
OWNED = {
    "model": ("*.py", "*.safetensors", "*.safetensors.index.json", "preset*.yaml", "run.png", "models/*", "*token*"),
    "dataset": (RECIPE_FILE,),  # and the folders of its configurations
    "space": ("*.py", "examples/*"),
}  # fmt: skip


class PublicationError(ValueError):
    """A folder that is not to be pushed as it is."""


@dataclass
class Publication:
    """
    What a push sends.

    Args:
        kind: Of the repository: `model`, `dataset` or `space`.
        identity: What it is, see [`identity`]; another push must find the same in its repository.
        files: By their path in the repository, a file or its content.
        owned: Patterns of what we have put there.
        research: The title of data that are for research use, if it is such a data set.
        metric: Whether it is a metric of `evaluate`, which looks for a module of the repository's name.
    """

    kind: str
    identity: str
    files: dict[str, Path | bytes]
    owned: tuple[str, ...]
    research: str | None = None
    metric: bool = False

    def stale(self, names: Collection[str]) -> list[str]:
        """Those of the files `names` of the repository that an earlier push put there and this one does not have."""
        return sorted(
            name
            for name in set(names) - self.files.keys()
            if any(fnmatch.fnmatchcase(name, one) and name.count("/") == one.count("/") for one in self.owned)
        )


def read_publication(folder: Path, repository: str, model: str | None = None) -> Publication:
    """
    Checks a folder: that of a model or of a run, one that `selfmm data prepare` has made, or a Space.

    Args:
        repository: Where it will be, by which the card that is sent calls it.
        model: The repository of the model that a Space shows.

    Raises:
        PublicationError: It is none of these, not whole, or would not load.
    """
    if not folder.is_dir():
        raise PublicationError(f"There is no folder {folder}.")
    if not (folder / "config.json").exists() and (folder / "model" / "config.json").exists():
        folder = folder / "model"
    files = _files(folder)
    card = _card(folder)
    if (folder / "config.json").is_file():
        make = _model
    elif any(name.endswith(f"/{ORIGIN_FILE}") for name in files):
        make = _dataset
    elif card is not None and "sdk" in card.data.to_dict():
        make = _space
    else:
        raise PublicationError(
            f"{folder} is no folder of a model (config.json), of a run (model/), of a data set as `selfmm data "
            "prepare` makes them (origin.json), or of a metric or a Space (README.md with `sdk: gradio`)."
        )
    if card is None:
        raise PublicationError(f"{folder} has no README.md: write its card, with metadata between two lines `---`.")
    if model is not None and make is not _space:
        raise PublicationError(f"--model names the model that a Space shows, but {folder} is none.")
    publication = _space(folder, files, card, model) if make is _space else make(folder, files, card)
    text = THIS_REPOSITORY.sub(repository.encode(), _content(publication.files["README.md"]))
    if publication.metric:
        text = text.replace(f"NAME/{repository.rpartition('/')[2]}".encode(), repository.encode())
    publication.files["README.md"] = text
    return publication


def identity(kind: str, names: Collection[str], read: Callable[[str], bytes]) -> str | None:
    """
    What a folder or repository is: a type of model, the name of a data set, the title of a Space.

    Args:
        names: Of its files.
        read: Of one of them, the content.

    Returns:
        Nothing where it is not of this kind.
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
            return f"the data set {json.loads(text)['dataset']!r}"
        return f"the Space {RepoCard(text).data.to_dict()['title']!r}"
    except (ValueError, KeyError, TypeError, yaml.YAMLError):
        return None


def loading_code(publication: Publication, repository: str, commit: str) -> str:
    """The lines of Python that load what was pushed, as it was pushed."""
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


def _files(folder: Path) -> dict[str, Path | bytes]:
    """The files that may be pushed, by their path in the folder."""
    found: dict[str, Path | bytes] = {}
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        unwanted = any(part.startswith(".") or any(fnmatch.fnmatch(part, one) for one in NEVER) for part in parts)
        if path.is_file() and not unwanted:
            found["/".join(parts)] = path
    return found


def _card(folder: Path) -> RepoCard | None:
    file = folder / "README.md"
    if not file.is_file():
        return None
    try:
        card = RepoCard.load(file)
    except (ValueError, OSError, yaml.YAMLError) as error:
        raise PublicationError(f"{file}: its metadata cannot be read: {error}") from error
    if not card.data.to_dict():
        raise PublicationError(f"{file} has no metadata between two lines `---` at its beginning.")
    return card


def _model(folder: Path, files: dict[str, Path | bytes], card: RepoCard) -> Publication:
    """Its code is all there, and its weights and processor load, by the package's code."""
    named = identity("model", files, lambda name: (folder / name).read_bytes())
    if named != "a model of the type 'selfmm'":
        raise PublicationError(f"{folder / 'config.json'} is none of Self-MM: it tells of {named or 'no model'}.")
    _check_code(folder, files)
    try:
        _, report = SelfMMModel.from_pretrained(folder, output_loading_info=True)
        SelfMMProcessor.from_pretrained(folder)
    except Exception as error:  # a damaged file raises anything
        raise PublicationError(f"{folder} does not load: {error}") from error
    if wrong := [*report["missing_keys"], *report["unexpected_keys"], *report["mismatched_keys"]]:
        raise PublicationError(f"{folder}: the weights are not those of config.json, as {wrong[0]} shows.")
    if not card.data.to_dict().get("license"):
        raise PublicationError(f"{folder / 'README.md'} names no `license`.")
    return Publication("model", named, files, OWNED["model"])


def _check_code(folder: Path, files: Collection[str]) -> None:
    """Every module that a configuration names is there, with all that it imports, and is Python."""
    named: dict[str, str] = {}
    for name in [name for name in files if "/" not in name and name.endswith("config.json")]:
        try:
            options = json.loads((folder / name).read_text("utf-8"))
        except ValueError as error:
            raise PublicationError(f"{folder / name} is no JSON: {error}") from error
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
    for module, config in named.items():
        file = folder / f"{module}.py"
        try:
            for path in [file, *map(Path, get_relative_import_files(file))]:
                ast.parse(path.read_text("utf-8"))
        except OSError as error:
            missing = Path(error.filename or file).name
            raise PublicationError(f"{folder} lacks {missing}, which the code that {config} names needs.") from error
        except (SyntaxError, ValueError) as error:
            raise PublicationError(f"{folder}: the code that {config} names is damaged: {error}") from error


def _dataset(folder: Path, files: dict[str, Path | bytes], card: RepoCard) -> Publication:
    """Its files are those that were made, and the card tells `load_dataset` of them."""
    try:
        facts = origins(folder)
    except DataError as error:
        raise PublicationError(str(error)) from error
    told = {
        path
        for config in card.data.to_dict().get("configs") or []
        for split in config["data_files"]
        for path in ([split["path"]] if isinstance(split["path"], str) else split["path"])
    }
    made = {f"{one['config']}/{name}": sha256 for one in facts for name, sha256 in one["files"].items()}
    for name, sha256 in made.items():
        if not (folder / name).is_file() or checksums(folder / name)["sha256"] != sha256:
            raise PublicationError(f"{folder / name} is not the file that was made: prepare {folder} again.")
    if told != made.keys():
        raise PublicationError(
            f"{folder / 'README.md'} does not name the files that are there: prepare {folder} again."
        )
    builder = BUILDERS.get(facts[0]["dataset"])
    owned = (*OWNED["dataset"], *(f"{one['config']}/*" for one in facts))
    research = builder.TITLE if builder is not None and builder.CITATION else None
    return Publication("dataset", f"the data set {facts[0]['dataset']!r}", files, owned, research)


def _space(folder: Path, files: dict[str, Path | bytes], card: RepoCard, model: str | None) -> Publication:
    """It has what the Hub starts it with, and in the copy that is sent the name of its model."""
    data = card.data.to_dict()
    if data["sdk"] != "gradio" or not data.get("title"):
        raise PublicationError(f"{folder / 'README.md'} must say `sdk: gradio` and have a `title`.")
    script = data.get("app_file", "app.py")
    for name in (script, "requirements.txt"):
        if name not in files:
            raise PublicationError(f"{folder} lacks {name}, which a Space needs.")
    for name in [name for name in files if name.endswith(".py")]:
        try:
            ast.parse((folder / name).read_text("utf-8"))
        except (SyntaxError, ValueError) as error:
            raise PublicationError(f"{folder / name} is damaged: {error}") from error
    sent = dict(files)
    holders = {name: (folder / name).read_bytes() for name in (script, "README.md")}
    holders = {name: content for name, content in holders.items() if PLACEHOLDER.encode() in content}
    if model is None and holders:
        raise PublicationError(
            f"{folder} shows {PLACEHOLDER}, which is nobody's: name its model by --model NAME/MODEL."
        )
    if model is not None and not holders:
        raise PublicationError(f"--model: nothing in {folder} names {PLACEHOLDER}, which it would replace.")
    for name, content in holders.items():
        sent[name] = content.replace(PLACEHOLDER.encode(), str(model).encode())
    metric = "evaluate" in (data.get("tags") or [])
    return Publication("space", f"the Space {data['title']!r}", sent, OWNED["space"], metric=metric)
