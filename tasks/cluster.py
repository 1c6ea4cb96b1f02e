"""Where tasks run: the Dask cluster made from ``config/clusters/<name>.yaml``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from distributed import KilledWorker
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL
from prefect_dask import DaskTaskRunner

from tasks.errors import ConfigError, IterSegError
from tasks.ledger.paths import home
from tasks.placement import cores, gpus
from tasks.settings import ClusterSettings, load_cluster

Item = TypeVar("Item")

MIN_CHUNK_CASES = 4
"""A task costs about 0.1 s; four cases of half a second each keep that near 5 %."""


def task_runner() -> DaskTaskRunner:
    """The task runner of a flow whose parameters have a ``cluster``.

    The cluster starts when the first task is submitted; a flow with nothing to do starts none.
    """
    return DaskTaskRunner(cluster_class=_cluster_of_this_flow)


def worker_count(settings: ClusterSettings) -> int:
    """How many tasks run at a time."""
    return settings.workers if settings.workers != "auto" else len(gpus()) or cores()


def threads_per_worker(settings: ClusterSettings) -> int:
    """CPU threads for each task, so that together they fill the machine and no more."""
    return max(1, cores() // worker_count(settings))


def chunks(items: Sequence[Item], workers: int) -> list[list[Item]]:
    """Divide items among workers, in pieces that make scheduling cheap."""
    if not items:
        return []
    size = max(MIN_CHUNK_CASES, -(-len(items) // (4 * workers)))
    if len(items) <= MIN_CHUNK_CASES * workers:
        size = -(-len(items) // workers)
    return [list(items[start : start + size]) for start in range(0, len(items), size)]


def outcome_of(future: PrefectFuture[Any]) -> Any:
    """The result of a task, or the exception that ended it; a lost worker is one of them."""
    try:
        return future.result(raise_on_failure=False)
    except KilledWorker:
        return IterSegError("its worker was lost")


def result_of(future: PrefectFuture[Any]) -> Any:
    """The result of a task; raises what ended it."""
    outcome = outcome_of(future)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def _cluster_of_this_flow(**kwargs: Any) -> Any:
    parameters = flow_run.parameters.get("parameters")
    name = parameters.cluster if parameters is not None else "local"
    settings = load_cluster(home() / "config", name)
    if not PREFECT_API_URL.value():
        # Without one, each worker would start a server of its own on one database.
        raise ConfigError(
            "workers need the address of a Prefect server. Run `iterseg`, which starts one, or "
            "`make server` and `prefect config set PREFECT_API_URL=http://127.0.0.1:4200/api`"
        )
    return _local_cluster(settings, **kwargs)


def _local_cluster(settings: ClusterSettings, **kwargs: Any) -> Any:
    import dask
    from distributed import LocalCluster

    # The flow decides what runs again, not Dask behind its back: the first lost worker is told.
    dask.config.set({"distributed.scheduler.allowed-failures": 0})
    limit = settings.memory_limit_gb
    return LocalCluster(
        n_workers=worker_count(settings),
        threads_per_worker=1,
        memory_limit=int(limit * 1e9) if limit else 0,
        dashboard_address="127.0.0.1:0",
        host="127.0.0.1",
        **kwargs,
    )
