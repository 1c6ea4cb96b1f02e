"""A cluster that decides, without a scheduler and without Slurm."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from without_slurm import FAILED

from tasks.cluster.slurm import WatchedCluster


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
    monkeypatch.setattr("tasks.cluster.avoided.slurm", lambda *_: "")
    return found


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WatchedCluster:
    """What decides, without a scheduler and without Slurm."""
    monkeypatch.setattr(WatchedCluster, "job_name", "iterseg-x-D-train")
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
        workers={},
        scheduler_info={"workers": {}},
    )
    return cluster
