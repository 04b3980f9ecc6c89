"""Reads pickles of plain data without ever running code from them.

To unpickle means to call what the file names. So no pickle machine is used: `_unpickle` interprets the few opcodes
that dicts, lists, text, numbers and arrays need, and calls nothing but `_GLOBALS`. Arrays and dtypes are stand-ins
until dtype, shape and bytes were found to agree. The file is mapped, not read: an array is a view of its bytes in the
file, so a file larger than the memory opens at once, and what is never looked at is never read. Values are then taken
by [`Source.copy`], which reads the file: a file that is cut off meanwhile gives an error, where its map would give
SIGBUS.
"""

import math
import mmap
import os
import pickletools
import re
import sys
import weakref
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "DataError", "OldText", "Source", "load_pickle", "read_array", "read_bytes"]

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


class Source(mmap.mmap):
    """The map of a file, and the file: views are made of the map, and what they show is read from the file."""

    @classmethod
    def of(cls, path: Path) -> "Source":
        file = path.open("rb")
        try:
            source = cls(file.fileno(), 0, access=mmap.ACCESS_READ)
        except BaseException:
            file.close()
            raise
        source.file, source.path = file, path
        source.address = np.frombuffer(source, np.uint8).ctypes.data
        weakref.finalize(source, file.close)
        return source

    def copy(self, view: NDArray) -> NDArray:
        """
        What `view`, an array over the map, shows; another array as it is.

        Raises:
            DataError: The file has become shorter since it was opened.
        """
        start = view.ctypes.data - self.address
        if not view.size or not 0 <= start < len(self):
            return view
        if not view.flags.c_contiguous:  # scattered over the file, as no published file has it
            if os.fstat(self.file.fileno()).st_size < len(self):
                raise self._shorter()
            return view.copy()
        values, here = np.empty(view.shape, view.dtype), self.file.tell()
        self.file.seek(start)
        size = self.file.readinto(values.reshape(-1).view(np.uint8))
        self.file.seek(here)
        if size != values.nbytes:
            raise self._shorter()
        return values

    def _shorter(self) -> DataError:
        return DataError(f"{self.path}: the file has become shorter while it was read; read it when it is whole")


class OldText:
    """A `str` of Python 2, which may be text, or the bytes of an array."""

    def __init__(self, data: bytes | memoryview):
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    @cached_property
    def text(self) -> str:
        content = read_bytes(self.data)
        try:
            return content.decode()
        except UnicodeDecodeError:
            return content.decode("latin1")


def read_array(array: NDArray) -> NDArray:
    """The values of an array, by [`Source.copy`] where it is a view of a file."""
    base = array
    while isinstance(base, np.ndarray):
        base = base.base
    return base.copy(array) if isinstance(base, Source) else array


def read_bytes(data: bytes | memoryview) -> bytes:
    """The content of a byte string, likewise."""
    return read_array(np.frombuffer(data, np.uint8)).tobytes()


def _as_text(value: Any) -> Any:
    return value.text if type(value) is OldText else value


class _Dtype:
    """Stands for a numpy dtype: booleans, integers, floats, text, bytes; `value` is None for objects."""

    def __init__(self, code: str | OldText, align: bool = False, copy: bool = False):
        code = _as_text(code)
        if not re.fullmatch(r"b1|[iu][1248]|f[248]|[US]\d{1,9}|O8?", code):
            raise DataError(f"the pickle has an array of dtype {code!r:.40}; save plain numbers or text")
        self.value = None if code[0] == "O" else np.dtype(code)

    def build(self, state: tuple[Any, ...]) -> None:
        version, order, *structure = state[:5]
        if len(state) != 8 or version != 3 or structure != [None] * 3:
            raise DataError("the pickle has a structured or annotated dtype; save plain numbers or text")
        self.value = None if self.value is None else self.value.newbyteorder(_as_text(order))


