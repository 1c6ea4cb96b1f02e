"""A training that a night did not finish goes on in the next, whatever has come in meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests_support import PrefectServer, iterseg
from tiny_lab import deliver, new_home

from tasks.last_run import nothing_new
from tasks.ledger.home import at_home
from tasks.ledger.models import load_models
from tasks.ledger.paths import DatasetPaths
from tasks.unfinished import unfinished_iteration

NIGHT = """
import json, sys
from flows.iterate import iterate
print(json.dumps(iterate("D", **json.loads(sys.argv[1])), default=str))
"""


def night(home: Path, server: PrefectServer, **budget: float) -> dict[str, Any]:
    """What a run says that has a budget, as those of deployments."""
    environment = {**os.environ, **server.environment, "ITERSEG_HOME": str(home)}
    command = [sys.executable, "-c", NIGHT, json.dumps(budget)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory, prefect_server: PrefectServer) -> Path:
    """A home of which the first model was begun; then a scan was labelled that it does not know."""
    home = new_home(tmp_path_factory.mktemp("stopped") / "home", training={"epochs_first": 6})
    deliver(home, 21, unlabelled=0)
    assert "the next run goes on from there" in night(home, prefect_server, gpu_hours=0.002)["state"]
    deliver(home, 22, labelled=1, unlabelled=0)
    return home


@pytest.fixture
def begun(stopped: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stopped, tmp_path / "home", symlinks=True))


def models(home: Path) -> list[tuple[str, str | None, int]]:
    with at_home(home):
        found = load_models(DatasetPaths(home, "D"))
    return [(model.model_id, model.parent, model.cases["training"]) for model in found]


def test_it_is_finished_and_then_what_came_is_learned_from(
    begun: Path, prefect_server: PrefectServer
) -> None:
    run = iterseg(begun, "run", "D", "--json", **prefect_server.environment)
    assert run.returncode == 0, run.stderr
    assert models(begun) == [("2026-11-21", None, 2), ("2026-11-22", "2026-11-21", 3)]
    said = [(stage["stage"], stage.get("model")) for stage in run.report["stages"]]
    assert [model for stage, model in said if stage == "train"] == ["2026-11-21", "2026-11-22"]
    logs = begun / "data" / "procdata" / "D" / "logs"
    assert "resumed_at" in (logs / "2026-11-21__D.fold-0.log").read_text()
    again = iterseg(begun, "run", "D", "--json", **prefect_server.environment)
    assert again.report["state"] == "nothing new"


def test_a_night_has_one_budget_and_the_next_one_learns_from_what_came(
    begun: Path, prefect_server: PrefectServer
) -> None:
    """Also without its store, which a backup need not hold: a new label does not end the training of days."""
    shutil.rmtree(begun / "data" / "procdata" / "D" / "store")
    said = night(begun, prefect_server, jobs=2)
    assert said["state"].endswith("what has come since is learned from in the next run")
    assert models(begun) == [("2026-11-21", None, 2)]
    assert "resumed_at" in (begun / "data/procdata/D/logs/2026-11-21__D.fold-0.log").read_text()
    with at_home(begun):
        assert unfinished_iteration(DatasetPaths(begun, "D")) is None
        assert not nothing_new.fn("D")


@pytest.mark.parametrize("change", ["choices", "prepared"])
def test_it_is_given_up_where_the_user_has_chosen_otherwise(
    begun: Path, prefect_server: PrefectServer, change: str
) -> None:
    paths = DatasetPaths(begun, "D")
    with at_home(begun):
        known = unfinished_iteration(paths)
        assert known is not None
        assert known.name == "2026-11-21__D"
    if change == "choices":
        file = begun / "config" / "dataset_D.yaml"
        file.write_text(file.read_text().replace("epochs_first: 6", "epochs_first: 5"))
        done = iterseg(begun, "train", "D", **prefect_server.environment)
        assert (done.returncode, "run `iterseg prepare D` first" in done.stderr) == (1, True), done.stderr
    else:
        done = iterseg(begun, "prepare", "D", **prefect_server.environment)
        assert done.returncode == 0, done.stderr
    with at_home(begun):
        assert unfinished_iteration(paths) is None
