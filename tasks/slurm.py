"""Slurm: one job is one Dask worker is one thread is one task; jobs come as tasks need them.

Nothing that this starts outlives its use: jobs are named after dataset and stage, and the next run of
a dataset cancels what a killed one left, and waits until it is gone, before it touches a checkpoint.
"""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dask
from dask_jobqueue.slurm import SLURMCluster, SLURMJob
from distributed.core import Status

from tasks.cluster_settings import ClusterSettings, Stage
from tasks.errors import ConfigError, ExternalToolError, TransientError
from tasks.ledger.paths import DatasetPaths
from tasks.slurm_queue import account_of, fence, job_name, queued, refusal

LOOK_EVERY_S = 3.0
"""Between two looks at the queue: one's own jobs by name are cheap to ask for."""
STRIKES = 2
"""A node on which so many jobs died is avoided for the rest of the run."""
FORGETS_AFTER_S = 20.0
CONTROLLER_IS_AWAY = ("Unable to contact slurm controller", "Socket timed out", "Resource temporarily")
PROLOGUE_FROM_HERE = ("ITERSEG_HOME", "PREFECT_API_URL")


def slurm_cluster(
    settings: ClusterSettings, stage: Stage, paths: DatasetPaths, **kwargs: Any
) -> WatchedCluster:
    """A cluster without jobs that asks for one for each task that waits, up to the stage's ``workers``.

    Raises
    ------
    ConfigError
        Where Slurm would refuse the jobs, with its own words.
    """
    options = job_options(settings, stage, paths)
    refused = refusal(script_of(options))
    if refused:
        raise ConfigError(f"Slurm refuses the jobs of stage {stage}: {refused}")
    fence(paths)
    dask.config.set(
        {
            # A new job soon after one was lost; and a machine without power is no worker for long.
            "distributed.deploy.lost-worker-timeout": "2s",
            "distributed.scheduler.worker-ttl": "120s",
        }
    )
    (paths.logs / "jobs").mkdir(parents=True, exist_ok=True)
    cluster = WatchedCluster(
        full_after_s=settings.queue_is_full_after_min * 60,
        **options,
        job_cls=type("WatchedJob", (_WatchedJob,), {"refused": []}),
        # Whoever may send a scheduler work runs it as this user: only those who have its key.
        security=True,
        shared_temp_directory=str(paths.logs / "jobs"),
        scheduler_options={"dashboard_address": "127.0.0.1:0"},
        **kwargs,
    )
    workers = settings.stage(stage).workers
    cluster.adapt(
        minimum=0,
        maximum=workers if workers != "auto" else float("inf"),
        interval="1s",
        target_duration="0.1s",  # a task that waits is a job that is wanted
    )
    return cluster


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
        "log_directory": str(paths.logs / "jobs"),
        "interface": settings.interface,
        # The worker is the batch task itself: Slurm signals it and waits for it, and nothing is left.
        "python": f"exec {shlex.quote(sys.executable)}",
        "nanny": False,
        "death_timeout": 60,
        "worker_extra_args": ["--preload", "tasks.stop_signal", "--no-dashboard"],
    }


def script_of(options: dict[str, Any]) -> str:
    """The job script, with words in the place of the addresses that only a run knows."""
    with TemporaryDirectory() as folder:  # a job that is only drawn up makes its folder of logs, too
        job = SLURMJob("tls://SCHEDULER", name="WORKER", **{**options, "log_directory": folder})  # type: ignore[no-untyped-call]
        return str(job.job_script()).replace(folder, options["log_directory"])  # type: ignore[no-untyped-call]


class _WatchedJob(SLURMJob):
    """A job that remembers what sbatch had against it: Dask would ask again every second, for ever."""

    refused: list[str]

    async def start(self) -> None:
        try:
            await super().start()  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            words = str(error).split("stderr:\n")[-1].strip()
            if not any(known in words for known in CONTROLLER_IS_AWAY):
                self.refused.append(words)
            raise

    async def close(self) -> None:
        await super().close()  # type: ignore[no-untyped-call]
        # dask-jobqueue leaves it running, and the cluster's own end stumbles over that.
        self.status = Status.closed


