"""Where tasks run: the Dask cluster made from ``config/clusters/<name>.yaml``."""

from __future__ import annotations

import os
import re
import signal
import socket
import tempfile
from collections.abc import Iterable, Sequence
from multiprocessing import forkserver
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlparse

from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL
from prefect.task_runners import TaskRunner

from tasks.cluster.placement import cores, gpus
from tasks.errors import ConfigError
from tasks.ledger.home import config_folder
from tasks.ledger.paths import DatasetPaths
from tasks.processes.program import on_threads
from tasks.settings.cluster import Allocation, ClusterSettings, Stage, load_cluster

Item = TypeVar("Item")

LOOPBACK = re.compile(r"127\..*|localhost|::1|0\.0\.0\.0|::")
"""An address that means another machine on every node; of the last two, which a server listens on, none."""
MIN_CHUNK_CASES = 4
"""A task costs about 0.1 s; four cases of half a second each keep that near 5 %."""
PIECES_PER_WORKER = 4
"""So that one who has the larger cases does not keep the others waiting long."""
WORTH_WORKERS_BYTES = 100_000_000
"""Of DICOM or NIfTI. One process converts or preprocesses it in about 4 s; the start of two workers takes
6 s on two cores, and a job its time in the queue."""
GB_OF_A_CASE = 4.0
"""A CT of 512 x 512 x 400 with its label took 0.8 while it was converted; some are several times as large."""
MOST_THAT_PREPARE = 8
"""Workers of this machine, unless more are asked for: each holds a case. As many as nnU-Net has."""


def task_runner(stage: Stage) -> TaskRunner[Any]:
    """The task runner of a flow whose parameters are ``dataset_id`` and ``cluster``."""
    return _LateDask(stage)


class _LateDask(TaskRunner[PrefectFuture[Any]]):
    """Dask's, begun with the first task that is submitted.

    A flow with little to do submits none, and needs neither a cluster nor the third of a second that Dask's
    import takes.
    """

    def __init__(self, stage: Stage) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._stage: Stage = stage
        self._dask: Any = None

    def duplicate(self) -> _LateDask:
        return _LateDask(self._stage)

    def submit(self, task: Any, *arguments: Any, **options: Any) -> Any:
        if self._dask is None:
            from prefect_dask import DaskTaskRunner

            def cluster(**kwargs: Any) -> Any:
                return _cluster_of_this_flow(self._stage, task.fn.__module__, **kwargs)

            self._dask = DaskTaskRunner(cluster_class=cluster)
            self._dask.__enter__()
        return self._dask.submit(task, *arguments, **options)

    @property
    def _cluster(self) -> Any:
        """As Dask's has it; None while there is none."""
        return getattr(self._dask, "_cluster", None)

    def __exit__(self, *error: Any) -> None:
        try:
            if self._dask is not None:
                self._dask.__exit__(*error)
        finally:
            super().__exit__(*error)


def worker_count(settings: ClusterSettings, stage: Stage) -> int:
    """How many workers work is divided among.

    With ``auto`` on Slurm it is not divided: each task has a job of its own.
    """
    workers = settings.stage(stage).workers
    if workers != "auto":
        return workers
    if settings.kind == "slurm":
        return 1
    if stage == "prepare":  # no GPU helps there
        return min(cores(), MOST_THAT_PREPARE)
    return len(gpus()) or cores()


