"""What a cluster learns from jobs that end by themselves, and from those that Slurm refuses."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prefect.logging import disable_run_logger

from tasks.cluster.avoided import MOST_AVOIDED
from tasks.cluster.slurm import CONTROLLER_AWAY_S, WatchedCluster
from tasks.cluster.slurm_queue import FENCE_S, HERE_AND_NOW, end_of_this_job, fence
from tasks.errors import ConfigError, ExternalToolError, TransientError
from tasks.ledger.paths import DatasetPaths

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
    monkeypatch.setattr("tasks.cluster.avoided.refusal", lambda _script: None)
    monkeypatch.setattr("tasks.cluster.avoided.script_of", str)
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
        _lowered_from=None,
        _lowered_at_s=0.0,
        _refused_since=None,
        _told_limit=False,
        _job_kwargs={**options, "log_directory": str(tmp_path)},
        new_spec={"options": options},
        job_cls=SimpleNamespace(refused=[]),
        scheduler_info={"workers": {}},
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


def test_what_the_user_excludes_stays_excluded(cluster: WatchedCluster, nodes: dict[str, str]) -> None:
    for number, node in enumerate(["node3", "node3", "node4", "node4"]):
        nodes[str(number)] = node
        cluster._began.add(str(number))
        cluster._learn([str(number)])
    assert directives(cluster) == ["--gres=gpu:1", "--exclude=node7,node3,node4"]


@pytest.mark.parametrize(
    ("state", "began", "avoided"),
    [
        ("FAILED", True, True),
        ("NODE_FAIL", True, True),
        ("FAILED", False, True),
        ("TIMEOUT", False, True),  # its worker never came
        ("CANCELLED", True, False),
        ("PREEMPTED", False, False),
        ("TIMEOUT", True, False),
        ("OUT_OF_MEMORY", True, False),  # it needed more than `memory` says
        ("COMPLETED", True, False),
    ],
)
def test_a_node_is_avoided_for_what_was_nobodys_will(
    cluster: WatchedCluster,
    nodes: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    state: str,
    began: bool,
    avoided: bool,
) -> None:
    account = {**FAILED, "JobState": state, "NodeList": "node3"}
    monkeypatch.setattr("tasks.cluster.slurm.account_of", lambda _job: account)
    for job in ("1", "2"):
        cluster._began |= {job} if began else set()
        cluster._learn([job])
    assert (directives(cluster)[1] == "--exclude=node7,node3") is avoided


def test_a_job_that_dies_under_its_worker_counts_though_dask_has_let_go_of_it(
    cluster: WatchedCluster, nodes: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within two seconds of its end, which is sooner than anybody looks."""
    nodes.update({"1": "node3", "2": "node3"})
    vars(cluster).update(
        _looked=0.0, _ended=set(), _moved=0.0, workers={}, _adaptive=SimpleNamespace(maximum=5)
    )
    queue: dict[str, dict[str, str]] = {}
    monkeypatch.setattr("tasks.cluster.slurm.queued", lambda _names: dict(queue))
    monkeypatch.setattr("tasks.cluster.slurm.LOOK_EVERY_S", 0.0)
    for job in ("1", "2"):
        queue[job] = {"state": "RUNNING", "reason": "None", "node": "node3"}
        vars(cluster)["workers"] = {f"w{job}": SimpleNamespace(job_id=job, status=None)}
        cluster.scheduler_info["workers"] = {"tls://node3": {"name": f"w{job}"}}
        cluster.check()
        assert not cluster.misses_jobs()
        vars(cluster)["workers"] = {}
        cluster.scheduler_info["workers"] = {}
        queue[job]["state"] = "COMPLETING"
        cluster.check()
        assert cluster.misses_jobs()
        del queue[job]
        rows = cluster.check()
        assert not cluster.misses_jobs()
        assert rows is not None and rows[-1]["state"] == "FAILED"
        cluster.check()
    assert directives(cluster) == ["--gres=gpu:1", "--exclude=node7,node3"]


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


def test_jobs_that_die_on_two_nodes_do_not_end_the_folds_on_others(
    cluster: WatchedCluster, nodes: dict[str, str]
) -> None:
    """Two that were booted without the shared disk are idle, and so get the next jobs."""
    for number, node in enumerate(["node3", "node3", "node4", "node4"]):
        nodes[str(number)] = node
        cluster._learn([str(number)])
    assert directives(cluster)[-1] == "--exclude=node7,node3,node4"


def test_where_jobs_die_on_node_after_node_it_is_not_the_nodes(
    cluster: WatchedCluster, nodes: dict[str, str]
) -> None:
    for number in range(100):
        nodes[str(number)] = f"other{number // 2}"
        try:
            cluster._learn([str(number)])
        except ExternalToolError:
            break
    assert number < 4 * MOST_AVOIDED
    assert len(directives(cluster)[-1].split(",")) == 1 + MOST_AVOIDED


def test_a_node_that_is_blamed_is_avoided_at_once(cluster: WatchedCluster, nodes: dict[str, str]) -> None:
    vars(cluster)["workers"] = {"w": SimpleNamespace(job_id="1"), "v": SimpleNamespace(job_id=None)}
    cluster._rows["1"] = {"node": "node3"}
    cluster.blame("v")
    cluster.blame("gone")
    assert directives(cluster)[-1] == "--exclude=node7"
    cluster.blame("w")
    assert directives(cluster)[-1] == "--exclude=node7,node3"


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
