"""From a feature file to a Parquet folder that `load_dataset` reads and the Hub takes as it is."""

import glob
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from datasets import DatasetInfo
from datasets.info import DatasetInfosDict
from huggingface_hub import DatasetCard, DatasetCardData

from ..resources import CONFIGS
from ..storage.scrub import scrub
from ..storage.whole_files import beside, move
from ..version import __version__
from .builder import FeatureBuilder
from .card import CardError, read_card
from .folds import FOLD
from .prepared import ORIGIN_FILE, origins, read_origins, split_files
from .recipe import RECIPE_FILE, read_recipe
from .research import research_use_of
from .safe_pickle import DataError
from .targets import SENTIMENT, SENTIMENTS, describe, task_to_json

CARD = CONFIGS / "cards" / "dataset.md"


def prepare(builder: FeatureBuilder, folder: Path, overwrite: bool = False) -> None:
    """
    Writes one configuration of a data set into `folder`: Parquet files by split, and the card with the metadata by
    which `load_dataset(folder, configuration)` finds them. Other configurations in the folder stay. Everything is
    written beside the folder and moved there when it is whole.

    Args:
        builder: Of the data set and its file.
        folder: A new one, or one that this function has made.
        overwrite: Whether to replace the configuration if it is there.

    Raises:
        DataError: The data are wrong, or the folder holds something else.
        CannotWrite: The disk is full, or another process is preparing the folder.
    """
    folder, config = folder.absolute(), builder.config.name
    existing = origins(folder) if folder.exists() else []
    if folder.exists() and not existing and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} is not a data set of `selfmm data prepare`; name a new folder.")
    if other := next((one for one in existing if one["dataset"] != builder.name), None):
        raise DataError(f"{folder} holds {other['dataset']}, not {builder.name}; name a new folder.")
    if any(one["config"] == config for one in existing) and not overwrite:
        raise DataError(f"{folder} holds the configuration {config} already: name another folder, or --overwrite.")
    if folder.name != glob.escape(folder.name):
        raise DataError(f"{folder}: the name has *, ? or [, which `datasets` reads as a pattern; choose another name.")
    if inside := next((parent for parent in folder.parents if origins(parent)), None):
        raise DataError(f"{folder} is inside the data set in {inside}; name a folder elsewhere.")
    recipe, others = read_recipe(builder.config.data_dir), [one for one in existing if one["config"] != config]
    if others and recipe != read_recipe(folder):
        raise DataError(f"{folder} holds features of another recipe, or of none; name a new folder.")
    with beside(folder) as part:
        staging = part / folder.name
        staging.mkdir()
        made = staging / config
        builder.download_and_prepare(output_dir=str(made), file_format="parquet")
        for lock in staging.glob("*.lock"):
            lock.unlink()
        _write_origin(builder, made)
        infos = {one["config"]: DatasetInfo.from_directory(str(folder / one["config"])) for one in others}
        infos[config] = DatasetInfo.from_directory(str(made))
        facts = sorted([*others, *read_origins(staging)], key=lambda one: one["config"], reverse=True)
        _card(builder, facts, infos).save(staging / "README.md")
        if recipe is not None:
            (staging / RECIPE_FILE).write_bytes(recipe)
        if not folder.exists():
            move(staging, folder)
            return
        move(made, folder / config)
        if recipe is None:
            (folder / RECIPE_FILE).unlink(missing_ok=True)
        else:
            move(staging / RECIPE_FILE, folder / RECIPE_FILE)
        move(staging / "README.md", folder / "README.md")


def _write_origin(builder: FeatureBuilder, folder: Path) -> None:
    """Names the files as the Hub does, and notes what they were made of and their checksums."""
    info = DatasetInfo.from_directory(str(folder))
    checksums = {}
    for split in info.splits:
        files = sorted(folder.glob(f"{builder.dataset_name}-{split}*.parquet"))
        for number, file in enumerate(files):
            with file.open("rb") as content:
                checksum = hashlib.file_digest(content, "sha256").hexdigest()
            # By the names of its files `load_dataset` knows a folder again: other content needs another name.
            name = f"{split}-{number:05d}-of-{len(files):05d}-{checksum[:16]}.parquet"
            checksums[file.rename(folder / name).name] = checksum
    info.download_checksums = None  # with the path of the source on this machine
    info.write_to_directory(str(folder))
    source, sha256, published, research = builder.origin
    place = Path(builder.file()).parent
    if builder.CITATION:
        research = builder.TITLE
    elif research is None:
        research = research_use_of({split: sorted(folder.glob(f"{split}-*")) for split in info.splits})
    origin = {
        "dataset": builder.name,
        "config": builder.config.name,
        "source": source,
        "sha256": sha256,
        "published": published,
        "research": research,
        "not_finite": builder.config.not_finite,
        "label_range": builder.label_range,
        "task": task_to_json(builder.task),
        "selfmm_hf": __version__,
        "rows": {split: info.splits[split].num_examples for split in info.splits},
        "widths": {name: kind.shape[1] for name, kind in info.features.items() if hasattr(kind, "shape")},
        "notices": [
            scrub(notice.replace(f"{place}{os.sep}", "").replace(str(place), source)) for notice in builder.notices
        ],
        "files": checksums,
    }
    (folder / ORIGIN_FILE).write_text(json.dumps(origin, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def card_configs(facts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """
    What the card says of the files, for `load_dataset`. Of several configurations, it takes the usual one where none is
    named, but never a fold.
    """
    usual = next((one["config"] for one in facts if not FOLD.fullmatch(one["config"])), None)
    return [
        {
            "config_name": one["config"],
            "data_files": [
                {"split": split, "path": [f"{one['config']}/{name}" for name in split_files(one, split)]}
                for split in one["rows"]
            ],
            **({"default": True} if one["config"] == usual and len(facts) > 1 else {}),
        }
        for one in facts
    ]


def card_fault(folder: Path, facts: list[dict[str, Any]]) -> str | None:
    """Says what is wrong with the card of a prepared folder, by which others load it; `None` if nothing is."""
    try:
        configs = read_card(folder / "README.md").get("configs")
    except CardError as error:
        return str(error)
    if configs != card_configs(facts):
        return f"{folder / 'README.md'} does not name the files that were made, alone: prepare {folder} again"
    return None


def _card(builder: FeatureBuilder, facts: list[dict[str, Any]], infos: dict[str, DatasetInfo]) -> DatasetCard:
    research = next((one["research"] for one in facts if one.get("research")), None)
    of_sentiment = builder.task.names in ((SENTIMENT,), SENTIMENTS)
    data = DatasetCardData(
        pretty_name=builder.TITLE,
        language=builder.LANGUAGE,
        license="other" if research else None,
        license_name="research-use" if research else None,
        tags=[
            "sentiment-analysis" if of_sentiment else "emotion-recognition",
            "multimodal",
            "multimodal-sentiment-analysis",
            "self-mm",
        ],
        configs=card_configs(facts),
    )
    DatasetInfosDict(infos).to_dataset_card_data(data)
    terms = f"see {builder.HOMEPAGE}" if builder.HOMEPAGE else "ask its authors"
    return DatasetCard.from_template(
        data,
        template_path=str(CARD),
        title=builder.TITLE,
        about=builder.ABOUT,
        version=__version__,
        origins=facts,
        widths=sorted({name for one in facts for name in one["widths"]}),
        label=describe(builder.task),
        range_option=f" --label_range {builder.label_range:g}" if builder.label_range and not builder.CITATION else "",
        citation=builder.CITATION,
        licence=f"{research} is for research use: {terms} before passing it on."
        if research
        else "State here on what terms the data may be used.",
    )
