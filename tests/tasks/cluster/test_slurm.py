"""What a cluster learns from jobs that end by themselves, and from those that Slurm refuses."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prefect.logging import disable_run_logger

from tasks.cluster.slurm import CONTROLLER_AWAY_S, WatchedCluster
from tasks.cluster.slurm_queue import FENCE_S, HERE_AND_NOW, end_of_this_job, fence
from tasks.errors import ConfigError, ExternalToolError, TransientError
from tasks.ledger.paths import DatasetPaths

AWAY = "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)"
LIMIT = "sbatch: error: QOSMaxSubmitJobPerUserLimit"


def test_while_folds_run_no_job_that_dies_ends_them(
    cluster: WatchedCluster, nodes: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module that is updated breaks the prologue of all that begin from now on: no more are asked for."""
    running: dict[str, Any] = {"tls://node1": {}, "tls://node2": {}}
    vars(cluster).update(scheduler_info={"workers": running}, _adaptive=SimpleNamespace(maximum=5))
    nodes.update({str(job): f"node{job}" for job in range(40)})
    for look in range(6):
        cluster._learn([str(2 * look), str(2 * look + 1)])
    assert cluster._adaptive.maximum == 2
    cluster._hear_of({"99"})
    assert cluster._adaptive.maximum == 5, "jobs begin again"
    for look in range(8, 12):
        cluster._learn([str(2 * look), str(2 * look + 1)])
    assert cluster._adaptive.maximum == 2
    cluster._hear_of(set())
    assert cluster._adaptive.maximum == 2, "a moment later"
    monkeypatch.setattr("tasks.cluster.slurm.ASK_AGAIN_S", 0.0)
    cluster._hear_of(set())
    assert cluster._adaptive.maximum == 5, "what kept them from it may be over"
    for look in range(12, 16):
        cluster._learn([str(2 * look), str(2 * look + 1)])
    running.clear()
    with pytest.raises(ExternalToolError, match="jobs ended before their worker began"):
        cluster._learn(["12", "13"])


def test_after_four_looks_at_jobs_that_died_at_once_it_gives_up(
    cluster: WatchedCluster, nodes: dict[str, str]
) -> None:
    nodes.update({str(job): f"node{job}" for job in range(8)})
    for look in range(3):
        cluster._learn([str(2 * look), str(2 * look + 1)])
    with pytest.raises(ExternalToolError, match=r"8 jobs ended before .* began; job 7 \(FAILED") as caught:
        cluster._learn(["6", "7"])
    assert caught.value.returncode == 7


@pytest.mark.parametrize(
    ("log", "told"),
    [
        ("", False),  # a prologue that ended it says nothing
        ("distributed.worker - INFO - Start\nTimed out trying to connect to tls://10.0.0.1:40000\n", True),
        ("ModuleNotFoundError: No module named 'distributed'\n", False),
    ],
)
def test_a_worker_that_could_not_reach_the_flow_is_told_from_one_that_could_not_begin(
    cluster: WatchedCluster, nodes: dict[str, str], tmp_path: Path, log: str, told: bool
) -> None:
    nodes.update({str(job): f"node{job}" for job in range(4)})
    (tmp_path / "iterseg-x-D-train-3.err").write_text(log)
    with pytest.raises(ExternalToolError) as caught:
        for job in nodes:
            cluster._learn([job])
    assert ("a firewall may lie between them" in str(caught.value)) is told
    assert "".join(log.splitlines()[-1:]) in str(caught.value)


@pytest.mark.parametrize("words", [AWAY, LIMIT])
def test_a_refusal_is_forgiven_while_other_jobs_run(cluster: WatchedCluster, words: str) -> None:
    cluster.job_cls.refused.append(words)
    cluster._forgive_or_raise(others=True)
    assert cluster.job_cls.refused == []


@pytest.mark.parametrize("queue", ["71\n72\n", TransientError("Socket timed out")])
def test_a_limit_that_another_dataset_has_filled_is_waited_for(
    cluster: WatchedCluster, monkeypatch: pytest.MonkeyPatch, queue: str | TransientError
) -> None:
    """However long its jobs take, and also while nobody can say whether there are any."""
    now = [1000.0]

    def squeue(*_: str) -> str:
        if isinstance(queue, TransientError):
            raise queue
        return queue

    monkeypatch.setattr("tasks.cluster.slurm.time.monotonic", lambda: now[0])
    monkeypatch.setattr("tasks.cluster.slurm_queue.slurm", squeue)
    with disable_run_logger():
        for now[0] in (1000.0, 1001.0 + CONTROLLER_AWAY_S, 1000.0 + 9 * CONTROLLER_AWAY_S):
            cluster.job_cls.refused.append(LIMIT)
            cluster._forgive_or_raise(others=False)


