"""The recipe by which the features of a data set were computed, if it tells."""

from pathlib import Path

from huggingface_hub import _CACHED_NO_EXIST, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from transformers.utils import FEATURE_EXTRACTOR_NAME

from ..model.feature_extraction_selfmm import SelfMMFeatureExtractor
from .safe_pickle import DataError

RECIPE_FILE = FEATURE_EXTRACTOR_NAME  # as in a model's repository


def find_recipe(dataset: str, data: str | None = None, revision: str | None = None) -> SelfMMFeatureExtractor | None:
    """
    Loads the extractor that computed the features of a data set.

    Args:
        dataset, data, revision: As [`load_splits`] takes them.

    Returns:
        The extractor, without normalisation; `None` where the features come from another program.

    Raises:
        DataError: There is a recipe, but it cannot be read.
    """
    if dataset == "demo":
        return SelfMMFeatureExtractor()
    file = recipe_file(data, revision)
    if file is None:
        return None
    try:
        extractor = SelfMMFeatureExtractor.from_json_file(str(file))
    except (ValueError, TypeError, OSError) as error:
        raise DataError(f"{data}: its recipe, {RECIPE_FILE}, cannot be read: {error}") from error
    extractor.normalization = {}
    return extractor


def recipe_file(data: str | None, revision: str | None = None) -> Path | None:
    """Where the recipe is, if there is one, in a folder or a repository on the Hub."""
    if data is None or Path(data).exists():
        file = Path(data or "") / RECIPE_FILE
        return file if data and file.is_file() else None
    try:
        return Path(hf_hub_download(data, RECIPE_FILE, repo_type="dataset", revision=revision))
    except LocalEntryNotFoundError as error:
        if try_to_load_from_cache(data, RECIPE_FILE, revision=revision, repo_type="dataset") is _CACHED_NO_EXIST:
            return None
        raise DataError(f"Without a network, nothing can tell whether {data} has a recipe: {error}") from error
    except EntryNotFoundError:
        return None


def read_recipe(folder: str | Path | None) -> bytes | None:
    """The recipe of the features in a folder, as it stands there; `None` where there is none."""
    file = folder and recipe_file(str(folder))
    return file.read_bytes() if file else None
