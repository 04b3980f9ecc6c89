"""Finds the utterances that come before another one in its video."""

import re
from collections import defaultdict
from collections.abc import Sequence

from .safe_pickle import DataError

# A video, and the place of an utterance in it: `03bSnISJMiM$_$11` of the published files, `video_1/0011` of folders.
ID = re.compile(r"(.*)(?:\$_\$|/)([0-9]+)", re.DOTALL)


def places_of(ids: Sequence[str]) -> list[tuple[str, int]]:
    """
    The video of each utterance and its position there, by ids `VIDEO$_$POSITION` or `VIDEO/POSITION`, whole numbers.

    Raises:
        DataError: An id is of another form.
    """
    places = []
    for row, one in enumerate(ids):
        found = ID.fullmatch(one)
        if found is None:
            raise DataError(
                f"column 'id', row {row}: {one!r:.80} does not tell the video and the place of the utterance in it, as "
                "VIDEO$_$3 and VIDEO/3 do: rename the ids, name the columns video and position in a table of your own, "
                "or leave out --context_utterances"
            )
        places.append((found[1], int(found[2])))
    return places


def utterances_before(places: Sequence[tuple[str, float]], texts: Sequence[str], count: int) -> list[list[str]]:
    """
    The texts of the utterances before each one in the same video, the oldest first.

    Args:
        places: The video of each utterance of one split, the only ones that are looked at, and its position there.
        texts: What is said in each.
        count: How many utterances before it each one has at most.

    Raises:
        DataError: No utterance has one before it.
    """
    videos = defaultdict(list)
    for row, (video, position) in enumerate(places):
        videos[video].append((position, row))
    before = []
    for video, position in places:
        earlier = sorted(one for one in videos[video] if one[0] < position)
        before.append([texts[row] for _, row in earlier[-count:]])
    if not any(before):
        raise DataError("no utterance has an earlier one of the same video: leave out --context_utterances")
    return before
