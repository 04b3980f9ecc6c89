"""Folds across subjects: each clip is tested once, by a model that has met nobody who is seen in it."""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence

from .safe_pickle import DataError

FOLD = re.compile(r"fold([1-9]\d{0,2})of([1-9]\d{0,2})")
VALIDATION_SHARE = 0.1  # of the clips of the training part, in whole subjects


def fold_name(number: int, count: int) -> str:
    """The name of a fold as a configuration (`--data_config`) of a data set."""
    return f"fold{number}of{count}"


def read_fold(name: str | None) -> tuple[int, int] | None:
    """
    Reads number and count from the name of a fold.

    Raises:
        DataError: It begins as one, but there is no such fold.
    """
    if name is None or not name.startswith("fold"):
        return None
    found = FOLD.fullmatch(name)
    number, count = map(int, found.groups()) if found else (0, 0)
    if not 1 <= number <= count or count < 2:
        raise DataError(f"expected a fold such as fold1of5, got {name!r:.40}")
    return number, count


def folds_of(subjects: Sequence[str], count: int) -> list[int]:
    """
    A fold, from 1 to `count`, for each clip: whole subjects, in folds with about as many clips each. The same subjects
    with the same numbers of clips are always in the same folds, whatever the order of the rows.

    Raises:
        DataError: There are fewer subjects than folds.
    """
    clips = {subject: 0 for subject in subjects}
    if len(clips) < count:
        raise DataError(f"there are {len(clips)} subjects, too few for {count} folds")
    for subject in subjects:
        clips[subject] += 1
    sizes, fold = [0] * count, {}
    for subject in sorted(clips, key=lambda one: (-clips[one], _shuffled(one))):
        smallest = sizes.index(min(sizes))
        fold[subject] = smallest + 1
        sizes[smallest] += clips[subject]
    return [fold[subject] for subject in subjects]


def fold_splits(subjects: Sequence[str], folds: Sequence[int], number: int) -> list[str]:
    """
    The split of each clip where fold `number` is the test split. Validation is whole subjects of the others, with a
    tenth of their clips or a little more: a subject with whom it would have over a fifth stays in training. If each of
    them has over a fifth, it is the one with the fewest clips.

    Raises:
        DataError: The other folds have fewer than two subjects, one to train on and one to validate.
    """
    others = Counter(subject for subject, fold in zip(subjects, folds, strict=True) if fold != number)
    wanted, order = VALIDATION_SHARE * others.total(), sorted(others, key=_shuffled)
    validation, clips = set(), 0
    for subject in order:
        if clips < wanted and clips + others[subject] <= 2 * wanted:
            validation.add(subject)
            clips += others[subject]
    validation = validation or set(sorted(order, key=others.__getitem__)[:1])
    if validation == set(others):
        raise DataError(
            f"but for fold {number}, there are {len(validation)} subjects, too few to train and validate on"
        )
    return [
        "test" if fold == number else "validation" if subject in validation else "train"
        for subject, fold in zip(subjects, folds, strict=True)
    ]


def _shuffled(subject: str) -> str:
    """A key by which subjects are in no order that means anything."""
    return hashlib.sha256(subject.encode()).hexdigest()
