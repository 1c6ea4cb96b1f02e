"""Killed at thirty random points, and run again each time: the same ledger, weights and arrays."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests_support import PrefectServer, iterseg, processes_of, wait_until
from tiny_lab import deliver, new_home

from tasks.ledger.files import read_json
from tasks.ledger.journal import Journal
from tasks.ledger.models import load_models
from tasks.ledger.paths import DatasetPaths

KILLS = 30
SHORTEST_S, LONGEST_S = 4.0, 15.0
"""A run takes 5 s to its first step; an iteration of three cases about 40 s."""
TRAINING = {"control_every": 2}
OF_THE_RUN = {
    *("created", "training_s", "checkpoints", "parent_digest", "ancestors", "versions", "digest", "parent"),
    "at",
}
"""What a clock, or a hash of what a clock wrote, makes differ."""


def killed(home: Path, server: PrefectServer, after_s: float) -> bool:
    """Start a run and kill it; False if it was done before."""
    env = {**os.environ, **server.environment, "ITERSEG_HOME": str(home)}
    command = [sys.executable, "-m", "flows.cli", "run", "D"]
    with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        try:
            return run.wait(after_s) != 0
        except subprocess.TimeoutExpired:
            run.kill()
    wait_until(lambda: not processes_of(home), 30)
    return True


def ledger(home: Path) -> dict[str, Any]:
    paths = DatasetPaths(home, "D")
    journals = ("snapshots", "cases", "patients", "labels", "lineages", "promotions")
    told: dict[str, Any] = {name: Journal(getattr(paths, name)).entries() for name in journals}
    told["models"] = [record.__dict__ | {"came_from": record.parent} for record in load_models(paths)]
    iterations = sorted((home / "data" / "procdata" / "D").glob("*__D/iteration.json"))
    told["iterations"] = [{k: v for k, v in read_json(f).items() if k != "ledger"} for f in iterations]
    return _plain(told)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items() if k not in OF_THE_RUN and k != "opened"}
    return [_plain(v) for v in value] if isinstance(value, list) else value


def arrays(home: Path) -> dict[str, np.ndarray]:
    import blosc2

    store = home / "data" / "procdata" / "D" / "store"
    return {str(f.relative_to(store)): blosc2.open(str(f))[:] for f in sorted(store.rglob("*.b2nd"))}


def weights(home: Path) -> dict[str, np.ndarray]:
    from tasks.nnunet.checkpoints import read_checkpoint

    files = sorted((home / "data" / "procdata" / "D").rglob("checkpoint_final.pth"))
    return {
        f"{file.relative_to(home)} {name}": value.numpy()
        for file in files
        for name, value in read_checkpoint(file)["network_weights"].items()
    }


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_thirty_kills_change_nothing(tmp_path: Path, prefect_server: PrefectServer) -> None:
    home, undisturbed = (new_home(tmp_path / name, training=TRAINING) for name in ("killed", "undisturbed"))
    chance = random.Random(20_261_124)
    days, kills = [1], 0  # there are as many as it takes, and none may be to come
    deliver(home, days[-1])
    while kills < KILLS:
        if killed(home, prefect_server, chance.uniform(SHORTEST_S, LONGEST_S)):
            kills += 1
        else:
            days.append(days[-1] + 1)
            deliver(home, days[-1])
    env = prefect_server.environment
    done = iterseg(home, "run", "D", **env)
    assert done.returncode == 0, done.stderr
    assert iterseg(home, "status", "D", "--verify", "--json").report["verified"]["findings"] == []

    key = Path("data") / "rawdata" / "D" / "patient.key"
    for number, day in enumerate(days):
        deliver(undisturbed, day)
        if number == 0:
            shutil.copy(home / key, undisturbed / key)
        done = iterseg(undisturbed, "run", "D", **env)
        assert done.returncode == 0, done.stderr
    print(f"{kills} kills over {len(days)} iterations")
    assert ledger(home) == ledger(undisturbed)
    for what in (arrays, weights):
        expected, found = what(undisturbed), what(home)
        assert found.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_array_equal(found[name], array, err_msg=name)
    assert not list((home / "data" / "procdata" / "D" / "store").rglob("*.tmp*"))
