"""What a run that was killed has left is cleared by the next one, whatever stands in its way at first."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from tasks.errors import TransientError
from tasks.ledger.paths import DatasetPaths
from tasks.turn import turn_of


def test_jobs_that_cannot_be_cancelled_now_are_by_the_next_run(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut the login machine may be up before Slurm's controller."""
    paths = DatasetPaths.of("D")
    paths.lock_folder.mkdir(parents=True)
    killed = {"host": socket.gethostname(), "pid": os.getpid(), "started": "1", "jobs": True, "flow_run": "f"}
    (paths.lock_folder / "lock.json").write_text(json.dumps(killed))
    done: list[str] = []

    def fence(_: DatasetPaths) -> None:
        done.append("fence")
        if done.count("fence") == 1:
            raise TransientError("squeue cannot reach the controller")

    monkeypatch.setattr("tasks.turn.fence", fence)
    monkeypatch.setattr("tasks.turn._bury", lambda flow_run, _: done.append(f"bury {flow_run}"))
    with pytest.raises(TransientError), turn_of(paths):
        pytest.fail("jobs of the killed run may still write")
    with turn_of(paths):
        pass
    with turn_of(paths):
        pass
    assert done == ["bury f", "fence", "bury f", "fence"]
