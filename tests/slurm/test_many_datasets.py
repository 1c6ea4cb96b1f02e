"""Ten datasets ask for five jobs each at once, on two nodes: each gets its turn, and its own results."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from private_slurm import PrivateSlurm
from slurm_lab import SlurmLab
from tests_support import PrefectServer, iterseg, wait_until
from tiny_lab import deliver, new_home

from tasks.ledger.models import load_models
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.patients import load_patients

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]
DATASETS = [f"D{number}" for number in range(10)]
FOLDS = 5
LONGEST_S = 2000


def labs(home: Path, slurm: PrivateSlurm, server: PrefectServer) -> list[SlurmLab]:
    """Prepared here, each with a patient for each fold."""
    new_home(home, training={"epochs_first": 2, "iterations_per_epoch": 4}, folds=FOLDS)
    for name in DATASETS:
        for kind in ("roi", "dataset"):
            shutil.copy(home / "config" / f"{kind}_D.yaml", home / "config" / f"{kind}_{name}.yaml")
        deliver(home, 20, labelled=FOLDS, unlabelled=0, dataset=name)
        done = iterseg(home, "prepare", name, **server.environment)
        assert done.returncode == 0, done.stderr
    found = [SlurmLab(home, slurm, server, name) for name in DATASETS]
    found[0].cluster(stages={"train": {"gres": "gpu:1", "workers": "auto"}})
    return found


def test_nobody_starves_and_nothing_is_mixed_up(
    tmp_path: Path, slurm: PrivateSlurm, prefect_server: PrefectServer
) -> None:
    asking = labs(tmp_path / "home", slurm, prefect_server)
    runs = [lab.start("train") for lab in asking]
    queued: list[int] = []

    def all_ended() -> bool:
        queued.append(len(slurm.jobs()))
        return all(run.poll() is not None for run in runs)

    wait_until(all_ended, LONGEST_S)
    assert [run.returncode for run in runs] == [0] * len(runs), asking[0].said()
    assert max(queued) >= FOLDS * len(DATASETS) - 2, "they did queue at once"
    seen: dict[str, set[str]] = {}
    for lab in asking:
        (model,) = load_models(lab.paths)
        assert sorted(model.checkpoints) == [str(fold) for fold in range(FOLDS)]
        assert model.cases["training"] == FOLDS
        table = load_patients(lab.paths.patients)
        assert table is not None
        seen[lab.dataset] = {patient for fold in model.seen.values() for patient in fold}
        assert seen[lab.dataset] == set(table.place)
        assert told_of(lab.paths) == {lab.dataset}
        assert lab.paths.latest.resolve().is_relative_to(lab.paths.procdata)
    assert sum(map(len, seen.values())) == FOLDS * len(DATASETS), "no patient is in two of them"
    wait_until(lambda: not slurm.jobs() and not slurm.processes_of_jobs(), 60)


def told_of(paths: DatasetPaths) -> set[str]:
    """The datasets of whose cases the results of the folds tell."""
    cases = {
        case_id
        for file in paths.procdata.rglob("fold_*/fold.json")
        for case_id in json.loads(file.read_text())["cases"]
    }
    found = set()
    for name in DATASETS:
        book = DatasetPaths(paths.home, name).cases.read_text()
        if any(case_id in book for case_id in cases):
            found.add(name)
    return found
