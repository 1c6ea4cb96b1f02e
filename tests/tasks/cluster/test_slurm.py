"""What a cluster learns from jobs that end by themselves, and from those that Slurm refuses."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.cluster.slurm import CONTROLLER_AWAY_S, WatchedCluster
from tasks.cluster.slurm_queue import end_of_this_job
from tasks.errors import ConfigError, ExternalToolError, TransientError

AWAY = "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)"
FAILED = {"JobState": "FAILED", "Reason": "NonZeroExitCode", "ExitCode": "7:0"}
LIMIT = "sbatch: error: QOSMaxSubmitJobPerUserLimit"


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Job → the node on which it died."""
    found: dict[str, str] = {}
    monkeypatch.setattr(
        "tasks.cluster.slurm.account_of",
        lambda job: {**FAILED, "NodeList": found[job]},
    )
    monkeypatch.setattr("tasks.cluster.slurm.refusal", lambda _script: None)
    monkeypatch.setattr("tasks.cluster.slurm.script_of", str)
    return found


@pytest.fixture
def cluster(tmp_path: Any) -> WatchedCluster:
    """What decides, without a scheduler and without Slurm."""
    cluster = object.__new__(WatchedCluster)
    options = {"job_extra_directives": ["--gres=gpu:1", "--exclude=node7"], "job_name": "iterseg-x-D-train"}
    vars(cluster).update(
        _excluded=["node7"],
        _strikes=Counter(),
        _began=set(),
        _rows={},
        _in_a_row=0,
        _stillborn=0,
        _refused_since=None,
        _job_kwargs={**options, "log_directory": str(tmp_path)},
        new_spec={"options": options},
        job_cls=SimpleNamespace(refused=[]),
    )
    return cluster


@pytest.fixture(autouse=True)
def _name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WatchedCluster, "job_name", "iterseg-x-D-train")


def directives(cluster: WatchedCluster) -> list[str]:
    found: list[str] = cluster.new_spec["options"]["job_extra_directives"]
    return found


def test_a_node_with_eight_gpus_that_kills_eight_jobs_at_once_is_avoided(
    cluster: WatchedCluster, nodes: dict[str, str]
) -> None:
    nodes.update({str(job): "node3" for job in range(8)})
    cluster._learn(list(nodes))
    assert directives(cluster) == ["--gres=gpu:1", "--exclude=node7,node3"]


def test_what_the_user_excludes_stays_excluded(cluster: WatchedCluster, nodes: dict[str, str]) -> None:
    for number, node in enumerate(["node3", "node3", "node4", "node4"]):
        nodes[str(number)] = node
        cluster._began.add(str(number))
        cluster._learn([str(number)])
    assert directives(cluster) == ["--gres=gpu:1", "--exclude=node7,node3,node4"]


@pytest.mark.parametrize("node", ["(null)", "None assigned", ""])
def test_a_job_that_never_had_a_node_is_nobodys_fault(
    cluster: WatchedCluster, nodes: dict[str, str], node: str
) -> None:
    nodes.update({"1": node, "2": node})
    cluster._learn(["1", "2"])
    assert directives(cluster) == ["--gres=gpu:1", "--exclude=node7"]


def test_after_four_looks_at_jobs_that_died_at_once_it_gives_up(
    cluster: WatchedCluster, nodes: dict[str, str]
) -> None:
    nodes.update({str(job): f"node{job}" for job in range(8)})
    for look in range(3):
        cluster._learn([str(2 * look), str(2 * look + 1)])
    with pytest.raises(ExternalToolError, match=r"8 jobs ended before .* began; job 7 \(FAILED") as caught:
        cluster._learn(["6", "7"])
    assert caught.value.returncode == 7


@pytest.mark.parametrize("words", [AWAY, LIMIT])
def test_a_refusal_is_forgiven_while_other_jobs_run(cluster: WatchedCluster, words: str) -> None:
    cluster.job_cls.refused.append(words)
    cluster._forgive_or_raise(others=True)
    assert cluster.job_cls.refused == []


def test_a_refusal_with_nothing_to_wait_for_is_the_users_to_mend(cluster: WatchedCluster) -> None:
    cluster.job_cls.refused.append("sbatch: error: invalid partition specified: moon")
    with pytest.raises(ConfigError, match="invalid partition"):
        cluster._forgive_or_raise(others=False)


def test_a_controller_that_restarts_is_waited_for_and_one_that_stays_away_is_not(
    cluster: WatchedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr("tasks.cluster.slurm.time.monotonic", lambda: now[0])
    for since_s in (0, CONTROLLER_AWAY_S / 2):
        now[0] = 1000.0 + since_s
        cluster.job_cls.refused.append(AWAY)
        cluster._forgive_or_raise(others=False)
    now[0] = 1000.0 + CONTROLLER_AWAY_S + 1
    cluster.job_cls.refused.append(AWAY)
    with pytest.raises(TransientError, match="no job can be submitted"):
        cluster._forgive_or_raise(others=False)


def test_where_there_is_no_squeue_a_job_has_no_known_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a node without Slurm's commands, or in a container."""
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("PATH", "/nowhere")
    assert end_of_this_job() is None
