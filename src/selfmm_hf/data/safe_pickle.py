"""Reads pickles of plain data without ever running code from them.

To unpickle means to call what the file names. So no pickle machine is used: `_unpickle` interprets the few opcodes
that dicts, lists, text, numbers and arrays need, and calls nothing but `_GLOBALS`. Arrays and dtypes are stand-ins
until dtype, shape and bytes were found to agree. The file is mapped, not read: an array is a view of its bytes in the
file, so a file larger than the memory opens at once, and what is never looked at is never read.
"""

import math
import mmap
import pickletools
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "DataError", "load_pickle"]

# MOSI has 7 for each clip: room for a million clips, and an end to files that are nothing but opcodes, whose objects
# take up to a hundred times their size.
MOST_OPCODES = 10_000_000
LONGEST_KEY = 1000
# What people download instead of a feature file, by its first bytes.
OTHER_FILES = {
    b"PK\x03\x04": "a zip archive (or a file of torch.save); unpack it and give the .pkl inside",
    b"\x1f\x8b": "a gzip archive; unpack it and give the .pkl inside",
    b"BZh": "a bzip2 archive; unpack it and give the .pkl inside",
    b"\xfd7zXZ": "an xz archive; unpack it and give the .pkl inside",
    b"7z\xbc\xaf": "a 7z archive; unpack it and give the .pkl inside",
    b"Rar!": "a rar archive; unpack it and give the .pkl inside",
    b"\x89HDF": "an HDF5 file, perhaps a .csd of the CMU SDK; give the MMSA feature file (.pkl)",
    b"version https://git-lfs": "a git-lfs pointer, not the file it stands for; fetch that with `git lfs pull`",
    b"<": "a web page, perhaps the warning of a download site; download the file itself",
}


class DataError(ValueError):
    """A data file that cannot be used, in one sentence with file and, where known, split, column and row."""


class _Dtype:
    """Stands for a numpy dtype: booleans, integers, floats, text, bytes; `value` is None for objects."""

    def __init__(self, code: str, align: bool = False, copy: bool = False):
        if not re.fullmatch(r"b1|[iu][1248]|f[248]|[US]\d{1,9}|O8?", code):
            raise DataError(f"the pickle has an array of dtype {code!r:.40}; save plain numbers or text")
        self.value = None if code[0] == "O" else np.dtype(code)

    def build(self, state: tuple[Any, ...]) -> None:
        version, order, *structure = state[:5]
        if len(state) != 8 or version != 3 or structure != [None] * 3:
            raise DataError("the pickle has a structured or annotated dtype; save plain numbers or text")
        self.value = None if self.value is None else self.value.newbyteorder(order)


