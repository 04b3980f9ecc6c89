"""
Clips of a table of any length, worked on by a cluster. Ray Data reads the table, schedules, retries and holds back what
comes too fast; each of its actors has one process for clips, see [`Processes`], and writes what has come of its rows.

A file is named by the rows of its batch, so a batch that is done twice is written once. What is there already is known
by the ids in the files.
"""

import hashlib
import io
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import ray
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from ..clips.folder import PART
from ..clips.job import Job, WorkError, told
from ..clips.processes import Processes
from ..data.custom.table import stays_within
from ..data.safe_pickle import DataError
from ..storage.whole_files import whole

BATCH = 16 * 2**10  # bytes of the table: a hundred rows or so, and so the most of a file
# Of a core, as Ray counts them. A worker leaves something of its own to the tasks that read the table: where workers
# had all cores of a cluster, these would wait for ever.
WORKER, READER = 0.9, 0.1
FAILURES = "failures"

Row = dict[str, Any]


class Work(Protocol):
    """
    What is made of the rows of a table. It is pickled.

    Args:
        columns: Which must be there, besides `clip`.
        optional: Which may be there.
    """

    columns: tuple[str, ...]
    optional: tuple[str, ...]

    def files(self) -> dict[str, bytes]:
        """What lies beside the results, by name. Results of other such files are refused."""

    def names(self) -> list[str]:
        """How files of results begin."""

    def job(self, folder: Path) -> Job:
        """What one process does, which may write into `folder`."""

    def task(self, number: int, row: Row) -> Any:
        """A row as the job takes it; its `clip` is where it is. Raises [`DataError`] if something in it is wrong."""

    def tables(self, done: list[tuple[int, Row, Any]], folder: Path) -> dict[str, pa.Table]:
        """Rows, each with its number and what has come of it, by how the name of their file begins."""


@dataclass
class Counts:
    """
    Args:
        before: Rows that were done before.
        done: Rows that are done now.
        failed: Rows that failed; `failures-*.parquet` has the reasons.
    """

    before: int = 0
    done: int = 0
    failed: int = 0


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
    Works on the clips of a table. Started again after whatever end, it goes on where it was: rows that have failed are
    tried again, those that are done are not.

    Args:
        clips: The folder of the media files, of any kind that fsspec knows: `s3://bucket/clips`, `hf://...`, a path
            that all nodes see.
        table: CSV or Parquet, likewise. The column `clip` has the path within `clips`, or the whole one; `id` is by
            default the same.
        out: The folder to write, likewise.
        work: What is made of each clip.
        address: Of a Ray cluster that is running; by default one is started on this machine.
        workers: Processes; by default one for each core of the cluster.
        gpus_per_worker: Share of a GPU that each has.
        tell: Is called with what has been done so far.

    Raises:
        DataError: The table or the folder is missing, lacks a column, or holds an id twice.
        WorkError: `out` has results of another recipe or model; or something is wrong that no clip is to blame for.
    """
    rows = _read_table(table, work)
    place = Place(out)
    place.begin(work)
    counts = Counts(before=len(done := place.done(work.names())))
    with _cluster(address):
        known = ray.put(done)
        cores = int(ray.cluster_resources().get("CPU", 1))
        size = workers or cores
        results = rows().map_batches(
            _Worker, fn_constructor_args=(clips.rstrip("/"), place, work, known), batch_size=None,
            batch_format="pyarrow", compute=ray.data.ActorPoolStrategy(size=size),
            num_cpus=min(WORKER, WORKER * cores / size), num_gpus=gpus_per_worker or None,
        )  # fmt: skip
        try:
            for batch in results.iter_batches(batch_size=None, batch_format="pyarrow"):
                for row in batch.to_pylist():
                    counts.done, counts.failed = counts.done + row["done"], counts.failed + row["failed"]
                tell(counts)
        except ray.exceptions.RayTaskError as error:
            raise _cause(error) from None
    place.check_ids(work.names())
    return counts


class Place:
    """The folder of the results, on a disk or a store."""

    def __init__(self, out: str):
        self.out = out

    def begin(self, work: Work) -> None:
        """Writes what lies beside the results, and forgets failures, which are tried again."""
        fs, root = url_to_fs(self.out)
        fs.makedirs(root, exist_ok=True)
        for name, content in work.files().items():
            path = f"{root}/{name}"
            if fs.exists(path) and fs.cat_file(path) != content:
                raise WorkError(f"{self.out} has results of another {name}; name another folder.")
            if not fs.exists(path) and self._of(fs, root, work.names()):
                raise WorkError(f"{self.out} has results, but no {name}; put it back, or name another folder.")
            self.write(name, content)
        for file in self._of(fs, root, [FAILURES]):
            fs.rm_file(file)

    def done(self, names: list[str]) -> np.ndarray:
        """Of the ids in the results, the hashes, uint64."""
        fs, root = url_to_fs(self.out)
        found = [np.zeros(0, np.uint64)]
        for file in self._of(fs, root, names):
            with fs.open(file, "rb") as content:
                found.append(_hashes(pq.read_table(content, columns=["id"])["id"]))
        return np.concatenate(found)

    def check_ids(self, names: list[str]) -> None:
        """
        Raises:
            DataError: Two rows of the table have the same id.
        """
        ids = self.done(names)
        if twice := ids.size - np.unique(ids).size:
            raise DataError(f"{self.out}: {twice} ids of the table are there twice, with a row each; ids must differ.")

    def write(self, name: str, content: bytes) -> None:
        """Whole or not at all."""
        fs, root = url_to_fs(self.out)
        if isinstance(fs, LocalFileSystem):
            with whole(Path(root, name)) as part:
                part.write_bytes(content)
        else:
            fs.pipe_file(f"{root}/{name}", content)

    def _of(self, fs: Any, root: str, names: list[str]) -> list[str]:
        return [file for name in names for file in sorted(fs.glob(f"{root}/{name}-*.parquet"))]


class _Worker:
    """In an actor: rows in, how many of them are done and have failed out."""

    def __init__(self, clips: str, place: Place, work: Work, known: Any):
        self.clips, self.place, self.work = clips, place, work
        self.known = ray.get(known) if isinstance(known, ray.ObjectRef) else known
        self.folder = Path(tempfile.mkdtemp(prefix="selfmm-"))
        (self.folder / PART).mkdir()
        self.processes = Processes(_Fetching(work.job(self.folder)), 1)

    def __call__(self, rows: pa.Table) -> pa.Table:
        if "id" not in rows.column_names:
            rows = rows.append_column("id", rows["clip"])
        rows = rows.filter(pa.array(~np.isin(_hashes(rows["id"]), self.known)))
        given, failures, tasks = rows.to_pylist(), [], {}
        for number, row in enumerate(given):
            try:
                row["clip"] = _where(self.clips, row)
                tasks[number] = self.work.task(number, row)
            except DataError as error:
                failures.append((number, str(error)))
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
        key = hashlib.sha256(repr(given).encode()).hexdigest()[:16]
        for name, table in tables.items():
            content = io.BytesIO()
            pq.write_table(table, content)
            self.place.write(f"{name}-{key}.parquet", content.getvalue())
        for folder in self.folder.iterdir():
            if folder.name != PART:
                shutil.rmtree(folder)
        return pa.table({"done": [len(done)], "failed": [len(failures)]})


@dataclass
class _Fetching:
    """A job whose clips may lie in a store: they are fetched within the time limit of the job."""

    job: Job
    scratch: Path = field(init=False)
    time_limit: float = field(init=False)

    def __post_init__(self):
        self.scratch, self.time_limit = self.job.scratch, self.job.time_limit

    def begin(self) -> Callable[[tuple[int, Any]], Any]:
        return partial(_fetched, do=self.job.begin(), folder=self.scratch)


def _fetched(numbered: tuple[int, Any], do: Callable[[Any], Any], folder: Path) -> Any:
    task = numbered[1]
    with ExitStack() as kept:
        try:
            path = kept.enter_context(_local(task.clip, folder))
        except Exception as error:  # whatever a store may answer
            return told(error)
        return do(replace(task, clip=path))


@contextmanager
def _local(clip: str, folder: Path) -> Iterator[str]:
    """The file, or a copy of it on this machine."""
    fs, path = url_to_fs(clip)
    if not fs.exists(path):
        raise FileNotFoundError(f"there is no file {clip}")
    if isinstance(fs, LocalFileSystem):
        yield path
        return
    copy = folder / f"clip{Path(path).suffix}"
    try:
        fs.get_file(path, str(copy))
        yield str(copy)
    finally:
        copy.unlink(missing_ok=True)


def _where(clips: str, row: Row) -> str:
    """The whole path of a row's clip."""
    clip = row.get("clip")
    if not isinstance(clip, str) or not clip.strip():
        raise DataError("column 'clip': the path is missing")
    if not isinstance(row["id"], str) or not row["id"]:
        raise DataError(f"column 'id': expected text, got {row['id']!r:.40}")
    within = clip.removeprefix(f"{clips}/")
    if not stays_within(within) or "://" in within:
        raise DataError(f"column 'clip': expected a path within {clips}, got {clip!r:.200}")
    return f"{clips}/{within}"