def test_the_grace_of_a_refusal_begins_anew_after_others_were_waited_for(
    cluster: WatchedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For hours they fill the limit, and for a moment in between nobody has a job."""
    now, queue = [0.0], [""]
    monkeypatch.setattr("tasks.cluster.slurm.time.monotonic", lambda: now[0])
    monkeypatch.setattr("tasks.cluster.slurm_queue.slurm", lambda *_: queue[0])
    monkeypatch.setenv("SLURM_JOB_ID", "70")
    with disable_run_logger():
        for now[0], queue[0] in ((1.0, "70"), (2.0, "70 71"), (2 + 2 * CONTROLLER_AWAY_S, "70")):
            cluster.job_cls.refused.append(LIMIT)
            cluster._forgive_or_raise(others=False)
    now[0] += 1 + CONTROLLER_AWAY_S
    cluster.job_cls.refused.append(LIMIT)
    with pytest.raises(TransientError, match="no job can be submitted"):
        cluster._forgive_or_raise(others=False)


@pytest.mark.parametrize("error", [RuntimeError("sbatch"), BlockingIOError(11, "x"), ValueError("no id")])
def test_a_job_that_fails_while_a_worker_is_ended_ends_nobody_else(
    cluster: WatchedCluster, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def sync(*_: Any) -> None:
        raise error

    monkeypatch.setattr(cluster, "sync", sync)
    cluster.end_worker("w")


def test_a_refusal_with_nothing_to_wait_for_is_the_users_to_mend(cluster: WatchedCluster) -> None:
    cluster.job_cls.refused.append("sbatch: error: invalid partition specified: moon")
    with pytest.raises(ConfigError, match="invalid partition"):
        cluster._forgive_or_raise(others=False)


@pytest.mark.parametrize("words", [AWAY, LIMIT, f"sbatch {HERE_AND_NOW}: Resource temporarily unavailable"])
def test_a_controller_that_restarts_is_waited_for_and_one_that_stays_away_is_not(
    cluster: WatchedCluster, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    now = [1000.0]
    monkeypatch.setattr("tasks.cluster.slurm.time.monotonic", lambda: now[0])
    monkeypatch.setattr("tasks.cluster.slurm_queue.slurm", lambda *_: "")
    for since_s in (0, CONTROLLER_AWAY_S / 2):
        now[0] = 1000.0 + since_s
        cluster.job_cls.refused.append(words)
        cluster._forgive_or_raise(others=False)
    now[0] = 1000.0 + CONTROLLER_AWAY_S + 1
    cluster.job_cls.refused.append(words)
    with pytest.raises(TransientError, match="no job can be submitted"):
        cluster._forgive_or_raise(others=False)


def test_where_there_is_no_squeue_a_job_has_no_known_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a node without Slurm's commands, or in a container."""
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("PATH", "/nowhere")
    assert end_of_this_job() is None


@pytest.mark.parametrize(
    ("state", "words"),
    [("COMPLETING", None), ("RUNNING", "jobs 7 of an earlier run do not end")],
)
def test_a_node_that_does_not_say_that_a_job_has_ended_keeps_nobody_waiting(
    home: Path, monkeypatch: pytest.MonkeyPatch, state: str, words: str | None
) -> None:
    """A dead node, or a long epilog: what the job ran was killed. What runs on is another matter."""
    now, cancelled = [0.0], []
    monkeypatch.setattr("tasks.cluster.slurm_queue.time.monotonic", lambda: now[0])
    monkeypatch.setattr("tasks.cluster.slurm_queue.time.sleep", lambda s: now.append(now.pop() + s))
    monkeypatch.setattr("tasks.cluster.slurm_queue.queued", lambda _: {"7": {"state": state}})
    monkeypatch.setattr("tasks.cluster.slurm_queue.slurm", lambda *command: cancelled.append(command))
    if words is None:
        assert fence(DatasetPaths.of("D")) == ["7"]
    else:
        with pytest.raises(TransientError, match=words):
            fence(DatasetPaths.of("D"))
    assert now[0] > FENCE_S
    assert cancelled == [("scancel", "7")]


def test_a_controller_that_hiccups_does_not_end_the_night(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[Any] = [
        TransientError("Socket timed out"),
        {"7": {"state": "RUNNING"}},
        TransientError("x"),
        {},
    ]

    def queued(_: str) -> Any:
        said = left.pop(0)
        if isinstance(said, Exception):
            raise said
        return said

    monkeypatch.setattr("tasks.cluster.slurm_queue.time.sleep", lambda _: None)
    monkeypatch.setattr("tasks.cluster.slurm_queue.queued", queued)
    monkeypatch.setattr("tasks.cluster.slurm_queue.slurm", lambda *_: "")
    assert fence(DatasetPaths.of("D")) == ["7"]
    assert left == []