class Array:
    """Stands for a numpy array; `value` is None before it is built, and for Python objects other than text."""

    value: NDArray | list[str] | None = None

    def build(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        if dtype.value is None and type(data) is list and shape == (len(data),):
            self.value = data if all(type(one) is str for one in data) else None
            return
        self.value = _array(data, dtype, shape, "F" if fortran else "C")


def _array(data: bytes | memoryview, dtype: _Dtype, shape: tuple[int, ...], order: str) -> NDArray | None:
    if dtype.value is None:
        return None
    sizes = type(shape) is tuple and len(shape) < 9 and all(type(n) is int and 0 <= n < 2**40 for n in shape)
    endless = bool(shape) and not dtype.value.itemsize  # only a scalar may be an empty text
    if not sizes or endless or math.prod(shape) * dtype.value.itemsize != len(data):
        raise DataError("the pickle has an array whose shape does not fit its bytes")
    if dtype.value.kind == "U":  # numpy makes text of any number, and Python a broken one
        codes = np.frombuffer(data, np.dtype("u4").newbyteorder(dtype.value.byteorder)) if len(data) else np.zeros(1)
        if codes.max() > sys.maxunicode:
            raise DataError("the pickle has an array of text with numbers that are no characters")
    return np.ndarray(shape, dtype.value, data, order="F" if order == "F" else "C")


def _reconstruct(kind: type, shape: tuple[int], _: memoryview | bytes) -> Array:
    if kind is not Array or shape != (0,):
        raise DataError("the pickle makes an array in another way than numpy does")
    return Array()


def _frombuffer(data: memoryview, dtype: _Dtype, shape: tuple, order: str, axes: tuple | None = None) -> Array:
    array = Array()
    value = _array(data, dtype, shape, order)
    array.value = value if axes is None or value is None else value.transpose(axes)
    return array


def _scalar(dtype: _Dtype, data: memoryview | bytes) -> Any:
    value = _array(data, dtype, (), "C")
    if value is None:
        raise DataError("the pickle has a numpy scalar that is a Python object; save plain numbers or text")
    return value.item()


def _encode(text: str, encoding: str) -> bytes:  # how protocol 2 spells bytes
    if encoding != "latin1":
        raise DataError("the pickle encodes text in another way than numpy does")
    return text.encode("latin1")


_GLOBALS: dict[str, Callable[..., Any]] = {
    **{"numpy dtype": _Dtype, "numpy ndarray": Array, "_codecs encode": _encode},
    "__builtin__ bytes": lambda: b"",  # how protocol 2 spells them if there are none
    **{f"numpy.{core}.multiarray _reconstruct": _reconstruct for core in ("core", "_core")},  # numpy 1 and 2
    **{f"numpy.{core}.multiarray scalar": _scalar for core in ("core", "_core")},
    **{f"numpy.{core}.numeric _frombuffer": _frombuffer for core in ("core", "_core")},
}
_LITERALS = {"BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "SHORT_BINUNICODE", "BINUNICODE"}
_LITERALS |= {"BINUNICODE8", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"}
# Opcodes of byte strings, with the bytes of their sizes.
_BYTES = {"SHORT_BINBYTES": 1, "BINBYTES": 4, "BINBYTES8": 8, "BYTEARRAY8": 8}
# Arguments that end with the line, of protocol 0: refused, so not even decoded.
_LINES = {one.name for one in pickletools.opcodes if one.arg and one.arg.n == pickletools.UP_TO_NEWLINE} - {"GLOBAL"}
_TAKES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "APPEND": 1, "SETITEM": 2, "STACK_GLOBAL": 2, "REDUCE": 2}
_TAKES |= {"BUILD": 2, "STOP": 1}


def load_pickle(path: Path) -> tuple[Any, mmap.mmap]:
    """
    What the pickle at `path` holds, with `Array` for arrays, and the map of the file that the arrays are views of.

    Raises:
        DataError: The file is missing, no pickle, damaged, or asks for anything but plain data.
    """
    if not path.is_file():
        problem = "not a file" if path.exists() else "no such file"
        raise DataError(f"{path}: {problem}; give the path of an MMSA feature file (.pkl)")
    if not path.stat().st_size:
        raise DataError(f"{path}: the file is empty; download it again")
    try:
        with path.open("rb") as file:
            source = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if not re.match(rb"\x80[\x02-\x05]", source[:2]):
            start = source[:32].lstrip()
            known = next((f": {name}" for magic, name in OTHER_FILES.items() if start.startswith(magic)), "")
            raise DataError(f"not a pickle of protocol 2 to 5, it starts with {start[:8]!r}{known}")
        return _unpickle(source), source
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except OSError as error:
        raise DataError(f"{path}: the file cannot be read ({error.strerror})") from error
    except Exception as error:  # whatever a broken or hostile file can break
        reason = f"{type(error).__name__} {str(error)!r:.120}"
        raise DataError(f"{path}: the pickle is damaged or cut off, download it again ({reason})") from error


def _opcodes(source: mmap.mmap) -> Iterator[tuple[str, Any]]:
    """Names and arguments, as by `pickletools.genops`, but byte strings, which hold the arrays, are not copied."""
    content = memoryview(source)
    for _ in range(MOST_OPCODES):
        code = source.read(1)
        opcode = pickletools.code2op.get(code.decode("latin1"))
        if opcode is None:
            raise ValueError(f"byte {source.tell() - len(code)} is {code!r}" if code else "it ends before its end")
        if opcode.name in _BYTES:
            size = int.from_bytes(source.read(_BYTES[opcode.name]), "little")
            start = source.tell()
            if start + size > len(source):
                raise ValueError(f"{size} bytes announced, {len(source) - start} left")
            source.seek(size, 1)
            yield opcode.name, content[start : start + size]
        else:
            known = opcode.arg is not None and opcode.name not in _LINES
            yield opcode.name, opcode.arg.reader(source) if known else None
    raise DataError(f"the pickle has more than {MOST_OPCODES:,} values; no feature file needs so many")


def _unpickle(source: mmap.mmap) -> Any:
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    given = 0  # characters, bytes and entries of lists that calls were given
    for name, argument in _opcodes(source):
        count = len(stack) - marks.pop() if name in ("TUPLE", "APPENDS", "SETITEMS") else _TAKES.get(name, 0)
        if not 0 <= count <= len(stack):
            raise DataError("the pickle is damaged: it takes more values than it has")
        split = len(stack) - count
        items, stack[split:] = stack[split:], []
        match name:
            case _ if name in _LITERALS:
                stack.append(argument)
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
                # The hash of a nested key could exhaust the stack, and to compare long ones takes long.
                if any(type(key) is not str or len(key) > LONGEST_KEY for key in items[::2]):
                    raise DataError("the pickle has a dict whose keys are not names, unlike the MMSA layout")
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
            case "REDUCE" if callable(items[0]) and type(items[1]) is tuple:  # only GLOBAL gives callables
                given += _size(items[1])
                stack.append(items[0](*items[1]))
            case "BUILD" if isinstance(items[0], Array | _Dtype) and type(items[1]) is tuple:
                given += _size(items[1])
                items[0].build(items[1])
                stack.append(items[0])
            case "STOP":
                return items[0]
            case _:
                raise DataError(f"the pickle uses {name} in a way that no feature file needs; do not open it")
        if given > 2 * len(source):  # protocol 2 gives bytes twice: to `_encode`, and to what they are for
            raise DataError("the pickle expands to more than its own size")


def _size(arguments: tuple[Any, ...]) -> int:
    """What a call could read: a file that passes one long text again and again would take for ever."""
    return sum(len(one) for one in arguments if isinstance(one, str | bytes | memoryview | list))
