"""
Works on the clips of a table of any length on a cluster. Ray Data reads the table, schedules, retries and limits the
flow. Each of its actors, see [`Worker`], writes the results of its rows.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray

from ..clips.job import WorkError, told
from .results import Results, absolute
from .table import read_table
from .work import Work
from .worker import Worker

BATCH = 16 * 2**10  # bytes of the table: a hundred rows or so, which is the most for a file of results
# Share of a core that Ray counts for a worker. The rest is for the tasks that read the table: if workers had all cores
# of a cluster, these would wait for ever.
WORKER = 0.9


@dataclass
class Counts:
    """
    How many rows are done.

    Args:
        before: Rows that were done before.
        done: Rows that are done now.
        failed: Rows that failed; `failures-*.parquet` has the reasons.
        warned: How many of those that are done now have a damaged clip; `warnings-*.parquet` tells of it.
        gone: How many of those that were done before are not in the table.
    """

    before: int = 0
    done: int = 0
    failed: int = 0
    warned: int = 0
    gone: int = 0


def run_on_cluster(
    clips: str,
    table: str,
    out: str,
    work: Work,
    address: str | None = None,
    workers: int | None = None,
    gpus_per_worker: float = 0,
    tell: Callable[[Counts], None] = lambda counts: None,
) -> Counts:
    """
    Works on the clips of a table. Started again, it resumes where it stopped: rows that have failed are tried again,
    rows that are done are not. A row that has changed since fails.

    Args:
        clips: The folder of the media files, of any kind that fsspec knows: `s3://bucket/clips`, `hf://...`, a path
            that all nodes see.
        table: CSV or Parquet, likewise. The column `clip` has the path within `clips`, or the whole one; `id` is by
            default the same.
        out: The folder to write, likewise.
        work: What to do with each clip.
        address: Address of a running Ray cluster; by default one is started on this machine.
        workers: Number of processes; by default one for each core of the cluster.
        gpus_per_worker: Share of a GPU that each has.
        tell: Called with what has been done so far.

    Raises:
        DataError: The table or the folder is missing, lacks a column, or holds an id twice.
        WorkError: `out` has results of another recipe or model; or something is wrong that no clip is to blame for.
    """
    rows = read_table(table, work)
    results = Results(out)
    results.begin(work)
    done = results.done(work.names())
    counts = Counts(before=len(done), gone=len(done))
    with _cluster(address):
        known = ray.put(done)
        cores = int(ray.cluster_resources().get("CPU", 1))
        size = workers or cores
        batches = rows().map_batches(
            Worker, fn_constructor_args=(clips.rstrip("/"), results, work, known, absolute(clips)), batch_size=None,
            batch_format="pyarrow", compute=ray.data.ActorPoolStrategy(size=size),
            num_cpus=min(WORKER, WORKER * cores / size), num_gpus=gpus_per_worker or None,
        )  # fmt: skip
        try:
            for batch in batches.iter_batches(batch_size=None, batch_format="pyarrow"):
                for row in batch.to_pylist():
                    counts.done, counts.failed = counts.done + row["done"], counts.failed + row["failed"]
                    counts.warned, counts.gone = counts.warned + row["warned"], counts.gone - row["before"]
                tell(counts)
        except ray.exceptions.RayTaskError as error:
            raise _cause(error) from None
    results.check_ids(work.names())
    return counts


@contextmanager
def _cluster(address: str | None) -> Iterator[None]:
    """Connects to a running cluster, or starts one of this machine alone, which ends with the work."""
    started = not ray.is_initialized()
    if started:
        here: dict[str, Any] = {"include_dashboard": False} if address is None else {}
        ray.init(address=address or "local", log_to_driver=False, logging_level="ERROR", **here)
    context, logger = ray.data.DataContext.get_current(), logging.getLogger("ray.data")
    before = context.enable_progress_bars, context.target_max_block_size, logger.level
    context.enable_progress_bars, context.target_max_block_size = False, BATCH
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        context.enable_progress_bars, context.target_max_block_size = before[:2]
        logger.setLevel(before[2])
        if started:
            ray.shutdown()


def _cause(error: "ray.exceptions.RayTaskError") -> Exception:
    """Returns the error that an actor ended with."""
    cause: BaseException = error
    while isinstance(cause, ray.exceptions.RayTaskError) and cause.cause is not None:
        cause = cause.cause
    return cause if isinstance(cause, WorkError) else WorkError(told(cause))
