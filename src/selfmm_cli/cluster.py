"""What `selfmm extract` and `selfmm predict` share on a Ray cluster."""

from enum import StrEnum
from typing import TYPE_CHECKING

from .errors import need

if TYPE_CHECKING:
    from selfmm_hf.cluster.run import Counts
    from selfmm_hf.cluster.work import Work


class Engine(StrEnum):
    local = "local"
    ray = "ray"


ENGINE = "local: the cores of this machine. ray: a Ray cluster; folders and tables may then be URLs, such as s3://bucket/clips."
RAY_ADDRESS = "Address of a running Ray cluster, such as auto. By default, Ray starts on this machine."
GPUS = "GPUs, or a share of one, for each process on the Ray cluster."


def check_engine(engine: Engine, address: str | None, gpus: float) -> None:
    """
    Checks the options of the cluster.
    Raises:
        ValueError: They are given without it.
    """
    if engine == Engine.ray:
        need("ray", "ray")
    elif address is not None or gpus:
        option = "--gpus_per_worker" if address is None else "--ray_address"
        raise ValueError(f"{option} is for --engine ray: add it, or leave {option} out.")


def on_cluster(
    clips: str, table: str, out: str, work: "Work", address: str | None, workers: int | None, gpus: float
) -> int:
    """Works on the cluster and shows how far it is; returns the exit status."""
    from tqdm import tqdm

    from selfmm_hf.cluster.run import run_on_cluster

    with tqdm(unit=" clips", desc="Ray") as bar:

        def tell(counts: "Counts") -> None:
            bar.update(counts.done + counts.failed - bar.n)
            bar.set_postfix(failed=counts.failed, refresh=False)

        counts = run_on_cluster(clips, table, out, work, address, workers, gpus, tell)
    before = f", {counts.before} were done before" if counts.before else ""
    print(f"{counts.done} clips are done{before}; they are in {out}.")
    if counts.gone > 0:
        print(
            f"{counts.gone} of those are of clips that {table} does not have; to be without them, name another folder."
        )
    if counts.warned:
        print(f"damaged: {counts.warned}, of which a part is used; warnings-*.parquet there lists them.")
    if counts.failed:
        print(
            f"FAILED: {counts.failed}; the reasons are in failures-*.parquet there. The same command tries them again."
        )
    return 1 if counts.failed else 0
