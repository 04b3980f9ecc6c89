"""Reads feature files in the MMSA layout (MOSI, MOSEI, SIMS as published) without running code from them.

The files are pickles, and to unpickle means to call what the file names. So no pickle machine is used:
`_unpickle` interprets the few opcodes that dicts, lists, text, numbers and arrays need, and calls nothing but
`_GLOBALS`. Arrays and dtypes are stand-ins until dtype, shape and bytes were found to agree.
"""

import logging
import math
import mmap
import pickletools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

__all__ = ["DataError", "read_mmsa"]

logger = logging.getLogger(__name__)

SPLITS = {"train": "train", "validation": "valid", "test": "test"}  # ours: the file's
UNIMODAL = {"text": "regression_labels_T", "audio": "regression_labels_A", "vision": "regression_labels_V"}


class DataError(ValueError):
    """A data file that cannot be used, in one sentence with file and, where known, split, column and row."""


def read_mmsa(path: str | Path) -> dict[str, list[dict[str, Any]]]:
    """Read one MMSA feature file.

    Args:
        path: a pickle (protocol 2 to 5) of the splits `train`, `valid`, `test`, each a dict of columns: `id`,
            `raw_text`, `audio` and `vision` (rows, frames, dim), `regression_labels`, and where the file has
            them `text_bert` (rows, 3, tokens), `text` (rows, frames, dim), `audio_lengths`, `vision_lengths`,
            `text_lengths`, `regression_labels_T/A/V`. Other columns are ignored.

    Returns:
        The samples of `train`, `validation` and `test`, each a dict of

        - `id`, `raw_text`: str;
        - `audio`, `vision`: float32 `(frames, dim)`, own memory, no padding; `(0, dim)` where the modality is
          absent. In a file without lengths (aligned) there is one frame per token of `text_bert`;
        - `label`: float, the sentiment, in the range of the dataset;
        - `input_ids`: list of int, the real tokens of `text_bert`, [CLS] and [SEP] included, may be empty;
        - `text`, only where the file has no `text_bert`: float32 word vectors `(frames, dim)`, cut by
          `text_lengths`, or by the audio lengths if both have the same number of steps, or whole;
        - `unimodal_labels`, where the file has them (SIMS): float for `text`, `audio` and `vision`.

        NaN and infinite frame values become 0, which a logging warning reports.

    Raises:
        DataError: the file is missing, damaged, hostile, or not in this layout.
    """
    path = Path(path)
    data = _load(path)
    for split in SPLITS.values():
        if type(data) is not dict or type(data.get(split)) is not dict:
            raise DataError(f"{path}: split {split!r} is missing; expected a dict of train, valid and test")
    with_bert = any("text_bert" in data[split] for split in SPLITS.values())
    widths: dict[str, int] = {}
    return {name: _Split(path, split, data.pop(split), widths).samples(with_bert) for name, split in SPLITS.items()}