def words(row: Row) -> str | None:
    """What a row says is said."""
    return (row.get("text") or "").strip() or None


def _hashes(ids: pa.ChunkedArray) -> np.ndarray:
    digests = (hashlib.blake2b(str(one).encode(), digest_size=8).digest() for one in ids.to_pylist())
    return np.frombuffer(b"".join(digests), np.uint64)


def _read_table(table: str, work: Work) -> Callable[[], Any]:
    """
    How Ray reads the columns that are wanted, of which the names alone have been looked at.

    Raises:
        DataError: The table cannot be read, or lacks a column.
    """
    fs, path = url_to_fs(table)
    is_csv = path.endswith(".csv")
    if not is_csv and not path.endswith(".parquet"):
        raise DataError(f"{table} is neither .csv nor .parquet; expected a table with the column clip.")
    parse = pa.csv.ParseOptions(newlines_in_values=True)
    try:
        with fs.open(path, "rb") as content:
            names = (pa.csv.open_csv(content, parse_options=parse).schema if is_csv else pq.read_schema(content)).names
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{table} cannot be read: {told(error)}") from error
    if missing := [name for name in ("clip", *work.columns) if name not in names]:
        raise DataError(f"{table} has no column {missing[0]!r}, which a cluster needs; it has {', '.join(names):.300}.")
    columns = [name for name in ("clip", *work.columns, *work.optional) if name in names]
    if not is_csv:
        return partial(ray.data.read_parquet, path, filesystem=fs, columns=columns, num_cpus=READER)
    convert = pa.csv.ConvertOptions(
        column_types=dict.fromkeys(columns, pa.string()), include_columns=columns, strings_can_be_null=False
    )
    return partial(
        ray.data.read_csv, path, filesystem=fs, parse_options=parse, convert_options=convert, num_cpus=READER
    )


@contextmanager
def _cluster(address: str | None) -> Iterator[None]:
    """A cluster that is running, or one of this machine alone, which ends with the work."""
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
    """What an actor ended with."""
    cause: BaseException = error
    while isinstance(cause, ray.exceptions.RayTaskError) and cause.cause is not None:
        cause = cause.cause
    return cause if isinstance(cause, WorkError) else WorkError(told(cause))
