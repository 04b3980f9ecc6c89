"""Makes files ready to be seen by others: scrubs them, or refuses them."""

import fnmatch
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from ..data.card import parse_card
from ..storage.scrub import holds_token, private, scrub

# Files that only tell people something: a path in them may be replaced. Other files might then no longer work, so that
# only their user can take it out.
TELLING = ("README.md", "LICENSE", "*/LICENSE", "*/NOTICE", "preset*.yaml", "examples/*.txt", "examples/*.json")
TELLING_JSON = ("*/origin.json", "*/dataset_info.json")
TELLING_KEYS = {"name_or_path", "_name_or_path"}
# In these, each text is a name, an option or a path. In all others, other things may begin with a slash, too.
SETTINGS = ("config.json", "preprocessor_config.json", "processor_config.json", "*.index.json", "*requirements.txt")
METADATA = "its metadata"


class PrivateError(ValueError):
    """A file holds something private that cannot be removed without changing what the file does."""


def publishable(name: str, source: Path | bytes) -> Path | bytes:
    """
    Returns a file, or its content, as it may be published: see [`scrub`].

    Args:
        name: Its path in the repository.

    Raises:
        PrivateError: It holds a token, or a path or a login that cannot be removed without breaking it.
    """
    _check(name, "its name", name, certain=True)
    if _is(name, TELLING):
        return _told(name, source)
    if name.endswith(".json"):
        return _json(name, source)
    for where, text in _texts(name, source):
        _check(name, where, text, certain=not (_is(name, SETTINGS) or where == METADATA))
    return source


def _is(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, one) for one in patterns)


def _content(source: Path | bytes) -> bytes:
    return source if isinstance(source, bytes) else source.read_bytes()


def _check(name: str, where: str, text: str, certain: bool) -> None:
    _check_tokens(name, text)
    if found := next(private(text, certain), None):
        raise PrivateError(f"{name} names in {where} a place on this machine, or a login, {found!r:.99}: take it out.")


def _check_tokens(name: str, text: str) -> None:
    if holds_token(text):
        raise PrivateError(
            f"{name} holds a token of the Hub: take it out, and revoke it where others may have seen it."
        )


def _told(name: str, source: Path | bytes) -> Path | bytes:
    text = _content(source).decode(errors="surrogateescape")
    _check_tokens(name, text)
    scrubbed = scrub(text)
    if scrubbed == text:
        return source
    read = parse_card if name == "README.md" else yaml.safe_load if name.endswith(".yaml") else str
    if _shape(read, scrubbed) != _shape(read, text):
        _check(name, "its text", text, certain=False)
    return scrubbed.encode(errors="surrogateescape")


def _shape(read: Callable[[str], Any], text: str) -> Any:
    """Returns the keys of what a text holds; `None` if it cannot be read."""

    def keys(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: keys(one) for key, one in value.items()}
        return [keys(one) for one in value] if isinstance(value, list) else None

    try:
        return keys(read(text)), "read"
    except (ValueError, yaml.YAMLError):
        return None


def _json(name: str, source: Path | bytes) -> Path | bytes:
    content = json.loads(_content(source))
    certain, all_tells = not _is(name, (*SETTINGS, *TELLING_JSON)), _is(name, TELLING_JSON)
    strings = list(_strings(content, name))
    _check_tokens(name, "\n".join(text for _, text, _ in strings))
    working = [(key, text) for key, text, tells in strings if not (tells or (all_tells and key))]
    if next(private("\n".join(text for _, text in working), certain), None):  # all at once: a vocabulary has 50,000
        for key, text in working:
            _check(name, f"the value of {key!r}" if key else "a key", text, certain)

    def clean(value: Any, tells: bool) -> Any:
        if isinstance(value, dict):
            return {key: clean(one, tells or key in TELLING_KEYS) for key, one in value.items()}
        if isinstance(value, list):
            return [clean(one, tells) for one in value]
        return scrub(value) if tells and isinstance(value, str) else value

    cleaned = clean(content, all_tells)
    return source if cleaned == content else (json.dumps(cleaned, indent=2, ensure_ascii=False) + "\n").encode()


def _strings(value: Any, key: str, tells: bool = False) -> Iterator[tuple[str, str, bool]]:
    """Yields the texts in JSON with their keys, and whether each only tells something; keys are texts without a key."""
    if isinstance(value, str):
        yield key, value, tells
    elif isinstance(value, dict):
        for name, one in value.items():
            yield "", name, False
            yield from _strings(one, name, tells or name in TELLING_KEYS)
    elif isinstance(value, list):
        for one in value:
            yield from _strings(one, key, tells)


def _texts(name: str, source: Path | bytes) -> Iterator[tuple[str, str]]:
    """Yields the texts that may be read in a file, and where each is."""
    if isinstance(source, Path) and name.endswith(".safetensors"):
        with source.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        yield METADATA, "\n".join(text for _, text, _ in _strings(header.pop("__metadata__", {}), METADATA))
        yield "the names of its tensors", "\n".join(header)
    elif isinstance(source, Path) and name.endswith(".parquet"):
        schema = pq.read_schema(source)
        for one in (pq.read_metadata(source).metadata, schema.metadata, *(field.metadata for field in schema)):
            pairs = [pair for pair in (one or {}).items() if pair[0] != b"ARROW:schema"]  # the schema, encoded
            yield METADATA, b"\n".join(part for pair in pairs for part in pair).decode(errors="replace")
        words = [field.name for field in schema if pa.types.is_string(field.type)]
        for batch in pq.ParquetFile(source).iter_batches(columns=words):
            yield from ((f"the column {one!r}", "\n".join(filter(None, batch[one].to_pylist()))) for one in words)
    else:
        yield "its text", _content(source).decode("latin-1")
