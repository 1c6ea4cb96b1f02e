"""The demo's two iterations on real scans, as nights on a cluster, each with something killed in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from demo import ANNOTATED, DATASET, SOURCE, UNANNOTATED, annotate, deliver_images, read_cases
from night_lab import CHECKOUT, Night
from private_slurm import PrivateSlurm
from slurm_lab import SlurmLab
from tests_support import PrefectServer, wait_until

from tasks.ledger.models import load_models

pytestmark = pytest.mark.slurm
EPOCHS = {"epochs_first": 3, "epochs_fine_tune": 3, "checkpoint_every_s": 1}
"""Fewer than the demo's, which shows that the second model is better; here it is shown that it comes."""


@pytest.fixture
def night(tmp_path: Path, slurm: PrivateSlurm, server_of_nights: PrefectServer) -> Iterator[Night]:
    home = tmp_path / "home"
    (home / "config" / "clusters").mkdir(parents=True)
    shutil.copy(CHECKOUT / "config" / f"roi_{DATASET}.yaml", home / "config")
    chosen = yaml.safe_load((CHECKOUT / "config" / f"dataset_{DATASET}.yaml").read_text())
    chosen["training"].update(EPOCHS)
    chosen["promotion"]["margin"] = 0.99
    (home / "config" / f"dataset_{DATASET}.yaml").write_text(yaml.safe_dump(chosen))
    lab = SlurmLab(home, slurm, server_of_nights, DATASET)
    lab.cluster()
    slurm.settle()
    night = Night(lab, tmp_path)
    night.deploy()
    with night.worker():
        yield night


@pytest.mark.skipif(not SOURCE.is_dir(), reason="the demo's scans are not in this copy of the project")
@pytest.mark.timeout(900)
def test_the_demo_by_night_with_a_kill_in_each(night: Night, tmp_path: Path) -> None:
    lab, cases = night.lab, read_cases()
    series = deliver_images(tmp_path, cases)
    first, second = (lab.paths.rawdata / f"2026-11-{day}__{DATASET}" for day in (20, 21))
    annotate(cases[ANNOTATED], series, tmp_path / "day-1")
    lab.paths.rawdata.mkdir(parents=True)
    shutil.copytree(tmp_path / "day-1", first)

    run = night.ask("iterate/nightly", dataset_id=DATASET, cluster="slurm")
    wait_until(lambda: len(lab.folds_that_run()) == 2, 180)
    lab.workers()[0].kill()
    assert night.ended(run, 420) == ("COMPLETED", "Completed"), night.state(run)
    wait_until(lambda: not lab.slurm.jobs(), 30)
    (model,) = load_models(lab.paths)
    predicted = list(lab.paths.predictions(model.model_id).glob("*.seg.dcm"))
    assert 0 < len(predicted) <= len(cases[UNANNOTATED])

    annotate(cases[UNANNOTATED], series, second)
    run = night.ask("iterate/nightly", dataset_id=DATASET, cluster="slurm")
    wait_until(lambda: len(lab.folds_that_run()) == 2, 180)
    lab.folds_that_run()[0].kill()
    assert night.ended(run, 420) == ("COMPLETED", "Completed"), night.state(run)

    _, successor = load_models(lab.paths)
    assert successor.parent == model.model_id
    assert successor.promoted
    wait_until(lambda: not lab.slurm.jobs() and not lab.slurm.processes_of_jobs(), 30)
    assert not lab.folds_that_run()
    assert {state for _, state in lab.runs()} <= {"COMPLETED", "CRASHED", "FAILED"}