class Array:
    """
    Stands for a numpy array; `value` is None before it is built, and for Python objects other than text. `objects` are
    those of an array of Python objects, in one list, and `shape` is its shape.
    """

    value: NDArray | list[str] | None = None
    objects: list[Any] | None = None
    shape: tuple[int, ...] = ()

    def build(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        if dtype.value is None and type(data) is list and _is_shape(shape) and math.prod(shape) == len(data):
            texts = shape == (len(data),) and all(type(one) is str for one in data)
            self.value, self.objects, self.shape = data if texts else None, data, shape
            return
        self.value = _array(data, dtype, shape, "F" if fortran else "C")


def _is_shape(shape: Any) -> bool:
    return type(shape) is tuple and len(shape) < 9 and all(type(n) is int and 0 <= n < 2**40 for n in shape)


def _array(data: bytes | memoryview | OldText, dtype: _Dtype, shape: tuple[int, ...], order: str) -> NDArray | None:
    if dtype.value is None:
        return None
    data = data.data if type(data) is OldText else data
    sizes = _is_shape(shape)
    endless = bool(shape) and not dtype.value.itemsize  # only a scalar may be an empty text
    if not sizes or endless or math.prod(shape) * dtype.value.itemsize != len(data):
        raise DataError("the pickle has an array whose shape does not fit its bytes")
    if dtype.value.kind == "U" or shape == ():  # looked at now
        data = read_bytes(data)
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
_OLD_TEXT = {"SHORT_BINSTRING": 1, "BINSTRING": 4}  # of Python 2, whose last protocol is 2
# They name classes whose code would run.
_CLASSES = {"INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4"}
# What people save beside plain data, by its global: harmless by that, and not read.
_OTHER_DATA = {
    **{f"collections {name}": f"a {name}" for name in ("OrderedDict", "defaultdict", "Counter", "deque")},
    **{f"{module} {name}": f"a {name}" for module in ("builtins", "__builtin__") for name in ("set", "frozenset")},
    **{f"torch._utils {name}": "a torch tensor" for name in ("_rebuild_tensor", "_rebuild_tensor_v2")},
    "pandas.core.frame DataFrame": "a pandas DataFrame",
    "pandas.core.series Series": "a pandas Series",
    "datetime datetime": "a date",
}
READ = "only dicts, lists, text, numbers and numpy arrays are read; save it as those"
# Arguments that end with the line, of protocol 0: refused, so not even decoded.
_LINES = {one.name for one in pickletools.opcodes if one.arg and one.arg.n == pickletools.UP_TO_NEWLINE} - {"GLOBAL"}
_TAKES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "APPEND": 1, "SETITEM": 2, "STACK_GLOBAL": 2, "REDUCE": 2}
_TAKES |= {"BUILD": 2, "STOP": 1}


def load_pickle(path: Path) -> tuple[Any, Source]:
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
        source = Source.of(path)
        begin = source.file.read(32)
        if not re.match(rb"\x80[\x02-\x05]", begin):
            start = begin.lstrip()
            known = next((f": {name}" for magic, name in OTHER_FILES.items() if start.startswith(magic)), "")
            if re.match(rb"[(\]})]", start):
                known = ": perhaps one of protocol 0 or 1, as Python 2 saves by default"
                known += "; where you trust it, load it with encoding='latin1' and save it with protocol=4"
            raise DataError(f"not a pickle of protocol 2 to 5, it starts with {start[:8]!r}{known}")
        source.file.seek(0)
        return _unpickle(source), source
    except DataError as error:
        raise DataError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None
    except OSError as error:
        raise DataError(f"{path}: the file cannot be read ({error.strerror})") from error
    except Exception as error:  # whatever a broken or hostile file can break
        reason = f"{type(error).__name__} {str(error)!r:.120}"
        raise DataError(f"{path}: the pickle is damaged or cut off, download it again ({reason})") from error


def _opcodes(source: Source) -> Iterator[tuple[str, Any]]:
    """Names and arguments, as by `pickletools.genops`, but byte strings, which hold the arrays, are not copied."""
    content, file, old = memoryview(source), source.file, False
    for _ in range(MOST_OPCODES):
        code = file.read(1)
        opcode = pickletools.code2op.get(code.decode("latin1"))
        if opcode is None:
            raise ValueError(f"byte {file.tell() - len(code)} is {code!r}" if code else "it ends before its end")
        sizes = _OLD_TEXT if old and opcode.name in _OLD_TEXT else _BYTES
        if opcode.name in sizes:
            size = int.from_bytes(file.read(sizes[opcode.name]), "little")
            start = file.tell()
            if start + size > len(source):
                raise ValueError(f"{size} bytes announced, {len(source) - start} left")
            file.seek(size, os.SEEK_CUR)
            data = content[start : start + size]
            yield opcode.name, OldText(data) if sizes is _OLD_TEXT else data
        else:
            known = opcode.arg is not None and opcode.name not in _LINES
            argument = opcode.arg.reader(file) if known else None
            if opcode.name == "PROTO":
                old = argument == 2
            yield opcode.name, argument
    raise DataError(f"the pickle has more than {MOST_OPCODES:,} values; no feature file needs so many")


def _unpickle(source: Source) -> Any:
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
            case _ if name in _LITERALS or type(argument) is OldText:
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
                stack[-1].extend(map(_as_text, items))
            case "SETITEM" | "SETITEMS" if type(stack[-1]) is dict:
                items = [*map(_as_text, items)]
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
                if spelt in _OTHER_DATA:
                    raise DataError(f"the pickle holds {_OTHER_DATA[spelt]}, and {READ}")
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
            case _ if name in _CLASSES:
                raise DataError(
                    f"the pickle uses {name}, which makes objects of classes; it could run code, do not open it"
                )
            case _:
                raise DataError(f"the pickle uses {name} in a way that no feature file does: {READ}")
        if given > 2 * len(source):  # protocol 2 gives bytes twice: to `_encode`, and to what they are for
            raise DataError("the pickle expands to more than its own size")


def _size(arguments: tuple[Any, ...]) -> int:
    """What a call could read: a file that passes one long text again and again would take for ever."""
    return sum(len(one) for one in arguments if isinstance(one, str | bytes | memoryview | list | OldText))