def threads_per_worker(settings: ClusterSettings, stage: Stage, workers: int | None = None) -> int:
    """CPU threads for each task: what its job is given, or so many that they fill the machine."""
    allocated = settings.stage(stage).cpus
    return allocated or max(1, cores() // (workers or worker_count(settings, stage)))


def converted_at_once(settings: ClusterSettings) -> int:
    """How many cases a worker converts at a time: what its job has cores and memory for; locally one."""
    given = settings.stage("prepare")
    if settings.kind == "local":
        return 1
    return max(1, min(given.cpus or 1, int((given.memory_gb or 0) // GB_OF_A_CASE)))


def chunks(
    items: Sequence[Item], workers: int, pieces_per_worker: int = PIECES_PER_WORKER
) -> list[list[Item]]:
    """Divide items among workers, in pieces that make scheduling cheap."""
    if not items:
        return []
    size = max(MIN_CHUNK_CASES, -(-len(items) // (pieces_per_worker * workers)))
    if len(items) <= MIN_CHUNK_CASES * workers:
        size = -(-len(items) // workers)
    return [list(items[start : start + size]) for start in range(0, len(items), size)]


def worth_workers(files: Iterable[Path]) -> bool:
    """Whether reading so much is more work than the start of the workers that would share it."""
    return sum(_bytes_of(file) for file in files) > WORTH_WORKERS_BYTES


def _bytes_of(file: Path) -> int:
    """None of one that cannot be looked at: whoever is to read it says what is wrong with it."""
    try:
        return file.stat().st_size
    except OSError:
        return 0


def is_reachable_from_nodes(url: str, settings: ClusterSettings) -> bool:
    """Whether an address can mean the same machine on every node; all may be one host, on ``lo``."""
    host = urlparse(url).hostname or ""
    return settings.interface == "lo" or LOOPBACK.fullmatch(host) is None


def _cluster_of_this_flow(stage: Stage, module: str, **kwargs: Any) -> Any:
    dataset_id = flow_run.parameters.get("dataset_id")
    settings = load_cluster(config_folder(), flow_run.parameters.get("cluster") or "local")
    if not PREFECT_API_URL.value():
        # Without one, each worker would start a server of its own on one database.
        raise ConfigError(
            "workers need the address of a Prefect server. Run `iterseg`, which starts one, or "
            "`make server` and `prefect config set PREFECT_API_URL=http://127.0.0.1:4200/api`"
        )
    from tasks.cluster.dask_config import forget_other_configuration

    forget_other_configuration()
    if settings.kind == "slurm":
        if not is_reachable_from_nodes(PREFECT_API_URL.value(), settings):
            raise ConfigError(
                f"jobs cannot reach Prefect's server at {PREFECT_API_URL.value()}: start one with "
                "`HOST=0.0.0.0 PREFECT_SERVER_API_AUTH_STRING=name:secret make server`, and set "
                "PREFECT_API_URL to its address as nodes see it, and PREFECT_API_AUTH_STRING"
            )
        # The import of dask-jobqueue makes Ctrl-C end this process as if all were well, with exit code 0.
        ctrl_c = signal.getsignal(signal.SIGINT)
        from tasks.cluster.slurm import slurm_cluster

        signal.signal(signal.SIGINT, ctrl_c)
        return slurm_cluster(settings, stage, DatasetPaths.of(dataset_id), **kwargs)
    return local_cluster(settings.stage(stage), worker_count(settings, stage), module, **kwargs)


def local_cluster(allocation: Allocation, workers: int, module: str, **kwargs: Any) -> Any:
    """Dask's cluster of this machine: workers of one thread each.

    They are forks of one process that has imported the ``module`` of their tasks, which takes seconds, once
    for all of them and for the stages that follow.
    """
    import dask
    from distributed import LocalCluster
    from distributed.utils import get_mp_context

    method = "forkserver" if _sockets_can_be_bound() else "spawn"
    dask.config.set(
        {
            # What Dask gives its workers at their start, but for ``MALLOC_TRIM_THRESHOLD_``: memory given
            # back at every turn made conversions take 32 s that take 23, and an epoch 30 s that takes 15.
            "distributed.nanny.pre-spawn-environ": on_threads(1),
            "distributed.worker.multiprocessing-method": method,
        }
    )
    # After Dask's own choice, which the first call makes.
    context = get_mp_context()
    if method == "forkserver":
        context.set_forkserver_preload(["distributed", "prefect_dask", module])
        _begin_forkserver()
    limit = allocation.memory_gb
    return LocalCluster(
        # As it is now, not as it was when the process that is forked began.
        env={**os.environ, **on_threads(1)},
        n_workers=workers,
        threads_per_worker=1,
        memory_limit=int(limit * 1024**3) if limit else 0,
        dashboard_address="127.0.0.1:0",
        host="127.0.0.1",
        # Scheduler and workers run what they are sent: without it anybody's who has an account here.
        security=True,
        **kwargs,
    )


def _sockets_can_be_bound() -> bool:
    """Whether forks can be asked for: through a Unix socket in the folder of temporary files.

    Its path takes 107 bytes (``sun_path`` of unix(7)), and some file systems of networks take none.
    """
    with tempfile.TemporaryDirectory(prefix="pymp-") as folder, socket.socket(socket.AF_UNIX) as one:
        try:
            one.bind(f"{folder}/listener-01234567")  # as long as multiprocessing's own
        except OSError:
            return False
    return True


def _begin_forkserver() -> None:
    """Begin the process that is forked, unless it lives; it imports nothing from the current folder.

    Before Python 3.13 it looks there first: a ``tasks.py`` of somebody else would be run.
    """
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = before
