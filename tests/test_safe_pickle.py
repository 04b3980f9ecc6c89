"""Pickles as data: what is read from them, and that nothing in a file is ever run, or can exhaust the machine."""

import builtins
import codecs
import gc
import operator
import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from selfmm_hf.data import safe_pickle
from selfmm_hf.data.safe_pickle import Array, DataError, load_pickle

PROTOCOLS = [2, 3, 4, 5]


def write(path: Path, data: object, protocol: int = 4) -> Path:
    path.write_bytes(data if isinstance(data, bytes) else pickle.dumps(data, protocol))
    return path


def numpy_1_spelling(data: bytes) -> bytes:
    """Protocol 2 spells globals as lines, so the two names can be swapped without breaking lengths."""
    data = data.replace(b"cnumpy._core.", b"cnumpy.core.")  # nothing to swap where numpy is 1
    assert b"cnumpy.core.multiarray\n" in data
    return data


# ---- a guard: what the reader is never to do

DANGEROUS = {"os.system", "os.exec", "os.posix_spawn", "os.fork", "os.remove", "os.rename", "os.mkdir", "os.putenv"}
DANGEROUS |= {"subprocess.Popen", "exec", "compile", "import", "pickle.find_class", "marshal.loads", "ctypes.dlopen"}
DANGEROUS |= {"socket.connect", "socket.getaddrinfo", "urllib.Request", "builtins.input"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_guard: dict[str, list | None] = {"seen": None}


class Dangerous(BaseException):
    """Unlike an Exception, not for the reader to catch."""


def _audit(event: str, arguments: tuple) -> None:
    seen = _guard["seen"]
    if seen is None or not (event in DANGEROUS or (event == "open" and _writes(*arguments))):
        return
    seen.append((event, str(arguments[:1])[:100]))
    raise Dangerous(event)


def _writes(path: object, mode: str | None, flags: int) -> bool:
    return bool(set(mode or "r") & set("wax+") or flags & WRITING)


sys.addaudithook(_audit)  # for ever: hooks cannot be removed


@contextmanager
def guarded() -> Iterator[None]:
    """Fails where code is run, modules are imported or files are written meanwhile, even if somebody hides it."""
    seen = _guard["seen"] = []
    try:
        yield
    except Dangerous:
        pass
    finally:
        _guard["seen"] = None
    assert not seen, f"the reader did {seen}"


class Call:
    """Pickles as a call of `function`, which is what a hostile file is made of."""

    def __init__(self, function, *arguments, state=None):
        self.value = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.value


@pytest.mark.parametrize(
    "deed",
    [
        Call(os.system, "true"),
        Call(eval, "1"),
        Call(exec, "1"),
        Call(compile, "1", "", "eval"),
        Call(__import__, "antigravity"),
        Call(subprocess.Popen, ["true"]),
        Call(open, "made_by_a_test", "w"),
        Call(os.open, "made_by_a_test", os.O_CREAT),
        Call(os.remove, "made_by_a_test"),
        Call(pickle.loads, pickle.dumps(os.system)),
    ],
    ids=lambda deed: deed.value[0].__name__,
)
def test_the_guard_sees_what_a_plain_unpickler_does(deed):
    data = pickle.dumps(deed)
    with pytest.raises(AssertionError, match="the reader did"), guarded():
        pickle.loads(data)
    with pytest.raises(AssertionError, match="the reader did"), guarded(), suppress(BaseException):
        pickle.loads(data)  # to hide it does not help
    assert not Path("made_by_a_test").exists()


def test_the_guard_lets_reading_pass(tmp_path):
    path = write(tmp_path / "data.pkl", [1])
    with guarded():
        assert load_pickle(path)[0] == [1]
    with guarded(), pytest.raises(DataError):
        load_pickle(tmp_path / "absent.pkl")


# ---- what is read


def plain(value: object) -> object:
    """With arrays in the place of `Array`."""
    if isinstance(value, Array):
        return value.value
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list) else value


