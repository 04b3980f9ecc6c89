"""
Finds the Parquet files of a folder or a repository. `origin.json` lists them; without it, their names decide. The
card does not count, because a card may name files anywhere.
"""

import glob
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from datasets import DatasetDict, load_dataset
from huggingface_hub import snapshot_download
from pyarrow.dataset import ParquetFragmentScanOptions

from ..model.task_selfmm import Task
from ..storage.hub_names import take_from_hub
from .columns import SPLITS
from .custom.table import SPLITS as SPLIT_NAMES
from .folds import FOLD
from .safe_pickle import DataError
from .targets import score, task_from_json

ORIGIN_FILE = "origin.json"
ORIGIN_TYPES = {
    "dataset": str, "config": str, "source": str, "sha256": str, "published": bool, "not_finite": str,
    "label_range": int | float | None, "rows": dict, "widths": dict, "notices": list, "files": dict,
}  # fmt: skip
MOST_BYTES = 2**20  # of an `origin.json`
CONFIG = re.compile(r"[\w-][\w.-]*")
FILE = re.compile(rf"({'|'.join(SPLITS)})-[\w-][\w.-]*\.parquet")
SHA256 = re.compile(r"[0-9a-f]{64}")
# Parquet's row groups one after the other: `datasets` would hold hundreds of MB of those to come.
ONE_BY_ONE = ParquetFragmentScanOptions(pre_buffer=False)


class Prepared(NamedTuple):
    """
    One configuration of a data set in Parquet files.

    Args:
        data: Its folder or repository, as it was named.
        origin: What its `origin.json` says; `None` where there is none.
        files: By split, in order; they lie on this machine.
    """

    data: str
    origin: dict[str, Any] | None
    files: dict[str, list[Path]]

    @property
    def task(self) -> Task | None:
        """What the labels are; `None` where nothing says it."""
        return self.origin and task_of_origin(self.origin)

    def load(self) -> DatasetDict:
        """
        The splits, with whatever columns the files have.

        Raises:
            DataError: They cannot be read.
        """
        files = {split: [glob.escape(str(file.absolute())) for file in files] for split, files in self.files.items()}
        try:
            return load_dataset("parquet", data_files=files, fragment_scan_options=ONE_BY_ONE)
        except Exception as error:  # whatever somebody's file can break in `datasets`
            raise _unreadable(self.data, error) from error


def find_prepared(data: str, config: str | None = None, revision: str | None = None) -> Prepared:
    """
    The Parquet files of a folder, or of a repository, from which nothing else is fetched.

    Args:
        data: A folder that `selfmm data prepare` has made, or anybody's with Parquet files that begin with the name of
            their split, in it or in one folder for each configuration; or a repository of such files.
        config: Which configuration; nothing where there is one, or a prepared folder has the usual one.
        revision: Of the repository.

    Raises:
        DataError: There are none, or an `origin.json` is damaged.
    """
    if not on_hub(take_from_hub, data, "the data set", revision):
        return _find(Path(data), data, config)
    try:
        # The other file is in each repository: a pattern that nothing matches is warned of.
        wanted = [f"*/{ORIGIN_FILE}", ".gitattributes"]
        found = snapshot_download(data, repo_type="dataset", revision=revision, allow_patterns=wanted)
        origin = _of_config(data, config, read_origins(Path(found)))
        wanted = [f"{origin['config']}/{name}" for name in origin["files"]] if origin else _patterns(config)
        # The folder has the name of the commit.
        found = snapshot_download(data, repo_type="dataset", revision=Path(found).name, allow_patterns=wanted)
    except DataError:
        raise
    except Exception as error:  # of the network, the Hub or the cache
        raise _unreadable(data, error) from error
    return _find(Path(found), data, config)


def on_hub(check: Callable, data: str, *arguments: Any) -> Any:
    """What `check`, of [`hub_names`], says of a name; its errors are [`DataError`]."""
    try:
        return check(data, *arguments, here="file or folder")
    except ValueError as error:
        raise DataError(str(error)) from None


def origins(folder: Path) -> list[dict[str, Any]]:
    """
    Where the configurations in a prepared folder come from, the usual one first; none if it is no such folder.

    Raises:
        DataError: An `origin.json` is damaged.
    """
    return read_origins(folder) if (folder / "README.md").exists() else []


def read_origins(folder: Path) -> list[dict[str, Any]]:
    """As [`origins`], whether or not the folder has a card."""
    return [_origin(file.parent) for file in sorted(folder.glob(f"*/{ORIGIN_FILE}"), reverse=True)]


def task_of_origin(origin: dict[str, Any]) -> Task:
    """What the labels are, by an `origin.json`; the older ones have only a range."""
    return task_from_json(origin["task"]) if "task" in origin else score(origin["label_range"])


