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
from .results import FAILURES, Results, hashes
from .work import Row, Work

CHANGED = (
    "there is a result of this id, but its clip, text, label or split, or the transcriber, was another: name another "
    "folder, or delete the file of the results that has the id, for its clips to be done again; ids must differ"
)


class Worker:
    """
    Takes rows, and returns how many of them are done, how many have failed, and how many were there before.

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
        given, failures, tasks, sources = rows.to_pylist(), [], {}, []
        for number, row in enumerate(given):
            source = None
            try:
                row["clip"] = _where(self.clips, self.root, row)
                tasks[number] = self.work.task(number, row)
                source = row["id"], row["clip"].removeprefix(self.root), self.work.source(row)
            except DataError as error:
                failures.append((number, str(error)))
            sources.append(source)
        sources = hashes(sources)
        there, same = np.isin(hashes(row["id"] for row in given), self.known), np.isin(sources, self.known)
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
        if failures:
            told_of = {name: [given[number].get(name) for number, _ in sorted(failures)] for name in ("id", "clip")}
            tables[FAILURES] = pa.table({**told_of, "reason": [reason for _, reason in sorted(failures)]})
        rows_done = [row for number, row in enumerate(given) if not there[number] or not same[number]]
        key = hashlib.sha256(repr(rows_done).encode()).hexdigest()[:16]
        of_id = {row["id"]: sources[number] for number, row, _ in done}
        for name, table in tables.items():
            made_of = [] if name == FAILURES else [of_id[one] for one in table["id"].to_pylist()]
            self.results.write_table(f"{name}-{key}.parquet", table, np.array(made_of, np.uint64))
        for folder in self.folder.iterdir():
            if folder.name != PART:
                shutil.rmtree(folder)
        return pa.table({"done": [len(done)], "failed": [len(failures)], "before": [np.count_nonzero(there)]})


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