def load(path: Path) -> object:
    with guarded():
        return plain(load_pickle(path)[0])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_plain_values(tmp_path, protocol):
    values = [None, True, False, 0, -1, 255, 65536, -(2**31), 2**70, -(2**2100), 1.5, float("inf"), "", "ä\ud800🎬"]
    values += ["x" * 300, (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [], [[1], [2, [3]]], {}, {"a": {"b": [1]}}]
    if protocol > 2:  # protocol 2 has no bytes, it calls for them
        values += [b"", b"ab", b"x" * 300]
    found = load(write(tmp_path / "plain.pkl", values, protocol))
    assert [bytes(one) if isinstance(one, memoryview) else one for one in found] == values


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "array",
    [
        *(np.arange(6).astype(kind).reshape(2, 3) for kind in ("b1", "i1", "u2", "i4", "u8", "f2", "f4", "f8")),
        np.arange(6, dtype=">f8").reshape(2, 3),
        np.arange(3, dtype=">u2"),
        np.asfortranarray(np.arange(24.0).reshape(2, 3, 4)),
        np.arange(24, dtype=">i4").reshape(2, 3, 4).transpose(1, 2, 0),
        np.arange(24.0)[::2],
        np.array(["a", "äöü", "🎬"]),
        np.array(["a", "äöü"]).astype(">U3"),
        np.array(["\U0010ffff" * 5]),
        np.array(["\U0010ffff\uffff"]).astype(">U3"),
        np.array([b"a", b"bcd"]),
        np.zeros((0, 3), np.float32),
        np.zeros((3, 0, 2)),
        np.array(1.5),
    ],
    ids=lambda array: f"{array.dtype.str}{array.shape}",
)
def test_arrays(tmp_path, array, protocol):
    found = load(write(tmp_path / "array.pkl", [array, array.copy()], protocol))
    for one in found:
        np.testing.assert_array_equal(one, array, strict=True)
        assert one.dtype == array.dtype and not one.flags.owndata


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_scalars(tmp_path, protocol):
    kinds = (np.float32, np.int64, np.bool_, np.str_, np.bytes_, np.uint8, np.float16)
    values = [kind(number) for kind in kinds for number in range(2)] + [np.str_("ä🎬"), np.str_(""), np.bytes_()]
    found = load(write(tmp_path / "scalars.pkl", values, protocol))
    assert found == [value.item() for value in values]
    assert [type(one) for one in found] == [type(value.item()) for value in values]


def test_numpy_1_spelling(tmp_path):
    array = np.arange(3.0)
    found = load(write(tmp_path / "old.pkl", numpy_1_spelling(pickle.dumps([array, np.float64(2)], 2))))
    np.testing.assert_array_equal(found[0], array)
    assert found[1] == 2.0


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_arrays_of_objects_hold_text_or_nothing(tmp_path, protocol):
    arrays = [["a", "b"], ["a", None], [["a", "b"]], []]
    found = load(write(tmp_path / "objects.pkl", [np.array(one, dtype=object) for one in arrays], protocol))
    assert found == [["a", "b"], None, None, []]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_as_many_small_calls_as_a_real_file_may_make(tmp_path, protocol):
    """What is counted against files that pass one text again and again must not hit these."""
    text = np.array([f"{row} äöü" for row in range(300)])
    values = [list(text), list(np.arange(300.0)), list(np.arange(300) % 2 == 0), text, text.astype(object)]
    values += [np.zeros(1), np.zeros(1, np.int8), [np.str_("same")] * 300]
    found = load(write(tmp_path / "scalars.pkl", values, protocol))
    assert found[0] == found[3].tolist() == found[4] == text.tolist()


# ---- a view of the file, not a copy


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_arrays_are_views_of_the_file(tmp_path, protocol):
    array = np.arange(1000.0)
    data, source = load_pickle(write(tmp_path / "data.pkl", {"a": array, "b": np.asfortranarray(array)}, protocol))
    file = np.frombuffer(source, np.uint8)
    for one in data.values():
        assert np.shares_memory(one.value, file) and not one.value.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            one.value[0] = 1