def split_files(origin: dict[str, Any], split: str) -> list[str]:
    """The names of its Parquet files, in order."""
    return sorted(name for name in origin["files"] if name.startswith(f"{split}-"))


def _find(folder: Path, data: str, config: str | None) -> Prepared:
    origin = _of_config(data, config, read_origins(folder))
    if origin is None:
        return Prepared(data, None, _by_names(folder, data, config))
    files = {split: [folder / origin["config"] / name for name in split_files(origin, split)] for split in SPLITS}
    if missing := next((file for one in files.values() for file in one if not file.is_file()), None):
        raise DataError(f"{data} has no {origin['config']}/{missing.name} any more; prepare the data set again.")
    return Prepared(data, origin, {split: one for split, one in files.items() if one})


def _of_config(data: str, config: str | None, facts: list[dict[str, Any]]) -> dict[str, Any] | None:
    """
    The origin of this configuration, by default of the last by name: `unaligned` rather than `aligned`; never of one of
    several folds.
    """
    found = [one for one in facts if config in (None, one["config"])]
    names = ", ".join(one["config"] for one in facts)
    if facts and not found:
        raise DataError(f"{data} has no configuration {config}, but {names}.")
    if len(found) > 1:
        found = [one for one in found if not FOLD.fullmatch(one["config"])]
        if not found:
            raise DataError(f"{data} has the configurations {names}: name one by --data_config.")
    return found[0] if found else None


def _patterns(config: str | None) -> list[str]:
    below = "*/" if config is None else f"{glob.escape(config)}/"
    return [f"{folder}{split}*.parquet" for folder in ("", below) for split in SPLIT_NAMES]


def _by_names(folder: Path, data: str, config: str | None) -> dict[str, list[Path]]:
    """The Parquet files of a folder without an origin, by split."""
    found: dict[str, dict[str, list[Path]]] = {}
    below = [file for file in folder.glob("*/*.parquet") if not file.parent.name.startswith(".")]  # half written
    for file in sorted([*folder.glob("*.parquet"), *below]):
        if split := SPLIT_NAMES.get(re.match("[a-z]*", file.name)[0]):
            name = "" if file.parent == folder else file.parent.name
            found.setdefault(name, {one: [] for one in SPLITS})[split].append(file)
    if not found:
        raise _unreadable(data, f"no Parquet file in it begins with the name of a split ({', '.join(SPLITS)})")
    if config is None and len(found) == 1:
        (config,) = found
    if config not in found:
        names = ", ".join(map(repr, found))
        raise DataError(
            f"{data} has no configuration {config or 'of its own'}, but {names}: name one by --data_config."
        )
    return {split: files for split, files in found[config].items() if files}


def _origin(folder: Path) -> dict[str, Any]:
    file = folder / ORIGIN_FILE
    try:
        if file.stat().st_size > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES:,} bytes")
        origin = json.loads(file.read_text(encoding="utf-8"))
        if fault := _fault(origin, folder.name):
            raise ValueError(fault)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file} is damaged ({error}); delete {folder} and prepare it again.") from error
    return origin


def _fault(origin: Any, config: str) -> str | None:
    """What an `origin.json` cannot be, as `selfmm data prepare` has not written it."""
    if not isinstance(origin, dict):
        return f"expected a map, got {type(origin).__name__}"
    if odd := next((key for key, kind in ORIGIN_TYPES.items() if not isinstance(origin.get(key), kind)), None):
        return f"{odd!r}: expected {getattr(ORIGIN_TYPES[odd], '__name__', 'a number')}, got {origin.get(odd)!r:.40}"
    if origin["config"] != config or not CONFIG.fullmatch(config):
        return f"'config': expected the name of its folder, got {origin['config']!r:.40}"
    if "task" not in origin and origin["label_range"] is None:
        return "'task': expected problem_type, names and scales, got nothing"
    try:
        task_of_origin(origin)
    except ValueError as error:
        return f"'task': {error}"
    for name, sha256 in origin["files"].items():  # no path is made of any other name
        if not FILE.fullmatch(name) or not isinstance(sha256, str) or not SHA256.fullmatch(sha256):
            return f"'files': expected SPLIT-....parquet and its SHA-256, got {name!r:.99}: {sha256!r:.70}"
    splits = {FILE.fullmatch(name)[1] for name in origin["files"]}
    if splits != origin["rows"].keys() or not all(type(count) is int for count in origin["rows"].values()):
        return f"'rows': expected the number of clips of {', '.join(splits)}, got {origin['rows']!r:.99}"
    return None


def _unreadable(data: str, reason: BaseException | str) -> DataError:
    what = "a folder of `selfmm data prepare`" if Path(data).is_dir() else "a file, a folder or a repository"
    if isinstance(reason, BaseException):
        reason = " ".join(str(reason.__cause__ or reason).split())
    return DataError(f"{data} cannot be loaded as {what}: {reason:.400}")
