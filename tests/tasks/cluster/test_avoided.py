"""Jobs are kept away from nodes on which others died, and from no others."""

from __future__ import annotations

import errno
from types import SimpleNamespace

import pytest
from without_slurm import FAILED, directives

from tasks.cluster.avoided import MOST_AVOIDED
from tasks.cluster.slurm import WatchedCluster
from tasks.errors import ExternalToolError, TransientError


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


def test_jobs_that_die_on_two_nodes_do_not_end_the_folds_on_others(
    cluster: WatchedCluster, nodes: dict[str, str]
) -> None:
    """Two that were booted without the shared disk are idle, and so get the next jobs."""
    for number, node in enumerate(["node3", "node3", "node4", "node4"]):
        nodes[str(number)] = node
        cluster._learn([str(number)])
    assert directives(cluster)[-1] == "--exclude=node7,node3,node4"


def test_jobs_that_wait_already_are_sent_elsewhere_and_those_that_die_there_tell_nothing_new(
    cluster: WatchedCluster, nodes: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy cluster a broken node is the idle one: all that was asked for before goes there."""
    told: list[tuple[str, ...]] = []

    def slurm(*command: str) -> str:
        told.append(command)
        raise TransientError("job 3 has begun")

    monkeypatch.setattr("tasks.cluster.avoided.slurm", slurm)
    cluster._excluded = ["node[07-09,12]"]
    cluster.new_spec["options"]["job_extra_directives"] = ["--exclude=node[07-09,12]"]
    vars(cluster)["workers"] = {"w": SimpleNamespace(job_id="6"), "v": SimpleNamespace(job_id=None)}
    nodes.update({str(job): "node3" for job in range(1, 12)})
    cluster._rows |= {str(job): {"state": "PENDING", "node": ""} for job in (3, 4)}
    cluster._rows["5"] = {"state": "RUNNING", "node": "node1"}
    for job in nodes:
        cluster._learn([job])
    assert told == [("scontrol", "update", "JobId=3,4,6", "ExcNodeList=node[07-09,12],node3")]
    vars(cluster)["workers"] = {}
    for job, node in (("20", "a"), ("21", "b"), ("22", "c")):
        nodes[job] = node
        cluster._learn([job])
    nodes["23"] = "d"
    with pytest.raises(ExternalToolError, match="job 23"):
        cluster._learn(["23"])


def test_a_temporary_folder_that_is_full_ends_nobody(
    cluster: WatchedCluster, nodes: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the machine of the flow; the folds are well. The next look asks again."""

    def full(_options: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("tasks.cluster.avoided.script_of", full)
        nodes.update({"1": "node3", "2": "node3"})
        cluster._learn(["1", "2"])
        assert directives(cluster)[-1] == "--exclude=node7"
    nodes["3"] = "node3"
    cluster._learn(["3"])
    assert directives(cluster)[-1] == "--exclude=node7,node3"


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
