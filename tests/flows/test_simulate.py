"""Simulated labs: the flows of every night, round after round, and resumed where they were killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import tiny_lab
from tests_support import MORTAL, PrefectServer, iterseg

from tasks.ledger.paths import DatasetPaths
from tasks.ledger.patients import load_patients

pytestmark = pytest.mark.slow
SIMULATION = """
first_batch: 4
budget: 2
rounds: 2
seeds: [7]
arms:
  whole: {settings: {review: {strategy: random}}}
  worst: {reader: {kind: worst_slices, slices: 2}}
  scratch: {start: scratch, reader: {kind: errors, error_mm: 1.0}}
"""
ARMS = ("whole", "worst", "scratch")
IGNORE = 2


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, prefect_server: PrefectServer) -> Path:
    """Ten labelled patients, of whom two are in the test set; played once, and killed once meanwhile."""
    home = tiny_lab.new_home(tmp_path_factory.mktemp("home"), test_share=0.2)
    (home / "config" / "simulation_D.yaml").write_text(SIMULATION)
    tiny_lab.deliver(home, 20, labelled=10, unlabelled=1)
    environment = {**os.environ, **prefect_server.environment, "ITERSEG_HOME": str(home)}
    assert iterseg(home, "ingest", "D", **prefect_server.environment).returncode == 0
    command = [*MORTAL, sys.executable, "-m", "flows.cli", "simulate", "D"]
    first = subprocess.Popen(command, env=environment, start_new_session=True)
    waiting_until = time.monotonic() + 300
    while not (home / "data/simulations/D/worst-7/chosen-1.json").is_file():
        assert time.monotonic() < waiting_until and first.poll() is None
        time.sleep(0.1)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    answer = iterseg(home, "simulate", "D", "--json", **prefect_server.environment)
    assert answer.returncode == 0, answer.stderr
    assert [row["arm"] for row in answer.report["rows"]] == list(ARMS)
    return home


def lab(home: Path, arm: str) -> DatasetPaths:
    return DatasetPaths(home / "data" / "simulations" / "D" / f"{arm}-7", "D")


def rounds(home: Path, arm: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((lab(home, arm).home / "rounds.json").read_text())
    return found


@pytest.mark.parametrize("arm", ARMS)
def test_every_round_has_a_model_and_is_scored_on_the_test_set(home: Path, arm: str) -> None:
    found = rounds(home, arm)
    assert [(row["round"], row["labelled"]) for row in found] == [(1, 4), (2, 6)]
    assert all(row["test_dice"]["GTV"] is not None for row in found)
    assert found[0]["added_path_length_mm"] == 0


def test_all_arms_of_a_seed_begin_alike(home: Path) -> None:
    tables = [load_patients(lab(home, arm).patients) for arm in ARMS]
    assert len({frozenset(table.test) for table in tables if table}) == 1
    assert len({(lab(home, arm).home / "chosen-1.json").read_text() for arm in ARMS}) == 1


def test_corrections_are_known_for_what_they_are_and_cost_something(home: Path) -> None:
    whole, worst = rounds(home, "whole")[1], rounds(home, "worst")[1]
    assert whole["added_path_length_mm"] > 0
    assert 0 < worst["edited_slices"] <= 2 * 2


def test_what_nobody_looked_at_is_not_learned_from(home: Path) -> None:
    paths = lab(home, "worst")
    corrected = json.loads((paths.home / "chosen-2.json").read_text())
    iteration = max(paths.procdata.glob("*__D/nnUNet_raw"))
    for case_id in corrected:
        labels = sitk.GetArrayFromImage(sitk.ReadImage(str(next(iteration.rglob(f"labelsTr/{case_id}*")))))
        assert np.count_nonzero((labels != IGNORE).any(axis=(1, 2))) == 2


def test_from_scratch_is_from_scratch(home: Path) -> None:
    from tasks.ledger.models import load_models

    assert [model.parent for model in load_models(lab(home, "scratch"))] == [None, None]
    first, second = load_models(lab(home, "whole"))
    assert second.parent == first.model_id


def test_images_are_links_and_the_source_stays_as_it_was(home: Path) -> None:
    images = [p for p in lab(home, "whole").rawdata.rglob("*.dcm") if not p.name.endswith(".seg.dcm")]
    assert images and all(p.stat().st_nlink > 1 for p in images)
    checked = iterseg(home, "status", "D", "--verify", "--json")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_what_is_finished_is_not_played_again(home: Path, prefect_server: PrefectServer) -> None:
    before = {arm: rounds(home, arm) for arm in ARMS}
    answer = iterseg(home, "simulate", "D", "--json", **prefect_server.environment)
    assert answer.returncode == 0
    assert {arm: rounds(home, arm) for arm in ARMS} == before
    page = home / "data" / "results" / "D" / "simulation"
    assert (page / "simulation.html").is_file() and (page / "dice-by-path.svg").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--arm", "nobody"], "there is no arm nobody"), (["--seed", "3"], "there is no seed 3")],
)
def test_strangers_are_refused(
    home: Path, prefect_server: PrefectServer, arguments: list[str], words: str
) -> None:
    answer = iterseg(home, "simulate", "D", *arguments, **prefect_server.environment)
    assert answer.returncode != 0
    assert words in answer.stderr


def test_a_withdrawal_that_deletes_takes_the_simulations_too(
    home: Path, prefect_server: PrefectServer
) -> None:
    """The last test: nothing is left to look at after it."""
    before = iterseg(home, "status", "D", "--json").report["cases"]
    answer = iterseg(
        home, "withdraw", "D", "--case", before[0]["case_id"], "--delete", **prefect_server.environment
    )
    assert answer.returncode == 0, answer.stderr
    assert not DatasetPaths(home, "D").simulations.exists()
    checked = iterseg(home, "status", "D", "--verify", "--json")
    assert checked.returncode == 0, checked.stdout
