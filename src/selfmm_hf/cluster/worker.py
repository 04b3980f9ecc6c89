"""Works on a batch of rows in an actor of the cluster, which has one process for clips, see [`Processes`]."""

import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from ..clips.folder import PART
from ..clips.processes import Processes
from ..data.custom.table import stays_within
from ..data.safe_pickle import DataError
from .fetching import Fetching
from .results import FAILURES, WARNINGS, Results, hashes
from .work import Row, Work

CHANGED = (
    "this id has a result, but of another clip, text, label, split, video, position or transcriber. Name another folder"
    ", or delete the file of the results that has the id: its clips are done again. No two rows may have the same id"
)


class Worker:
    """
    Takes rows. Returns how many are done, how many have failed, how many of the done have a damaged clip, and how many
    were there before.

    Args:
        clips: The folder of the clips, as the table may name it.
        root: The same from whatever folder this machine works in.
    """

    def __init__(self, clips: str, results: Results, work: Work, known: Any, root: str | None = None):
        self.clips, self.results, self.work = clips, results, work
        self.root = (root or clips).rstrip("/")
        self.known = ray.get(known) if isinstance(known, ray.ObjectRef) else known
        self.folder = Path(tempfile.mkdtemp(prefix="selfmm-"))
        (self.folder / PART).mkdir()
        self.processes = Processes(Fetching(work.job(self.folder)), 1)

    def __call__(self, rows: pa.Table) -> pa.Table:
        if "id" not in rows.column_names:
            rows = rows.append_column("id", rows["clip"])
        given = rows.to_pylist()
        tasks, sources, failures = self._tasks(given)
        there, same = (np.isin(one, self.known) for one in (hashes(row["id"] for row in given), sources))
        for number in np.flatnonzero(there):
            if tasks.pop(number, None) is not None and not same[number]:
                failures.append((number, CHANGED))
        done = []
        for (number, _), outcome in self.processes.work(list(tasks.items())):
            if isinstance(outcome, str):
                failures.append((number, outcome))
            else:
                done.append((number, given[number], outcome))
        tables = self.work.tables(sorted(done, key=lambda one: one[0]), self.folder)
        warnings = [(number, " ".join(outcome.warnings)) for number, _, outcome in done if outcome.warnings]
        tables |= {FAILURES: _notes(given, failures, "reason"), WARNINGS: _notes(given, warnings, "warning")}
        rows_done = [row for number, row in enumerate(given) if not there[number] or not same[number]]
        key = hashlib.sha256(repr(rows_done).encode()).hexdigest()[:16]
        of_id = {row["id"]: sources[number] for number, row, _ in done}
        for name, table in tables.items():
            if len(table):
                made_of = [] if name in (FAILURES, WARNINGS) else [of_id[one] for one in table["id"].to_pylist()]
                self.results.write_table(f"{name}-{key}.parquet", table, np.array(made_of, np.uint64))
        for folder in self.folder.iterdir():
            if folder.name != PART:
                shutil.rmtree(folder)
        counts = {"done": len(done), "failed": len(failures), "warned": len(warnings), "before": int(there.sum())}
        return pa.Table.from_pylist([counts])

    def _tasks(self, given: list[Row]) -> tuple[dict[int, Any], np.ndarray, list[tuple[int, str]]]:
        """Returns tasks by the numbers of their rows, a hash of what each row says, and what is wrong with others."""
        tasks: dict[int, Any] = {}
        sources, failures = [], []
        for number, row in enumerate(given):
            source = None
            try:
                row["clip"] = _where(self.clips, self.root, row)
                tasks[number] = self.work.task(number, row)
                source = row["id"], row["clip"].removeprefix(self.root), self.work.source(row)
            except DataError as error:
                failures.append((number, str(error)))
            sources.append(source)
        return tasks, hashes(sources), failures


def _notes(given: list[Row], notes: list[tuple[int, str]], what: str) -> pa.Table:
    """Returns a table of rows, by their numbers, and what there is to say of each."""
    rows = [{name: given[number].get(name) for name in ("id", "clip")} | {what: text} for number, text in sorted(notes)]
    return pa.Table.from_pylist(rows)


def _where(clips: str, root: str, row: Row) -> str:
    """Returns the whole path of a row's clip."""
    clip = row.get("clip")
    if not isinstance(clip, str) or not clip.strip():
        raise DataError("column 'clip': the path is missing")
    if not isinstance(row["id"], str) or not row["id"]:
        raise DataError(f"column 'id': expected text, got {row['id']!r:.40}")
    within = clip.removeprefix(f"{clips}/")
    if not stays_within(within) or "://" in within:
        raise DataError(f"column 'clip': expected a path within {clips}, got {clip!r:.200}")
    return f"{root}/{within}"