class _Split:
    """The columns of one split; each error names both. `widths` is shared by the splits of a file."""

    def __init__(self, path: Path, name: str, columns: dict[str, Any], widths: dict[str, int]):
        self.path, self.name, self.columns, self.widths = path, name, columns, widths
        self.ids: list[str] = []
        self.ids = self.strings("id")
        seen: set[str] = set()
        for row, sample in enumerate(self.ids):
            if sample in seen:
                self.fail("id", "the same id occurs twice; ids must differ within a split", row)
            seen.add(sample)

    def fail(self, column: str, problem: str, row: int | None = None) -> NoReturn:
        where = "" if row is None else f", row {row}"
        if where and self.ids:
            where += f" (id {self.ids[row]!r:.80})"
        raise DataError(f"{self.path}, split {self.name!r}, column {column!r}{where}: {problem}")

    def samples(self, with_bert: bool) -> list[dict[str, Any]]:
        columns: dict[str, Sequence[Any]] = {"id": self.ids, "raw_text": self.strings("raw_text")}
        tokens = self.tokens() if with_bert else None
        audio_lengths = self.lengths("audio", tokens)
        columns["audio"] = self.frames("audio", audio_lengths)
        columns["vision"] = self.frames("vision", self.lengths("vision", tokens))
        if tokens is not None:
            columns["input_ids"] = tokens
        elif "text_lengths" in self.columns:
            columns["text"] = self.frames("text", self.lengths("text"))
        else:
            steps = self.array("text").shape[1]
            aligned = steps == self.array("audio").shape[1]
            columns["text"] = self.frames("text", audio_lengths if aligned else [steps] * len(self.ids))
        if "regression_labels" not in self.columns and "classification_labels" in self.columns:
            self.fail("regression_labels", "missing, and classification_labels do not give a sentiment score")
        columns["label"] = self.numbers("regression_labels")
        if any(column in self.columns for column in UNIMODAL.values()):
            labels = zip(*map(self.numbers, UNIMODAL.values()), strict=True)
            columns["unimodal_labels"] = [dict(zip(UNIMODAL, row, strict=True)) for row in labels]
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def column(self, name: str) -> list[Any] | NDArray:
        if name not in self.columns:
            self.fail(name, "missing; an MMSA feature file has this column in each split")
        values = self.columns[name]
        if isinstance(values, _Array):
            values = values.value
            if values is None:
                self.fail(name, "an array of Python objects, which is never read; save plain numbers or text")
        if type(values) is not list and not (isinstance(values, np.ndarray) and values.ndim):
            self.fail(name, "expected a list or an array with one entry per sample")
        if name != "id" and len(values) != len(self.ids):
            self.fail(name, f"has {len(values)} rows, but column 'id' has {len(self.ids)}")
        return values

    def flat(self, name: str, kinds: tuple[type, ...], expected: str) -> list[Any]:
        """One plain value per row."""
        values = self.column(name)
        if isinstance(values, np.ndarray):
            if values.shape not in ((len(values),), (len(values), 1)):
                self.fail(name, f"expected one value per sample, got an array of shape {values.shape}")
            values = values.reshape(-1).tolist()
        for row, value in enumerate(values):
            if type(value) not in kinds:
                self.fail(name, f"expected {expected}, got {type(value).__name__}", row)
        return values

    def strings(self, name: str) -> list[str]:
        return self.flat(name, (str,), "text")

    def numbers(self, name: str) -> list[float]:
        values = self.flat(name, (int, float, bool), "a number")
        for row, value in enumerate(values):
            if not abs(value) < 3e38:
                self.fail(name, "expected a finite number, got NaN, infinity or one beyond float32", row)
        return [float(value) for value in values]

    def array(self, name: str) -> NDArray:
        values = self.column(name)
        if not isinstance(values, np.ndarray) or values.ndim != 3 or values.dtype.kind not in "biuf":
            got = f"{values.dtype} {values.shape}" if isinstance(values, np.ndarray) else "a list"
            self.fail(name, f"expected an array of numbers of shape (rows, steps, width), got {got}")
        return values

    def lengths(self, modality: str, tokens: list[list[int]] | None = None) -> list[int]:
        """Real frames per row: the file's own column; where there is none, the number of tokens."""
        column, steps = f"{modality}_lengths", self.array(modality).shape[1]
        if column not in self.columns and tokens is not None:
            column, lengths = "text_bert", [float(len(row)) for row in tokens]
        else:
            lengths = self.numbers(column)
        for row, length in enumerate(lengths):
            if not 0 <= length <= steps or not length.is_integer():
                self.fail(column, f"{modality} length {length:g} is not a whole number in 0..{steps}", row)
        return [int(length) for length in lengths]

    def frames(self, name: str, lengths: Sequence[int]) -> list[NDArray[np.float32]]:
        """The rows cut to their lengths; copies, so that the padded array, mostly zeros, can be freed."""
        array = self.array(name)
        width = self.widths.setdefault(name, array.shape[2])
        if not 0 < width == array.shape[2]:
            self.fail(name, f"{array.shape[2]} values wide, expected {width or 'at least one'} in each split")
        rows, replaced = [], 0
        for row, length in zip(array, lengths, strict=True):
            with np.errstate(over="ignore"):  # beyond float32 becomes inf, which the next lines count
                frames = row[:length].astype(np.float32, order="C")
            wrong = ~np.isfinite(frames)
            frames[wrong] = 0
            replaced += int(wrong.sum())
            rows.append(frames)
        if replaced:
            message = "%s, split %r, column %r: %d values that are NaN or infinite were set to 0"
            logger.warning(message, self.path, self.name, name, replaced)
        return rows

    def tokens(self) -> list[list[int]]:
        """The token ids of `text_bert` (per row: ids, attention mask, token types) under its mask."""
        array = self.array("text_bert")
        if array.shape[1] != 3:
            self.fail("text_bert", f"expected shape (rows, 3, tokens): ids, mask, types; got {array.shape}")
        ids, mask = array[:, 0].astype(np.float64), array[:, 1].astype(np.float64)
        usable = (ids >= 0) & (ids < 2**31) & (ids == np.floor(ids))
        mixed = ~np.isin(mask, (0, 1)).all(1) | (np.diff(mask, axis=1) > 0).any(1)
        for wrong, problem in (
            (mixed, "the attention mask must be ones, then zeros"),
            (((mask == 1) & ~usable).any(1), "token ids must be whole numbers from 0 on"),
        ):
            if wrong.any():
                self.fail("text_bert", problem, int(wrong.argmax()))
        return [row[:n].astype(int).tolist() for row, n in zip(ids, mask.sum(1).astype(int), strict=True)]


