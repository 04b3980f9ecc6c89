"""Finds duplicates within and across splits, exactly, by digests of the content."""

import hashlib
from collections import Counter
from dataclasses import dataclass
from itertools import combinations

from numpy.typing import NDArray

EXAMPLES = 3


@dataclass
class Overlap:
    """
    Things (ids, texts, ...) that are the same.

    Args:
        across: Things found in more than one split.
        pairs: The same by two splits, `train+test`.
        within: Things found more than once in a split.
        examples: Of `across`, or else of `within`: for each the `split` and the `name` (an id, the text) of two or
            more places, the first of each split.
    """

    across: int
    pairs: dict[str, int]
    within: dict[str, int]
    examples: list[list[dict[str, str]]]


class Seen:
    """Where things were seen, by their digests."""

    def __init__(self, splits: list[str]):
        self.splits = splits
        self._found: dict[bytes, list[tuple[str, str]]] = {}

    def add(self, content: bytes, split: str, name: str) -> None:
        self._found.setdefault(digest(content), []).append((split, name))

    def overlap(self) -> Overlap:
        pairs = {f"{one}+{other}": 0 for one, other in combinations(self.splits, 2)}
        within = dict.fromkeys(self.splits, 0)
        across, repeated = [], []
        for found in self._found.values():
            if len(found) == 1:
                continue
            where = Counter(split for split, _ in found)
            for pair in combinations(where, 2):
                pairs["+".join(pair)] += 1
            for split, times in where.items():
                within[split] += times > 1
            if len(where) > 1:
                across.append([next(place for place in found if place[0] == split) for split in where])
            else:
                repeated.append(found[:2])
        examples = [[{"split": split, "name": name} for split, name in one] for one in across or repeated]
        return Overlap(len(across), pairs, within, examples[:EXAMPLES])


def digest(*parts: bytes | NDArray) -> bytes:
    """16 bytes. Among a million different things, the odds that two have the same are 1 in 10^26."""
    found = hashlib.blake2b(digest_size=16)
    for part in parts:
        found.update(part)
    return found.digest()
