"""Slurm: one job is one Dask worker is one thread is one task; jobs come as tasks need them.

Nothing that this starts outlives its use: jobs are named after dataset and stage, and the next run of
a dataset cancels what a killed one left, and waits until it is gone, before it touches a checkpoint.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import dask
from dask_jobqueue.slurm import SLURMCluster, SLURMJob
from distributed.core import Status
from prefect.logging import get_run_logger

from tasks.cluster.avoided import (
    EXCLUDE,
    NO_NODE,
    STRIKES,
    excluded_by,
    is_a_strike,
    keep_away,
    send_elsewhere,
)
from tasks.cluster.dask_parts import OneEach, WatchedJob
from tasks.cluster.slurm_job import job_options, script_of
from tasks.cluster.slurm_queue import (
    CONTROLLER_AWAY_S,
    CONTROLLER_IS_AWAY,
    HERE_AND_NOW,
    LOOK_EVERY_S,
    SUBMIT_LIMIT,
    account_of,
    fence,
    patiently,
    queued,
    refusal,
    waits_for_other_jobs,
)
from tasks.errors import ConfigError, ExternalToolError, TransientError
from tasks.ledger.paths import DatasetPaths
from tasks.settings.cluster import ClusterSettings, Stage

ALIVE = ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING")
NO_WAY = (
    "Its worker did not reach this flow: a firewall may lie between them, or `interface` in the cluster's "
    "file names a network that nodes do not share"
)
LOOKS_BEFORE_GIVING_UP = 4
"""At jobs that died before their worker began, each on other nodes than the last: it is not the nodes."""
ASK_AGAIN_S = 600.0
"""After so long other jobs are asked for again, where fewer are because those before died at once."""
FORGETS_AFTER_S = 20.0
"""Dask strikes a worker off within seconds of its job's end; one that stays is not waited for longer."""


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
    refused = patiently(lambda: refusal(script_of(options)))
    if refused and not patiently(lambda: waits_for_other_jobs(refused)):
        raise ConfigError(f"Slurm refuses the jobs of stage {stage}: {refused}")
    fence(paths)
    dask.config.set(
        {
            # A new job soon after one was lost; and a machine without power is no worker for long.
            "distributed.deploy.lost-worker-timeout": "2s",
            "distributed.scheduler.worker-ttl": "120s",
            "distributed.scheduler.worker-saturation": 1.0,
        }
    )
    paths.job_logs.mkdir(parents=True, exist_ok=True)
    cluster = WatchedCluster(
        full_after_s=settings.queue_is_full_after_min * 60,
        logs_url=settings.logs_url,
        **options,
        job_cls=type("WatchedJob", (WatchedJob,), {"refused": []}),
        # Whoever may send a scheduler work runs it as this user: only those who have its key.
        security=True,
        shared_temp_directory=str(paths.job_logs),
        scheduler_cls=OneEach,
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


class WatchedCluster(SLURMCluster):
    """A cluster that notices jobs which end before their worker begins; Dask waits for them for ever."""

    def __init__(self, *, full_after_s: float, logs_url: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.logs_url = logs_url
        given = self._job_kwargs["job_extra_directives"]
        self._excluded = [d.removeprefix(EXCLUDE) for d in given if d.startswith(EXCLUDE)]
        """What the user keeps away from."""
        self._looked = 0.0
        self._moved = time.monotonic()
        self._full_after_s = full_after_s
        self._told_full = self._told_limit = False
        self._began: set[str] = set()
        self._ended: set[str] = set()
        self._in_a_row = 0
        self._stillborn = 0
        self._lowered_from: float | None = None
        """How many workers may be asked for, where it is fewer now."""
        self._lowered_at_s = 0.0
        self._refused_since: float | None = None
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
        if time.monotonic() - self._looked < LOOK_EVERY_S:
            return None
        self._looked = time.monotonic()
        jobs = dict(self.workers)  # before the queue is read: what is submitted meanwhile is not missed in it
        try:
            known = queued(self.job_name)
        except TransientError:
            return None  # the controller is away; what runs goes on
        # Names of workers are used again, those of jobs never.
        connected = {str(worker["name"]) for worker in list(self.scheduler_info["workers"].values())}
        began = {job.job_id for name, job in jobs.items() if name in connected}
        self._hear_of(began)
        self._forgive_or_raise(bool(known or connected))
        if not known or any(row["state"] != "PENDING" for row in known.values()):
            self._moved = time.monotonic()
        before = dict(self._rows)
        self._rows |= {job_id: self._row(job_id, said) for job_id, said in known.items()}
        self._rows |= {job_id: self._settled(job_id) for job_id in self._rows if job_id not in known}
        gone = {name: job for name, job in jobs.items() if self._is_gone(job, known)}
        self._ended |= {job.job_id for job in gone.values()}
        self._learn_from_the_begun(known, before)
        self._learn([job.job_id for job in gone.values() if job.job_id is not None])
        for name in gone:
            self.end_worker(name)
        return list(self._rows.values()) if self._rows != before else None

    def _hear_of(self, began: set[str]) -> None:
        """Workers that are there, or some time that has passed: what kept jobs from beginning may be over."""
        lowered_for_s = 0.0 if self._lowered_from is None else time.monotonic() - self._lowered_at_s
        if not began - self._began and lowered_for_s < ASK_AGAIN_S:
            return
        self._began |= began
        self._in_a_row = self._stillborn = 0
        if self._lowered_from is not None:
            self._adaptive.maximum, self._lowered_from = self._lowered_from, None

    def _is_gone(self, job: SLURMJob, known: Mapping[str, Any]) -> bool:
        if job.job_id is None:
            return bool(job.status == Status.failed)  # sbatch refused it
        return job.job_id not in known and job.job_id not in self._ended

    def _forgive_or_raise(self, others: bool) -> None:
        """A refusal is forgiven while other jobs hold what it wants, or while the controller is away.

        Other jobs may be those of another dataset.
        """
        refused: list[str] = self.job_cls.refused
        if not refused:
            self._refused_since = None
            return
        words = refused[-1]
        refused.clear()
        if others:
            self._refused_since = None
            return
        try:
            waits = waits_for_other_jobs(words)
        except TransientError:  # the controller is away: nobody knows
            return
        if waits:
            if not self._told_limit:
                get_run_logger().warning("no job more is taken until others of this user end: %s", words)
            self._told_limit, self._refused_since = True, None
            return
        # The jobs that filled a limit may have ended just now.
        away = any(known in words for known in (*CONTROLLER_IS_AWAY, HERE_AND_NOW, SUBMIT_LIMIT))
        self._refused_since = self._refused_since or time.monotonic()
        if not away:
            raise ConfigError(f"sbatch refuses a job: {words}")
        if time.monotonic() - self._refused_since > CONTROLLER_AWAY_S:
            raise TransientError(f"no job can be submitted: {words}")

    def _settled(self, job_id: str) -> dict[str, str]:
        """The last row of a job that is no longer in the queue."""
        row = self._rows[job_id]
        if row["state"] not in ALIVE:
            return row
        said = account_of(job_id)
        return self._row(job_id, _in_brief({"NodeList": row["node"], **said}))

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

    def _learn(self, ended: list[str]) -> None:
        """Learn from jobs that ended by themselves: which nodes to keep away from, and when to give up.

        Looks are counted and not jobs: a node with eight GPUs kills eight at once, before any of them
        could have been told to keep away from it.
        """
        accounts = {job_id: account_of(job_id) for job_id in ended}
        for job_id, said in accounts.items():
            brief = _in_brief(said)
            self._rows[job_id] = self._row(job_id, brief)
            self._strike(job_id)
        listed = excluded_by(self.new_spec["options"]).split(",")
        known_bad = {node for node in listed if self._strikes[node] >= STRIKES}
        avoided = bool(ended) and self._avoid()
        # What was asked for before a node was known to be bad may still go there, and tells nothing new.
        news = [job_id for job_id in ended if self._rows[job_id]["node"] not in known_bad]
        stillborn = [job_id for job_id in news if job_id not in self._began]
        if stillborn:
            # The next ones go elsewhere, where it may be all right.
            self._in_a_row = 0 if avoided else self._in_a_row + 1
            self._stillborn += len(stillborn)
            code = int(accounts[stillborn[-1]].get("ExitCode", "1:0").split(":")[0])
            self._give_up_after_many(stillborn[-1], code)

    def misses_jobs(self) -> bool:
        """Whether there are jobs whose worker is gone, and of which Slurm has not said how they ended."""
        connected = {str(worker["name"]) for worker in list(self.scheduler_info["workers"].values())}
        there = {job.job_id for name, job in dict(self.workers).items() if name in connected}
        return any(self._rows[job]["state"] in ALIVE for job in self._began & self._rows.keys() - there)

    def _learn_from_the_begun(
        self, known: Mapping[str, Any], before: Mapping[str, Mapping[str, str]]
    ) -> None:
        """Learn from jobs that died under their workers, which Dask has let go of before anybody looked."""
        left = [job_id for job_id, row in before.items() if job_id not in known and row["state"] in ALIVE]
        died = [job_id for job_id in left if job_id in self._began - self._ended]
        for job_id in died:
            self._strike(job_id)
        if died:
            self._avoid()

    def _strike(self, job_id: str) -> None:
        row = self._rows[job_id]
        self._strikes[row["node"]] += is_a_strike(row, began=job_id in self._began)

    def end_worker(self, name: str) -> None:
        """End a worker with its job, and wait until nobody counts on it."""
        # Of a job that is asked for in the same breath; `check` hears of it.
        with suppress(RuntimeError, OSError, ValueError):
            self.sync(self.scale_down, [name])
        deadline = time.monotonic() + FORGETS_AFTER_S
        while time.monotonic() < deadline:
            if name not in {str(w["name"]) for w in list(self.scheduler_info["workers"].values())}:
                return
            time.sleep(0.1)

    def blame(self, name: str) -> None:
        """Keep away from the node on which a worker is, or was: what ran there failed."""
        job = self.workers.get(name)
        node = self._rows.get(job.job_id, {}).get("node", "") if job is not None else ""
        if node not in NO_NODE:
            self._strikes[node] = max(STRIKES, self._strikes[node])
            self._avoid()

    def _avoid(self) -> bool:
        options = self.new_spec["options"]
        if not keep_away(options, self._strikes, self._excluded):
            return False
        asked_for = {job.job_id for job in dict(self.workers).values()} - {None, *self._rows}
        waiting = {job_id for job_id, row in self._rows.items() if row.get("state") == "PENDING"}
        send_elsewhere(waiting | asked_for, excluded_by(options))
        return True

    def _give_up_after_many(self, job_id: str, code: int) -> None:
        if self._in_a_row < LOOKS_BEFORE_GIVING_UP:
            return
        if running := len(self.scheduler_info["workers"]):
            # They go on, and do what waits when they are done: only no other job is asked for.
            if self._lowered_from is None:
                self._lowered_from = self._adaptive.maximum
            self._lowered_at_s = time.monotonic()
            self._adaptive.maximum = running
            return
        log, said = self._log(job_id), self._rows[job_id]
        words = log.read_text(errors="replace").strip().splitlines()[-3:] if log.is_file() else []
        if any("Timed out" in line for line in words):
            words.append(NO_WAY)
        why = f"{said['state']}, {said['reason']}, on {said['node']}"
        what = f"{self._stillborn} jobs ended before their worker began; job {job_id} ({why})"
        raise ExternalToolError(what, code, log, "\n".join(words))


def _in_brief(said: Mapping[str, str]) -> dict[str, str]:
    """Of what scontrol says of a job: its state, why, and where."""
    return {
        "state": said.get("JobState", "GONE"),
        "reason": said.get("Reason", "unknown"),
        "node": said.get("NodeList", ""),
    }
