"""Which utterances come before another one in its video."""

import re
from collections import defaultdict
from collections.abc import Sequence

from .safe_pickle import DataError

# A video, and the place of an utterance in it: `03bSnISJMiM$_$11` of the published files, `video_1/0011` of folders.
ID = re.compile(r"(.*)(?:\$_\$|/)([0-9]+)", re.DOTALL)


def utterances_before(ids: Sequence[str], texts: Sequence[str], count: int) -> list[list[str]]:
    """
    The texts of the utterances before each one in the same video, the oldest first.

    Args:
        ids: Of one split, whose utterances alone are looked at: `VIDEO$_$PLACE` or `VIDEO/PLACE`, PLACE a whole number.
        texts: What is said in each.
        count: How many utterances before it each one has at most.

    Raises:
        DataError: An id is of another form, or no utterance has one before it.
    """
    videos, places = defaultdict(list), []
    for row, one in enumerate(ids):
        found = ID.fullmatch(one)
        if found is None:
            raise DataError(
                f"column 'id', row {row}: {one!r:.80} does not tell the video and the place of the utterance in it, as "
                "VIDEO$_$3 and VIDEO/3 do: rename the ids, or leave out --context_utterances"
            )
        places.append((found[1], int(found[2])))
        videos[found[1]].append((int(found[2]), row))
    before = []
    for video, place in places:
        earlier = sorted(one for one in videos[video] if one[0] < place)
        before.append([texts[row] for _, row in earlier[-count:]])
    if not any(before):
        raise DataError("no utterance has another one of its video before it: leave out --context_utterances")
    return before
