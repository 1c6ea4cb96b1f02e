"""A job that cannot be submitted is known as such, and one that is to end is ended."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed.core import Status

from tasks.cluster.dask_parts import CANCEL_TRIES, WatchedJob
from tasks.cluster.slurm_queue import HERE_AND_NOW

AWAY = RuntimeError("stderr:\nscancel: error: Unable to contact slurm controller (connect failure)\n")
ENDED = RuntimeError("stderr:\nscancel: error: Kill job error on job id 7: Invalid job id specified\n")
FULL = BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WatchedJob:
    kind = type("Job", (WatchedJob,), {"refused": []})
    monkeypatch.setattr("tasks.cluster.dask_parts.CANCEL_AGAIN_S", 0.0)
    given = {"cores": 1, "processes": 1, "memory": "1GiB", "log_directory": str(tmp_path)}
    made: WatchedJob = kind("tcp://127.0.0.1:1", name="w", **given)
    return made


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (RuntimeError("stderr:\nsbatch: error: invalid partition"), "sbatch: error: invalid partition"),
        (FULL, f"sbatch {HERE_AND_NOW}: Resource temporarily unavailable"),
        ("Welcome to the cluster!", "Could not parse job id from submission command output."),
    ],
)
def test_a_job_that_sbatch_does_not_take_is_known(
    job: WatchedJob, monkeypatch: pytest.MonkeyPatch, said: Exception | str, words: str
) -> None:
    """Else Dask takes it for one that waits, and the night waits for it for ever."""

    async def submit(_: str) -> str:
        if isinstance(said, Exception):
            raise said
        return said

    monkeypatch.setattr(job, "_submit_job", submit)
    with pytest.raises((RuntimeError, OSError, ValueError)):
        asyncio.run(job.start())
    assert job.status == Status.failed
    assert [words in told for told in job.refused] == [True]


@pytest.mark.parametrize(
    ("answers", "asked"),
    [
        ([""], 1),
        ([ENDED], 1),
        ([AWAY, ""], 2),
        ([FULL, AWAY, ""], 3),
        ([AWAY] * 9, CANCEL_TRIES),
    ],
)
def test_a_job_is_cancelled_though_the_controller_is_away_for_a_moment(
    job: WatchedJob, monkeypatch: pytest.MonkeyPatch, answers: list[Exception | str], asked: int
) -> None:
    left: Iterator[Exception | str] = iter(answers)
    commands: list[list[str]] = []

    async def call(command: list[str]) -> str:
        commands.append(command)
        answer = next(left)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(type(job), "_call", staticmethod(call))
    job.job_id = "7"
    asyncio.run(job.close())
    assert commands == [["scancel", "7"]] * asked
    assert job.status == Status.closed
