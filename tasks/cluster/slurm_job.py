"""The script of a Slurm job: a Dask worker, and what the cluster's file says it is given."""

from __future__ import annotations

import os
import shlex
import sys
from tempfile import TemporaryDirectory
from typing import Any

from dask_jobqueue.slurm import SLURMJob

from tasks.cluster.dask_config import QUIET
from tasks.cluster.slurm_queue import job_name
from tasks.ledger.paths import DatasetPaths
from tasks.settings.cluster import ClusterSettings, Stage

PROLOGUE_FROM_HERE = ("ITERSEG_HOME", "PREFECT_API_URL")


def job_options(settings: ClusterSettings, stage: Stage, paths: DatasetPaths) -> dict[str, Any]:
    """What dask-jobqueue makes a stage's job script of."""
    given = settings.stage(stage)
    directives = ["--no-requeue", f"--signal=B:USR1@{settings.stop_before_s}"]
    for name in ("gres", "qos", "constraint"):
        value = getattr(given, name)
        directives += [f"--{name}={value}"] if value else []
    exports = [
        f"export {name}={shlex.quote(os.environ[name])}" for name in PROLOGUE_FROM_HERE if name in os.environ
    ]
    # A task that begins while the server is away goes on, and tells of itself when it is back.
    exports.append("export PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED=false")
    # Commands keep Dask quiet, and sbatch gives jobs their environment: a log would not say what was wrong.
    exports.append("export DASK_LOGGING__DISTRIBUTED=info")
    # Dask reads its configuration anew there.
    exports += [f"export DASK_{key.upper().replace('.', '__')}={value}" for key, value in QUIET.items()]
    modules = ["tasks.cluster.stop_signal", *(["tasks.cluster.early_fold"] if stage == "train" else [])]
    preloaded = [word for module in modules for word in ("--preload", module)]
    return {
        "cores": 1,
        "processes": 1,
        "job_cpu": given.cpus,
        "memory": f"{given.memory_gb}GiB",
        "walltime": given.walltime,
        "queue": given.partition,
        "account": given.account,
        "job_name": job_name(paths, stage),
        "job_extra_directives": [*directives, *given.directives],
        "job_script_prologue": [*exports, *given.prologue],
        "log_directory": str(paths.job_logs),
        "interface": settings.interface,
        # The worker is the batch task itself: Slurm signals it and waits for it, and nothing is left. -P:
        # what it imports does not come from the folder in which somebody called `iterseg`.
        "python": f"exec {shlex.quote(sys.executable)} -P",
        "nanny": False,
        "death_timeout": 60,
        # No lifetime: a site's own configuration of Dask would end a worker amid a fold.
        "worker_extra_args": [*preloaded, "--no-dashboard", "--lifetime", "0"],
    }


def script_of(options: dict[str, Any]) -> str:
    """The job script, with words in the place of the addresses that only a run knows."""
    with TemporaryDirectory() as folder:  # a job that is only drawn up makes its folder of logs, too
        job = SLURMJob("tls://SCHEDULER", name="WORKER", **{**options, "log_directory": folder})  # type: ignore[no-untyped-call]
        return str(job.job_script()).replace(folder, options["log_directory"])  # type: ignore[no-untyped-call]