def resident() -> int:
    """Bytes of memory that this process has now."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("needs /proc")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


SPOT = b"the bytes of an array"


def spot(shape: tuple[int, ...], code: str = "f4") -> Call:
    """Pickles as an array of this shape, whose bytes are for `write_sparse` to make."""
    return array_of(1, shape, dtype(code), False, SPOT)


def write_sparse(path: Path, data: object, size: int) -> Path:
    """The pickle of `data` with `size` zeros in each [`spot`], which take no room on the disk."""
    parts = pickle.dumps(data, 4).split(b"C" + bytes([len(SPOT)]) + SPOT)
    assert len(parts) > 1
    with path.open("wb") as file:
        for number, part in enumerate(parts):
            if number:
                file.write(b"\x8e" + struct.pack("<Q", size))
                file.seek(size, os.SEEK_CUR)
            file.write(part)
    if path.stat().st_blocks * 512 > 2**20 + size // 10:
        pytest.skip("needs a file system with sparse files")
    return path


def test_a_file_larger_than_the_memory_opens_without_being_read(tmp_path):
    rows, size = 4000, 4000 * 1000 * 250 * 4  # 4 GB
    path = write_sparse(tmp_path / "large.pkl", [spot((rows, 1000, 250)), "end"], size)
    gc.collect()
    before = resident()
    (array, end), source = load_pickle(path)
    assert len(source) > 2**31 and end == "end"
    assert array.value.shape == (rows, 1000, 250) and array.value.nbytes == size
    assert resident() - before < 64 * 2**20
    assert not array.value[-5:].any()  # 5 MB
    assert resident() - before < 128 * 2**20


# ---- what is refused


def refused(path: Path, match: str | None = None) -> None:
    with pytest.raises(DataError, match=match) as caught, guarded():
        load_pickle(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message and len(message) < 600


@pytest.mark.parametrize(
    ("start", "named"),
    [
        (b"PK\x03\x04rest", "a zip archive .*torch.save"),
        (b"\x1f\x8brest", "a gzip archive"),
        (b"BZh91AY", "a bzip2 archive"),
        (b"\xfd7zXZ\x00", "an xz archive"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
        (b"Rar!\x1a\x07", "a rar archive"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!DOCTYPE html>\n<html>", "a web page"),
        (b"\n  <html>\n<body>", "a web page"),
    ],
)
def test_other_files_are_named(tmp_path, start, named):
    refused(write(tmp_path / "data.pkl", start), rf"not a pickle of protocol 2 to 5, it starts with .*: .*{named}")


def test_files_that_are_no_pickles(tmp_path):
    refused(tmp_path / "absent.pkl", "no such file")
    refused(tmp_path, "not a file")
    refused(write(tmp_path / "empty.pkl", b""), "empty")
    refused(write(tmp_path / "old.pkl", [1], 0), r"not a pickle of protocol 2 to 5, it starts with b'\(lp0")
    refused(write(tmp_path / "old.pkl", [1], 1), "not a pickle of protocol 2 to 5")
    refused(write(tmp_path / "new.pkl", b"\x80\x06N."), "not a pickle of protocol 2 to 5")
    refused(write(tmp_path / "one.pkl", b"\x80"), "not a pickle")
    refused(write(tmp_path / "text.pkl", "Größe".encode("latin1")), "not a pickle")


def test_a_file_that_cannot_be_opened(tmp_path, monkeypatch):
    path = write(tmp_path / "data.pkl", [1])
    monkeypatch.setattr(Path, "open", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    refused(path, r"cannot be read \(Permission denied\)")


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_every_truncation_is_an_error(tmp_path, protocol):
    data = pickle.dumps({"a": [np.arange(30.0), "text", 1.5, None, (1, 2), np.float32(1), np.array(["ä"])]}, protocol)
    for end in range(1, len(data), 3):
        refused(write(tmp_path / "cut.pkl", data[:end]))


# ---- hostile files: each would create the marker, or exhaust the machine, in a plain `pickle.load`


def dtype(code: str, *state: object) -> Call:
    return Call(np.dtype, code, False, True, state=state or (3, "<", None, None, None, -1, -1, 0))


RECONSTRUCT = np.zeros(0).__reduce__()[0]
SCALAR = np.float64(0).__reduce__()[0]
FROMBUFFER = np.zeros(1).__reduce_ex__(5)[0]


def array_of(*state: object) -> Call:
    return Call(RECONSTRUCT, np.ndarray, (0,), b"b", state=state)


class Stateful:
    """A class of this module whose state is a weapon, for BUILD."""

    def __setstate__(self, state):
        os.system(state)

    def __reduce__(self):
        return Stateful, (), "touch marker"


def hostile_objects(marker: str) -> dict[str, object]:
    command = f"touch {marker}"
    code = f"open({marker!r}, 'w').close()"
    loads = pickle.dumps(Call(os.system, command))
    payload = Call(os.system, command)
    structured = np.zeros(2, [("a", "f4"), ("b", "O")])
    structured["b"] = payload
    return {
        "os.system": payload,
        "popen": Call(subprocess.Popen, ["touch", marker]),
        "eval": Call(eval, code),
        "exec": Call(exec, code),
        "getattr": Call(getattr, Call(__import__, "os"), "system"),
        "import": Call(__import__, "antigravity"),
        "open": Call(builtins.open, marker, "w"),
        "loads": Call(pickle.loads, loads),
        "bytes of a pickle, unpickled": Call(pickle.Unpickler.load, Call(pickle.Unpickler, loads)),
        "methodcaller": Call(operator.methodcaller, "system", command),
        "setstate": Stateful(),
        "np.load": Call(np.load, marker, None, True),
        "np.save": Call(np.save, marker, [1]),
        "np.memmap": Call(np.memmap, marker, "u1", "w+", 0, (1,)),
        "codecs decode": Call(codecs.decode, loads, "rot13"),
        "encode with another codec": Call(codecs.encode, "text", "rot13"),
        "encode without codec": Call(codecs.encode, "text"),
        "encode of bytes": Call(codecs.encode, b"text", "latin1"),
        "object array": np.array([payload], dtype=object),
        "object array of object arrays": np.array([np.array([payload, None], dtype=object), None], dtype=object),
        "structured array with objects": structured,
        "record array": np.zeros(2, [("a", "f4")]).view(np.recarray),
        "masked array": np.ma.masked_array([1.0, 2.0], [True, False]),
        "datetimes": np.array(["2020-01-01"], "M8[D]"),
        "long doubles": np.zeros(2, np.longdouble),
        "nested": [{"a": ([payload], {"b": payload})}],
        "state": array_of(1, (1,), dtype("f4"), False, payload),
        "object scalar": Call(SCALAR, dtype("O8"), b"12345678"),
        "object scalar of a payload": Call(SCALAR, dtype("O"), payload),
        "scalar of too few bytes": Call(SCALAR, dtype("f8"), b""),
        "scalar that is no character": Call(SCALAR, dtype("U1"), b"\xff" * 4),
        # numpy makes text of them that breaks whatever looks at it
        "numbers that are no characters": array_of(1, (2, 1), dtype("U4"), False, b"\xff" * 32),
        "one number that is no character": array_of(1, (2,), dtype("U1"), False, b"a\0\0\0\0\0\x11\0"),
        "big-endian": array_of(1, (1,), dtype("U1", 3, ">", None, None, None, 4, 4, 8), False, b"\0\x11\0\0"),
        "scalar of no characters": Call(SCALAR, dtype("U8"), b"\xff" * 32),
        "buffer of no characters": Call(FROMBUFFER, b"\xff" * 32, dtype("U8"), (1, 1), "F"),
        "scalar of the dtype of nothing": Call(SCALAR, None, b"1234"),
        "giant ndarray": Call(np.ndarray, (2**40,)),
        "giant reconstruct": Call(RECONSTRUCT, np.ndarray, (2**40,), b"b"),
        "subclass": Call(RECONSTRUCT, np.matrix, (0,), b"b"),
        "reconstruct of a dtype": Call(RECONSTRUCT, np.dtype, (0,), b"b"),
        "giant state": array_of(1, (2**40,), dtype("f4"), False, b"few bytes"),
        "giant product": array_of(1, (2**39,) * 8, dtype("f4"), False, b""),
        "product that wraps to the number of bytes": array_of(1, (2**32, 2**32, 1), dtype("f4"), False, b""),
        "giant sides of nothing": array_of(1, (2**39, 2**39, 0), dtype("f4"), False, b""),
        "side beyond the limit": array_of(1, (2**62, 0), dtype("f4"), False, b""),
        "nine dimensions": array_of(1, (1,) * 9, dtype("i1"), False, b"0"),
        "many dimensions": array_of(1, (1,) * 65, dtype("i1"), False, b"0"),
        "endless dimensions": array_of(1, (1,) * 100_000, dtype("i1"), False, b"0"),
        "negative shape": array_of(1, (-1, -4), dtype("f4"), False, b"0123456789abcdef"),
        "shape of floats": array_of(1, (1.0,), dtype("f4"), False, b"0123"),
        "shape of booleans": array_of(1, (True,), dtype("f4"), False, b"0123"),
        "shape of a long number": array_of(1, (1 << 80_000,), dtype("f4"), False, b"0123"),
        "shape that is a list": array_of(1, [1], dtype("f4"), False, b"0123"),
        "shape that is a number": array_of(1, 1, dtype("f4"), False, b"0123"),
        "state of text": array_of(1, (4,), dtype("i1"), False, "0123"),
        "state of a list of bytes": array_of(1, (4,), dtype("i1"), False, [b"0", b"1", b"2", b"3"]),
        "state of lists": array_of(1, (2,), dtype("O8"), False, [payload, payload]),
        "state of itself": array_of(1, (1,), array_of(1, (0,), dtype("i1"), False, b""), False, b"0"),
        "short state": array_of(1, (4,)),
        "list for a state": Call(RECONSTRUCT, np.ndarray, (0,), b"b", state=[1, (1,), dtype("i1"), False, b"0"]),
        "frombuffer too small": Call(FROMBUFFER, b"", dtype("f4"), (2**40,), "C"),
        "frombuffer axes": Call(FROMBUFFER, b"0123", dtype("f4"), (1,), "K", (5,)),
        "frombuffer of objects as axes": Call(FROMBUFFER, b"0123", dtype("f4"), (1,), "K", (payload,)),
        "frombuffer with more arguments": Call(FROMBUFFER, b"0123", dtype("f4"), (1,), "C", None, None),
        "dtype metadata": dtype("f4", 4, "<", None, None, None, -1, -1, 0, {"a": 1}),
        "dtype fields": dtype("f4", 3, "|", None, ("a",), {"a": (dtype("f4"), 0)}, 4, 1, 16),
        "dtype subarray": dtype("f4", 3, "|", (dtype("f4"), (2**40,)), None, None, 4, 1, 0),
        "dtype of an unknown byte order": dtype("f4", 3, "?!", None, None, None, -1, -1, 0),
        "dtype of a number as byte order": dtype("f4", 3, 7, None, None, None, -1, -1, 0),
        "dtype of many arguments": Call(np.dtype, "f4", *[False] * 1000),
        "void dtype": dtype("V8"),
        "object dtype of a dozen bytes": dtype("O12"),
        "zero width text": array_of(1, (2**39,), dtype("U0"), False, b""),
        "text of unstated width": array_of(1, (2**39,), dtype("U"), False, b""),
        "giant text": array_of(1, (1,), dtype("U999999999"), False, b"few bytes"),
        "giant bytes": array_of(1, (3,), dtype("S999999999"), False, b"few bytes"),
        "digits of another script": dtype("U1\u0663"),
        "repeated dtype": Call(np.dtype, "9f4"),
        "dtype of text": Call(np.dtype, "f4,O"),
        "dtype of a list": Call(np.dtype, [("a", "O")]),
        "dtype of a dict": Call(np.dtype, {"names": ["a"], "formats": ["O"]}),
        "dtype of bytes": Call(np.dtype, b"f4"),
        "dtype of a class": Call(np.dtype, float),
    }


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("name", list(hostile_objects("x")))
def test_hostile_objects(tmp_path, name, protocol):
    marker = tmp_path / "marker"
    payload = hostile_objects(str(marker))[name]
    for data in (payload, {"train": {"id": ["a"]}, "extra": [payload]}):
        refused(write(tmp_path / "hostile.pkl", data, protocol))
        assert not marker.exists()


@pytest.mark.parametrize("name", ["os.system", "eval", "nested", "object array", "structured array with objects"])
def test_the_hostile_objects_do_run_in_a_plain_unpickler(tmp_path, name):
    marker = tmp_path / "marker"
    pickle.loads(pickle.dumps(hostile_objects(str(marker))[name]))
    assert marker.exists()


GLOBAL_CALL = b"\x80\x04c%b\n(V%b\ntR."


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"os\nsystem", "os.system"),
        (b"posix\nsystem", "posix.system"),
        (b"numpy\nos.system", "numpy.os.system"),
        (b"numpy.core.multiarray\nos.system", "numpy.core.multiarray.os.system"),
        (b"numpy.core.multiarray.os\nsystem", "numpy.core.multiarray.os.system"),
        (b"numpy\ndtype.__class__", "numpy.dtype.__class__"),
        (b"numpy\ndtype.__reduce__.__globals__", "__globals__"),
        (b"numpy\nndarray ", "numpy.ndarray."),
        (b"NumPy\ndtype", "NumPy.dtype"),
        (b"numpy.core.multiarray\n__builtins__", "__builtins__"),
        (b"numpy.testing._private.utils\nruncstring", "runcstring"),
        (b"numpy dtype\n", "numpy.dtype."),
        (b"\n", "."),
        (b"builtins\ngetattr", "builtins.getattr"),
        (b"__main__\nx", "__main__.x"),
        (b"selfmm_hf.data.mmsa\nread_mmsa", "selfmm_hf.data.mmsa.read_mmsa"),
    ],
)
def test_the_refused_global_is_named(tmp_path, name, shown):
    refused(write(tmp_path / "lines.pkl", GLOBAL_CALL % (name, b"touch x")), f"asks for .*{shown}")
    module, _, attribute = name.partition(b"\n")
    pushes = b"".join(b"\x8c" + bytes([len(text)]) + text for text in (module, attribute))
    refused(write(tmp_path / "stack.pkl", b"\x80\x04" + pushes + b"\x93."), f"asks for .*{shown}")


DTYPE = b"cnumpy\ndtype\n"
FLOATS = DTYPE + b"\x8c\x02f4\x85R"  # a dtype

OPCODES = {
    # every way that a pickle has to call
    "INST": b"(S'touch x'\nios\nsystem\n.",
    "INST of what is known": b"(inumpy\ndtype\n.",
    "OBJ": b"(cos\nsystem\nS'touch x'\no.",
    "OBJ of what is known": b"(cnumpy\ndtype\no.",
    "NEWOBJ": b"cos\nsystem\n\x8c\x01x\x85\x81.",
    "NEWOBJ of what is known": DTYPE + b")\x81.",
    "NEWOBJ_EX": DTYPE + b")}\x92.",
    "EXT1": b"\x82\x01.",
    "EXT2": b"\x83\x01\x00.",
    "EXT4": b"\x84\x01\x00\x00\x00.",
    "PERSID": b"Pos\n.",
    "BINPERSID": b"NQ.",
    "NEWOBJ and BUILD, of a class with __setstate__": b"ctest_safe_pickle\nStateful\n)\x81\x8c\x07touch xb.",
    "state of a class": DTYPE + b"}b.",
    "state of a class, as a tuple": DTYPE + b"N\x86b.",
    "state of a list": b"]}b.",
    "state of a dict with setstate": b"}\x8c\x0c__setstate__cnumpy\ndtype\nsNb.",
    "state of text": b"\x8c\x01x)b.",
    "call with state": b"cnumpy\nndarray\n(K\x01tR.",
    "call of a plain value": b"N)R.",
    "call of text": b"\x8c\x06systemN\x85R.",
    "call of a dtype": FLOATS + b")R.",
    "call of an array": b"cnumpy\nndarray\n)R)R.",
    "arguments that are a list": DTYPE + b"(\x8c\x02f4lR.",
    "arguments that are text": DTYPE + b"\x8c\x02f4R.",
    "arguments that are a dict": DTYPE + b"}\x8c\x02f4NsR.",
    "append to an array": b"cnumpy\nndarray\n)RNa.",
    "item of an array": b"cnumpy\nndarray\n)R\x8c\x01aNs.",
    "item of a class": DTYPE + b"\x8c\x01aNs.",
    "out-of-band buffer": b"\x97.",
    "read-only buffer": b"N\x98.",
    "set": b"\x8f.",
    "items of a set": b"\x8f(N\x90.",
    "frozenset": b"(\x91.",
    # the machine
    "nothing to append to": b"a.",
    "nothing to extend": b"e.",
    "nothing to extend by a mark": b"(e.",
    "nothing to set": b"u.",
    "an item without its value": b"}(Nu.",
    "a key that is not text": b"}NNs.",
    "keys that are tuples": b"}(((ttNu.",
    "an item that is a mark": b"}\x8c\x01a(s.",
    "tuple without a mark": b"t.",
    "tuple of too few": b"N\x87.",
    "a mark that is gone": b"NN(\x86t.",
    "memo that was never set": b"h\x07.",
    "memo of nothing": b"q\x00.",
    "memo of nothing, long": b"r\x00\x00\x00\x00.",
    "memoize nothing": b"\x94.",
    "negative memo": b"Np-1\n.",
    "memo by text": b"Np0\n.",
    "memo read by text": b"g0\n.",
    "stop with nothing": b".",
    "only a mark": b"(.",
    "nothing": b"",
    "unknown opcode": b"\xff",
    "POP": b"N0.",
    "POP of nothing": b"0.",
    "POP_MARK": b"(1.",
    "DUP": b"N2.",
    "LIST": b"(l.",
    "DICT": b"(d.",
    # spellings of older protocols, some of which are evaluated
    "STRING": b"S'os'\n.",
    "STRING with escapes": b"S'\\x6fs\\q'\n.",
    "BINSTRING": b"T\x01\x00\x00\x00x.",
    "SHORT_BINSTRING": b"U\x01x.",
    "UNICODE": b"V\\u0041\n.",
    "UNICODE of a broken escape": b"V\\uzz\n.",
    "INT": b"I1\n.",
    "INT of many digits": b"I" + b"9" * 100_000 + b"\n.",
    "LONG of many digits": b"L" + b"9" * 100_000 + b"L\n.",
    "FLOAT": b"F1.5\n.",
    "GLOBAL with escapes": b"c\\x6fs\nsystem\\d\n.",
    "GLOBAL cut off": b"cos\nsystem",
    "STACK_GLOBAL of numbers": b"K\x01K\x02\x93.",
    "STACK_GLOBAL of lists": b"]]\x93.",
    # sizes
    "BINBYTES8 longer than the file": b"\x8e" + struct.pack("<Q", 2**62) + b"x.",
    "BINBYTES8 of the most": b"\x8e" + struct.pack("<Q", 2**64 - 1) + b"x.",
    "BYTEARRAY8": b"\x96" + struct.pack("<Q", 2**40) + b"x.",
    "BINUNICODE8": b"\x8d" + struct.pack("<Q", 2**40) + b"x.",
    "BINUNICODE8 of the most": b"\x8d" + struct.pack("<Q", 2**64 - 1) + b"x.",
    "BINUNICODE": b"X" + struct.pack("<I", 2**32 - 1) + b"x.",
    "BINBYTES": b"B" + struct.pack("<I", 2**32 - 1) + b"x.",
    "size cut off": b"\x8e\x01\x00",
    "memo bomb": b"Nr\xff\xff\xff\xff",  # a plain unpickler makes room for 2**33 entries
    "LONG4 of negative size": b"\x8b" + struct.pack("<i", -1) + b".",
    "LONG4 of 2 GB": b"\x8b" + struct.pack("<i", 2**31 - 1) + b".",
    "LONG1 cut off": b"\x8a\xff\x01.",
    "no UTF-8": b"\x8c\x01\xff.",
    "a deep key, whose hash would overflow the C stack": b"}" + b")" + b"\x85" * 200_000 + b"Ns.",
    "protocol 6 on the way": b"\x80\x06N",
}


@pytest.mark.parametrize("body", OPCODES.values(), ids=list(OPCODES))
def test_hostile_opcodes(tmp_path, monkeypatch, body):
    monkeypatch.chdir(tmp_path)  # where x would be made
    refused(write(tmp_path / "hostile.pkl", b"\x80\x04" + body))
    assert not (tmp_path / "x").exists()


# ---- files that are small, and try to take much time or memory


NESTED = {
    "lists": b"]" * 100_000 + b"a" * 99_999 + b".",
    "tuples": b")" + b"\x85" * 1_000_000 + b".",
    "tuples by marks": b"(" * 100_000 + b"t" * 100_000 + b".",
    "dicts": b"\x8c\x01aq\x00" + b"}h\x00" * 100_000 + b"N" + b"s" * 100_000 + b".",
}


@pytest.mark.parametrize("body", NESTED.values(), ids=list(NESTED))
def test_deep_nesting_is_read_and_forgotten_without_recursion(tmp_path, body):
    path = write(tmp_path / "nested.pkl", b"\x80\x04" + body)
    with guarded():
        data, _ = load_pickle(path)
    assert len(data) == 1
    del data
    gc.collect()


def text(value: str | bytes) -> bytes:
    value = value.encode() if isinstance(value, str) else value
    return b"X" + struct.pack("<I", len(value)) + value


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_occurs_twice_is_read_once(tmp_path, protocol):
    shared, array = ["twice"], np.zeros(3)
    data, _ = load_pickle(write(tmp_path / "twice.pkl", [shared, shared, array, array], protocol))
    assert data[0] is data[1] and data[2] is data[3]


def test_billions_of_references_take_no_room(tmp_path):
    """Of one list in another 30 times over, each twice: never walked, so never a billion."""
    levels = b"".join(b"](h" + bytes([n]) + b"h" + bytes([n]) + b"eq" + bytes([n + 1]) for n in range(30))
    data, _ = load_pickle(write(tmp_path / "laughs.pkl", b"\x80\x04]q\x00" + levels + b"."))
    for _ in range(30):
        assert len(data) == 2 and data[0] is data[1]
        data = data[0]


def test_the_size_of_a_frame_is_of_no_interest(tmp_path):
    path = write(tmp_path / "frame.pkl", b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b"K\x05.")
    assert load_pickle(path)[0] == 5


def test_a_long_number_is_read_and_fits_nothing(tmp_path):
    number = b"\x8b" + struct.pack("<i", 5_000_000) + b"\x7f" * 5_000_000
    data, _ = load_pickle(write(tmp_path / "long.pkl", b"\x80\x04" + number + b"."))
    assert data.bit_length() == 39_999_999
    data = b"cnumpy._core.numeric\n_frombuffer\n(B\x00\x00\x00\x00" + FLOATS + number + b"\x85" + text("C") + b"tR."
    refused(write(tmp_path / "shape.pkl", b"\x80\x04" + data), "shape does not fit")


BUILD_TEXTS = b"(K\x01J" + struct.pack("<i", 100_000) + b"\x85" + DTYPE + text("O8") + b"\x85R\x89h\x01tq\x04"
REPEATED = {
    # One text, list or tuple, and a call that reads all of it, again and again.
    "encode": b"c_codecs\nencode\nq\x00"
    + text("x" * 100_000)
    + text("latin1")
    + b"\x86q\x01"
    + b"h\x00h\x01R" * 50_000,
    "scalars of zeros, which come out as empty texts": b"cnumpy._core.multiarray\nscalar\nq\x00"
    + DTYPE
    + text("U50000")
    + b"\x85RB"
    + struct.pack("<I", 200_000)
    + bytes(200_000)
    + b"\x86q\x01"
    + b"h\x00h\x01R" * 50_000,
    "texts of an object array": text("a")
    + b"q\x00]("
    + b"h\x00" * 100_000
    + b"eq\x01cnumpy\nndarray\n)Rq\x02"
    + BUILD_TEXTS
    + b"h\x02h\x04b" * 50_000,
    "byte order": FLOATS
    + b"q\x00(K\x03"
    + text("<" * 100_000)
    + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x01"
    # numpy wants to know about one character only
    + b"h\x00h\x01b" * 50_000,
    "memory order": b"cnumpy._core.numeric\n_frombuffer\nq\x00(C\x00"
    + FLOATS
    + b"K\x00\x85"
    + text("F" * 100_000)
    + b"tq\x01"
    + b"h\x00h\x01R" * 50_000,
}


@pytest.mark.parametrize("body", REPEATED.values(), ids=list(REPEATED))
def test_no_value_is_passed_to_calls_without_end(tmp_path, body):
    refused(write(tmp_path / "again.pkl", b"\x80\x04" + body + b"."), "expands to more")


def test_long_arguments_end_it_at_once(tmp_path):
    many = b"(" + text("f4") + b"N" * 100_000 + b"tq\x01"
    refused(
        write(tmp_path / "many.pkl", b"\x80\x04" + DTYPE + b"q\x00" + many + b"h\x00h\x01R" * 50_000 + b"."), "damaged"
    )


def test_long_keys_are_refused(tmp_path):
    """Two that are equal but not the same are compared to the last character each time."""
    key = text("k" * 1_000_000)
    body = b"}" + key + b"Ns" + key + b"q\x00Ns" + b"h\x00Ns" * 100_000 + b"."
    refused(write(tmp_path / "keys.pkl", b"\x80\x04" + body), "keys are not names")


@pytest.mark.parametrize("body", [b"(", b"]", b"}", b"]\x94", b"N", b"K\x01", b"\x89"])
def test_no_more_opcodes_than_a_feature_file_needs(tmp_path, monkeypatch, body):
    monkeypatch.setattr(safe_pickle, "MOST_OPCODES", 1000)
    refused(write(tmp_path / "many.pkl", b"\x80\x04" + body * 1000 + b"."), "more than 1,000 values")
    assert load_pickle(write(tmp_path / "few.pkl", list(range(300))))[0] == list(range(300))


def test_long_names_are_cut_in_messages(tmp_path):
    name = b"a\\n" * 100_000
    refused(write(tmp_path / "name.pkl", b"\x80\x04c" + name + b"\n" + name + b"\n."), "asks for")
    pushes = text("x\n" * 1_000_000) * 2
    refused(write(tmp_path / "name.pkl", b"\x80\x04" + pushes + b"\x93."), "asks for")
    refused(write(tmp_path / "dtype.pkl", b"\x80\x04" + DTYPE + text("x\n" * 1_000_000) + b"\x85R."), "of dtype")