class _Dtype:
    """Stands for a numpy dtype: booleans, integers, floats, text, bytes; `value` is None for objects."""

    def __init__(self, code: str, *_: bool):
        if not re.fullmatch(r"b1|[iu][1248]|f[248]|[US][1-9]\d{0,8}|O8?", code):
            raise DataError(f"the pickle has an array of dtype {code!r:.40}; save plain numbers or text")
        self.value = None if code[0] == "O" else np.dtype(code)

    def build(self, state: tuple[Any, ...]) -> None:
        version, order, *structure = state[:5]
        if len(state) != 8 or version != 3 or structure != [None] * 3:
            raise DataError("the pickle has a structured or annotated dtype; save plain numbers or text")
        self.value = None if self.value is None else self.value.newbyteorder(order)


class _Array:
    """Stands for a numpy array; `value` is None before it is built, and for Python objects."""

    value: NDArray | None = None

    def build(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        self.value = _array(data, dtype, shape, "F" if fortran else "C")


def _array(data: bytes | bytearray, dtype: _Dtype, shape: tuple[int, ...], order: str) -> NDArray | None:
    if dtype.value is None:
        return None
    sizes = type(shape) is tuple and len(shape) < 9 and all(type(n) is int and 0 <= n < 2**40 for n in shape)
    if not sizes or math.prod(shape) * dtype.value.itemsize != len(data):
        raise DataError("the pickle has an array whose shape does not fit its bytes")
    return np.ndarray(shape, dtype.value, data, order="F" if order == "F" else "C")


def _reconstruct(kind: type, shape: tuple[int], _: bytes) -> _Array:
    if kind is not _Array or shape != (0,):
        raise DataError("the pickle makes an array in another way than numpy does")
    return _Array()


def _frombuffer(data: bytes, dtype: _Dtype, shape: tuple, order: str, axes: tuple | None = None) -> _Array:
    array = _Array()
    value = _array(data, dtype, shape, order)
    array.value = value if axes is None or value is None else value.transpose(axes)
    return array


def _scalar(dtype: _Dtype, data: bytes) -> Any:
    value = _array(data, dtype, (), "C")
    if value is None:
        raise DataError("the pickle has a numpy scalar that is a Python object; save plain numbers or text")
    return value.item()


def _encode(text: str, encoding: str) -> bytes:  # how protocol 2 spells bytes
    if encoding != "latin1":
        raise DataError("the pickle encodes text in another way than numpy does")
    return text.encode("latin1")


_GLOBALS: dict[str, Callable[..., Any]] = {
    **{"numpy dtype": _Dtype, "numpy ndarray": _Array, "_codecs encode": _encode},
    **{f"numpy.{core}.multiarray _reconstruct": _reconstruct for core in ("core", "_core")},  # numpy 1 and 2
    **{f"numpy.{core}.multiarray scalar": _scalar for core in ("core", "_core")},
    **{f"numpy.{core}.numeric _frombuffer": _frombuffer for core in ("core", "_core")},
}
_LITERALS = re.compile(r"BININT[12]?|LONG[14]|BINFLOAT|(SHORT_)?BIN(UNICODE|BYTES)|(BINUNICODE|BINBYTES|BYTEARRAY)8")
_TAKES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "APPEND": 1, "SETITEM": 2, "STACK_GLOBAL": 2, "REDUCE": 2}
_TAKES |= {"BUILD": 2, "STOP": 1}