class WatchedCluster(SLURMCluster):
    """A cluster that notices jobs which end before their worker begins; Dask waits for them for ever."""

    def __init__(self, *, full_after_s: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._looked = 0.0
        self._moved = time.monotonic()
        self._full_after_s = full_after_s
        self._told_full = False
        self._began: set[str] = set()
        self._ended: set[str] = set()
        self._in_a_row = 0
        self._strikes: Counter[str] = Counter()
        self._rows: dict[str, dict[str, str]] = {}

    def check(self) -> list[dict[str, str]] | None:
        """Let go of jobs that are no more, so that others take their place.

        Returns
        -------
        A row for each job so far, where something has changed: ``job``, ``state``, ``reason``, ``node``
        and ``log``.

        Raises
        ------
        ConfigError
            Where sbatch refuses a job.
        ExternalToolError
            Where job after job ends before its worker begins, with Slurm's reason and the job's log.
        """
        refused: list[str] = self.job_cls.refused
        if refused:
            raise ConfigError(f"sbatch refuses a job: {refused[-1]}")
        if time.monotonic() - self._looked < LOOK_EVERY_S:
            return None
        self._looked = time.monotonic()
        try:
            known = queued(self.job_name)
        except TransientError:
            return None  # the controller is away; what runs goes on
        # Names of workers are used again, those of jobs never.
        connected = {str(worker["name"]) for worker in self.scheduler_info["workers"].values()}
        began = {job.job_id for name, job in self.workers.items() if name in connected}
        if began - self._began:
            self._began |= began
            self._in_a_row = 0
        if not known or any(row["state"] != "PENDING" for row in known.values()):
            self._moved = time.monotonic()
        before = dict(self._rows)
        self._rows |= {job_id: self._row(job_id, said) for job_id, said in known.items()}
        for name, job in list(self.workers.items()):
            if job.job_id is None or job.job_id in known or job.job_id in self._ended:
                continue
            self._ended.add(job.job_id)
            self._bury(job.job_id)
            self.end_worker(name)
        return list(self._rows.values()) if self._rows != before else None

    def queue_is_full(self) -> list[dict[str, str]]:
        """The jobs that wait, once and only where none has run for long; else none."""
        if self._told_full or time.monotonic() - self._moved < self._full_after_s:
            return []
        self._told_full = True
        return [row for row in self._rows.values() if row["state"] == "PENDING"]

    def _row(self, job_id: str, said: dict[str, str]) -> dict[str, str]:
        return {"job": job_id, **said, "log": str(self._log(job_id))}

    def _log(self, job_id: str) -> Path:
        return Path(self._job_kwargs["log_directory"]) / f"{self.job_name}-{job_id}.err"

    def _bury(self, job_id: str) -> None:
        """Learn from a job that ended by itself."""
        said = account_of(job_id)
        node = said.get("NodeList", "")
        account = {
            "state": said.get("JobState", "gone"),
            "reason": said.get("Reason", "unknown"),
            "node": node,
        }
        self._rows[job_id] = self._row(job_id, account)
        self._avoid(node)
        if job_id not in self._began:
            self._in_a_row += 1
            self._give_up_after_many(job_id, account, int(said.get("ExitCode", "1:0").split(":")[0]))

    def end_worker(self, name: str) -> None:
        """End a worker with its job, and wait until nobody counts on it."""
        self.sync(self.scale_down, [name])
        deadline = time.monotonic() + FORGETS_AFTER_S
        while time.monotonic() < deadline:
            if name not in {str(w["name"]) for w in self.scheduler_info["workers"].values()}:
                return
            time.sleep(0.1)

    def _avoid(self, node: str) -> None:
        """Where jobs die one after another, others shall not follow, as long as there are other nodes."""
        self._strikes[node] += bool(node)
        bad = sorted(node for node, strikes in self._strikes.items() if strikes >= STRIKES)
        options = self.new_spec["options"]
        kept = [d for d in options["job_extra_directives"] if not d.startswith("--exclude=")]
        directives = [*kept, f"--exclude={','.join(bad)}"]
        if bad and refusal(script_of({**self._plain_options(), "job_extra_directives": directives})) is None:
            options["job_extra_directives"] = directives

    def _plain_options(self) -> dict[str, Any]:
        own = ("config_name", "protocol", "security")
        return {key: value for key, value in self.new_spec["options"].items() if key not in own}

    def _give_up_after_many(self, job_id: str, said: dict[str, str], code: int) -> None:
        if self._in_a_row < 2 * STRIKES:
            return
        log = self._log(job_id)
        words = log.read_text(errors="replace").strip().splitlines()[-3:] if log.is_file() else []
        why = f"{said['state']}, {said['reason']}, on {said['node']}"
        what = f"{self._in_a_row} jobs ended before their worker began; job {job_id} ({why})"
        raise ExternalToolError(what, code, log, "\n".join(words))
