"""What Slurm's own commands say: of jobs that wait, run and ended, and of those that it would refuse."""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from tasks.errors import ConfigError, TransientError
from tasks.ledger.paths import DatasetPaths
from tasks.settings.cluster import STAGES

CONTROLLER_IS_AWAY = (
    "Unable to contact slurm controller",
    "Socket timed out",
    "Connection refused",
    "DNS SRV",
    "Could not establish",
    "Zero Bytes were transmitted",
    "standby mode",
    "temporarily unable",
)
SUBMIT_LIMIT = "SubmitJob"
"""In what Slurm says of a user or an account who may have no more jobs in the queue (QOSMaxSubmitJob…)."""
CONTROLLER_AWAY_S = 600.0
"""A controller that restarts, or a network that hiccups, is back by then."""
ANSWER_S = 60.0
"""For one of Slurm's commands: a controller that is busy keeps them waiting for its own ten to thirty."""
LOOK_EVERY_S = 3.0
"""Between two looks at the queue."""
HERE_AND_NOW = "could not be started on this machine"
"""What a fork that failed says: of a login node whose limit of processes or memory is reached."""
FENCE_S = 120.0
"""How long a cancelled job may take to end: Slurm's KillWait is 30 s."""
T = TypeVar("T")


def patiently(ask: Callable[[], T]) -> T:
    """Ask Slurm, again and again while its controller is away; :class:`TransientError` if it stays so."""
    deadline = time.monotonic() + CONTROLLER_AWAY_S
    while True:
        try:
            return ask()
        except TransientError:
            if time.monotonic() > deadline:
                raise
            time.sleep(LOOK_EVERY_S)


def job_name(paths: DatasetPaths, stage: str) -> str:
    """Tells whose job it is: two labs of one user on one cluster may both have a dataset ``liver``."""
    home = hashlib.sha256(str(paths.home.resolve()).encode()).hexdigest()[:8]
    return f"iterseg-{home}-{paths.dataset_id}-{stage}"


def refusal(script: str) -> str | None:
    """What Slurm has against a job script, in its own words; nothing is queued.

    Raises
    ------
    TransientError
        Where its controller is away.
    """
    try:
        done = subprocess.run(
            ["sbatch", "--test-only"],
            input=script,
            capture_output=True,
            text=True,
            check=False,
            timeout=ANSWER_S,
        )
    except FileNotFoundError:
        return "there is no sbatch on this machine; run the flow where jobs can be submitted"
    except subprocess.TimeoutExpired:
        raise TransientError("sbatch does not answer") from None
    except OSError as error:
        raise TransientError(f"sbatch {HERE_AND_NOW}: {error.strerror}") from error
    if done.returncode == 0:
        return None
    if any(known in done.stderr for known in CONTROLLER_IS_AWAY):
        raise TransientError(f"sbatch: {done.stderr.strip()}")
    lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
    return "; ".join(lines) or f"sbatch ended with {done.returncode}"


def fence(paths: DatasetPaths) -> list[str]:
    """Cancel the jobs that earlier runs of this dataset left, and wait until they are gone.

    The caller holds the dataset's lock: whoever started them is gone. A job whose node does not say that it
    has ended, since it is dead or its epilog is long, is not waited for: what it ran was killed, and where
    it lives on it finds another attempt's name on its fold.

    Returns
    -------
    The ids of the jobs.

    Raises
    ------
    TransientError
        Where they do not go, or Slurm's controller stays away.
    """
    names = ",".join(job_name(paths, stage) for stage in STAGES)
    left = list(patiently(lambda: queued(names)))
    if left:
        patiently(lambda: slurm("scancel", *left))
    deadline = time.monotonic() + FENCE_S
    while known := patiently(lambda: queued(names)):
        if time.monotonic() > deadline:
            alive = [job_id for job_id, row in known.items() if row["state"] != "COMPLETING"]
            if alive:
                raise TransientError(
                    f"jobs {', '.join(alive)} of an earlier run do not end; run it again later"
                )
            break
        time.sleep(1)
    return left


def waits_for_other_jobs(refused: str) -> bool:
    """Whether a job is refused for the number of this user's jobs, and some of them are there to end.

    The job in which this runs is none of them.
    """
    if SUBMIT_LIMIT not in refused:
        return False
    jobs = set(slurm("squeue", "--me", "--noheader", "--format=%A").split())
    return bool(jobs - {os.environ.get("SLURM_JOB_ID")})


def queued(names: str) -> dict[str, dict[str, str]]:
    """The jobs of some names that wait, run or end: id → state, reason and node, as squeue(1) has them."""
    said = slurm("squeue", "--me", "--noheader", "--name", names, "--format=%i|%T|%r|%N")
    rows = [line.strip().split("|", 3) for line in said.splitlines() if line.strip()]
    return {row[0]: {"state": row[1], "reason": row[2], "node": row[3]} for row in rows}


def end_of_this_job() -> float | None:
    """When the job ends in which this runs, in seconds since the epoch; None outside, or without a limit."""
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        return None
    try:
        said = slurm("squeue", "--noheader", "--jobs", job, "--format=%e").strip()
        return datetime.fromisoformat(said).timestamp()
    except (ConfigError, TransientError, ValueError):  # no squeue here, the controller is away, or "N/A"
        return None


def slurm(*command: str) -> str:
    """What one of Slurm's commands prints.

    Raises
    ------
    ConfigError
        Where it is not on this machine.
    TransientError
        Where it fails, does not answer, or cannot be started.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=ANSWER_S)
    except FileNotFoundError:
        raise ConfigError(f"there is no {command[0]} on this machine; Slurm's commands are needed") from None
    except subprocess.TimeoutExpired:
        raise TransientError(f"{command[0]} does not answer") from None
    except OSError as error:
        raise TransientError(f"{command[0]} {HERE_AND_NOW}: {error.strerror}") from error
    if done.returncode != 0:
        raise TransientError(f"{command[0]}: {done.stderr.strip()}")
    return done.stdout


def account_of(job_id: str) -> dict[str, str]:
    """What Slurm still knows of a job that ended; nothing where it has forgotten."""
    try:
        said = slurm("scontrol", "show", "job", "--oneliner", job_id)
    except TransientError:
        return {}
    return dict(part.split("=", 1) for part in said.split() if "=" in part)