def _load(path: Path) -> Any:
    """What the pickle at `path` holds, with `_Array` for arrays; DataError for whatever goes wrong."""
    if not path.is_file():
        problem = "not a file" if path.exists() else "no such file"
        raise DataError(f"{path}: {problem}; give the path of an MMSA feature file (.pkl)")
    if not path.stat().st_size:
        raise DataError(f"{path}: the file is empty; download it again")
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as source:
            if not re.match(rb"\x80[\x02-\x05]", source[:2]):
                raise DataError(f"not a pickle of protocol 2 to 5: it starts with {source[:8]!r}")
            return _unpickle(source)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except OSError as error:
        raise DataError(f"{path}: the file cannot be read ({error.strerror})") from error
    except Exception as error:  # whatever a broken or hostile file can break
        reason = f"{type(error).__name__} {str(error)!r:.120}"
        raise DataError(f"{path}: the pickle is damaged or cut off, download it again ({reason})") from error


def _unpickle(source: mmap.mmap) -> Any:
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    made = 0  # characters and bytes that calls returned
    for opcode, argument, _ in pickletools.genops(source):
        name = opcode.name
        count = len(stack) - marks.pop() if name in ("TUPLE", "APPENDS", "SETITEMS") else _TAKES.get(name, 0)
        if not 0 <= count <= len(stack):
            raise DataError("the pickle is damaged: it takes more values than it has")
        split = len(stack) - count
        items, stack[split:] = stack[split:], []
        match name:
            case "PROTO" | "FRAME":
                pass
            case "MARK":
                marks.append(len(stack))
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(name == "NEWTRUE")
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_TUPLE" | "TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(items))
            case "APPEND" | "APPENDS" if type(stack[-1]) is list:
                stack[-1].extend(items)
            case "SETITEM" | "SETITEMS" if type(stack[-1]) is dict:
                if any(type(key) is not str for key in items[::2]):  # a nested key could exhaust the hash
                    raise DataError("the pickle has a dict whose keys are not text, unlike the MMSA layout")
                stack[-1].update(zip(items[::2], items[1::2], strict=True))
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "GLOBAL" | "STACK_GLOBAL":
                spelt = argument if name == "GLOBAL" else " ".join(items)
                if spelt not in _GLOBALS:
                    asked = repr(spelt.replace(" ", "."))[:80]
                    raise DataError(f"the pickle asks for {asked}, which could run code; do not open it")
                stack.append(_GLOBALS[spelt])
            case "REDUCE" if callable(items[0]):  # only GLOBAL gives callables
                stack.append(items[0](*items[1]))
                made += len(stack[-1]) if isinstance(stack[-1], str | bytes) else 0
                if made > len(source):  # one long text, called with again and again
                    raise DataError("the pickle expands to more than its own size")
            case "BUILD" if isinstance(items[0], _Array | _Dtype):
                items[0].build(items[1])
                stack.append(items[0])
            case "STOP":
                return items[0]
            case _ if _LITERALS.fullmatch(name):
                stack.append(argument)
            case _:
                raise DataError(f"the pickle uses {name} in a way that no feature file needs; do not open it")
