"""The table of the clips in a folder of one's own."""

import csv
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from ..folds import fold_splits, folds_of, read_fold
from ..safe_pickle import DataError
from .files import check_parquet, check_size

TABLES = ("table.csv", "table.parquet")
REQUIRED = ["id", "label", "split"]
OPTIONAL = ["text", "video", "position", "subject", "fold"]
SPLITS = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation"}
SPLITS |= {"dev": "validation", "test": "test"}  # as the table names them: ours


def find_table(folder: Path) -> Path:
    found = [name for name in TABLES if (folder / name).is_file()]
    if len(found) != 1:
        problem = "has both; leave one of them out" if found else "has neither; one of them lists the clips"
        raise DataError(f"{folder}: expected table.csv or table.parquet; the folder {problem}")
    return folder / found[0]


def read_table(
    path: Path, required: Sequence[str] = REQUIRED, optional: Sequence[str] = OPTIONAL, folds: bool = False
) -> dict[str, list[Any]]:
    """
    The columns that are known, and all labels, by name; the cells of a CSV file are text. `text` is blank where there
    is none, and instead of `label` there may be several, `label:NAME`.

    Args:
        folds: Whether the user may name a fold instead of a column `split`.
    """
    try:
        if path.suffix == ".csv":
            size = path.stat().st_size
            check_size(size)
            with path.open(encoding="utf-8-sig", newline="") as file:
                names = next(csv.reader(file), [])
            known = _known(names, required, optional)
            table = pa.csv.read_csv(
                path,
                pa.csv.ReadOptions(use_threads=False, block_size=size + 1),  # a text with newlines ends no block
                pa.csv.ParseOptions(newlines_in_values=True),
                pa.csv.ConvertOptions(column_types=dict.fromkeys(known, pa.string()), strings_can_be_null=False),
            )
        else:
            schema = pq.read_schema(path)
            names = list(schema.names)
            known = _known(names, required, optional)
            taken = [name for name in names if name in known]
            texts = [name for name in taken if names.count(name) == 1 and schema.field(name).type == pa.string()]
            with pq.ParquetFile(path, read_dictionary=texts) as file:
                check_parquet(file, len(taken))
                table = file.read(columns=taken, use_threads=False)
            table.validate(full=True)
            check_size(sum(_text_bytes(chunk) for column in table.columns for chunk in column.chunks))
        columns = {name: table[name].to_pylist() for name in known if names.count(name) == 1}
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected text in UTF-8, got another encoding; save it as UTF-8") from error
    except Exception as error:  # whatever a broken or hostile file can break
        reason = f"{type(error).__name__} {str(error)!r:.120}"
        raise DataError(f"{path}: the table is damaged, or not UTF-8 with commas ({reason})") from error
    if twice := [name for name in known if names.count(name) > 1]:
        raise DataError(f"{path}: column {twice[0]!r} is there twice; leave one of them out")
    several = any(name.startswith("label:") for name in columns)
    if missing := [name for name in required if name not in columns and not (several and name == "label")]:
        there = ", ".join(map(repr, names))
        fold = folds and missing[0] == "split" and {"subject", "fold"} & set(columns)
        advice = "; or name a fold across subjects, --data_config fold1of5" if fold else ""
        expected = f"expected {', '.join(required)}, got {there:.200}"
        raise DataError(f"{path}: column {missing[0]!r} is missing; {expected}{advice}")
    texts = columns.get("text", [None] * len(columns["id"]))
    return columns | {"text": ["" if text is None else text for text in texts]}


def read_splits(path: Path, config: str | None = None) -> dict[str, list[Any]]:
    """
    The columns of a table, with the split of each clip as it says, or as the fold that `config` names; see
    [`fold_splits`]. `fold` and `subject` are columns: whose clips they are, and, if need be, in which fold.

    Raises:
        DataError: As [`read_table`] and [`check_splits`]; or a subject is missing, or in two folds.
    """
    try:
        wanted = read_fold(config)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    if wanted is None:
        if config not in (None, "default"):
            raise DataError(f"{path}: there is no configuration {config!r:.40}; expected a fold such as fold1of5")
        columns = read_table(path, folds=True)
        check_splits(path, columns)
        return columns
    columns = read_table(path, ["id", "label", "subject"])
    subjects = [str(one).strip() if one is not None else "" for one in columns["subject"]]
    if "" in subjects:
        row = subjects.index("")
        where = f"{path}, column 'subject', row {row} (id {columns['id'][row]!r:.80})"
        raise DataError(f"{where}: expected the person in the clip, got nothing")
    try:
        folds = _given_folds(columns, subjects, wanted[1]) if "fold" in columns else folds_of(subjects, wanted[1])
        columns["split"] = fold_splits(subjects, folds, wanted[0])
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    check_splits(path, columns)
    return columns


def _given_folds(columns: dict[str, list[Any]], subjects: list[str], count: int) -> list[int]:
    """The number of the fold of each clip, in the order of their names."""
    names = [str(one).strip() if one is not None else "" for one in columns["fold"]]
    known = sorted(set(names), key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name))
    if "" in known or len(known) != count:
        raise DataError(f"column 'fold' has {len(known)} folds, {', '.join(map(repr, known)):.80}; expected {count}")
    fold_of: dict[str, str] = {}
    for row, (subject, name) in enumerate(zip(subjects, names, strict=True)):
        if (first := fold_of.setdefault(subject, name)) != name:
            where = f"column 'fold', row {row} (id {columns['id'][row]!r:.80})"
            raise DataError(f"{where}: the subject {subject!r:.40} is in the folds {first} and {name}; put it in one")
    return [known.index(name) + 1 for name in names]


def _known(names: Sequence[str], required: Sequence[str], optional: Sequence[str]) -> list[str]:
    """What is read of a table with these columns."""
    labels = [name for name in dict.fromkeys(names) if name.startswith(("label:", "label_"))]
    return [*dict.fromkeys([*required, *optional, *labels])]


def _text_bytes(chunk: pa.Array) -> int:
    """Of a column that may repeat a long text by number, once it is written out."""
    if not pa.types.is_dictionary(chunk.type) or not len(chunk):
        return chunk.nbytes
    return pc.sum(pc.binary_length(chunk.dictionary).take(chunk.indices)).as_py() or 0


def check_splits(path: Path, columns: dict[str, list[Any]]) -> None:
    """Ids and splits; the rest is checked split by split."""
    seen: dict[str, int] = {}
    for row, (clip, split) in enumerate(zip(columns["id"], columns["split"], strict=True)):
        where = f"{path}, column 'id', row {row} (id {clip!r:.80})"
        if type(clip) is not str or not clip:
            raise DataError(f"{where}: expected text that is not empty, got {type(clip).__name__}")
        if not stays_within(clip):
            raise DataError(f"{where}: names files outside the folder; leave out '..' and a leading '/'")
        if clip in seen:
            raise DataError(f"{where}: row {seen[clip]} has the same id; ids must differ")
        seen[clip] = row
        if type(split) is not str or split not in SPLITS:
            where = where.replace("column 'id'", "column 'split'", 1)
            raise DataError(f"{where}: expected one of {', '.join(SPLITS)}, got {split!r:.40}")


def stays_within(name: str) -> bool:
    """Whether a relative path stays within its folder, by its spelling."""
    path = PureWindowsPath(name)  # knows both kinds of slashes
    return bool(path.parts) and not (path.root or Path(name).anchor) and ".." not in path.parts and "\0" not in name
