"""The metadata of a card, README.md, or of a YAML file, which anybody may have written: a plain map of bounded size."""

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

MOST_BYTES = 2**20  # of a card
MOST_LETTERS = 50_000  # of its metadata; those of a large data set have some 5,000
BLOCK = re.compile(r"\s*---\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|$)", re.DOTALL)


class CardError(ValueError):
    """A card whose metadata cannot be read."""


class _PlainLoader(yaml.SafeLoader):
    """Without aliases, by which a few lines become gigabytes, and without keys of which readers take another one."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(f"aliases are not read, got *{self.peek_event().anchor}")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.Node, deep: bool = False) -> dict[Hashable, Any]:
        mapping = super().construct_mapping(node, deep)
        if len(mapping) < len(node.value):
            raise yaml.YAMLError("a key is there twice")
        return mapping


def read_card(file: Path) -> dict[str, Any]:
    """
    The metadata of a card.

    Returns:
        Nothing where the card has none.

    Raises:
        CardError: There is no such file, or it cannot be read.
    """
    try:
        if (size := file.stat().st_size) > MOST_BYTES:
            raise CardError(f"it has {size:,} bytes, more than {MOST_BYTES:,}, the most that is read")
        return parse_card(file.read_text("utf-8-sig"))
    except (OSError, ValueError) as error:
        raise CardError(f"{file}: its metadata cannot be read: {error}") from error


def parse_card(text: str) -> dict[str, Any]:
    """
    The metadata of a card with this text: see [`read_card`].

    Raises:
        CardError: They are no map, too large, or no YAML without aliases.
    """
    block = BLOCK.match(text)
    return {} if block is None else _map(block[1])


def parse_yaml(file: Path) -> dict[Hashable, Any]:
    """
    The map in a YAML file that anybody may have written.

    Raises:
        CardError: It is none, or too large; the file is named.
    """
    try:
        with file.open(encoding="utf-8-sig") as content:
            return _map(content.read(MOST_LETTERS + 1))
    except (OSError, ValueError) as error:
        raise CardError(f"{file} cannot be read: {error}") from error


def _map(text: str) -> dict[Hashable, Any]:
    if len(text) > MOST_LETTERS:
        raise CardError(f"it has {len(text):,} letters of metadata, more than {MOST_LETTERS:,}")
    try:
        metadata = yaml.load(text, _PlainLoader)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise CardError(" ".join(str(error).split())) from error
    if not isinstance(metadata, dict | None):
        raise CardError(f"expected a map, got {type(metadata).__name__}")
    return metadata or {}
