"""What goes wrong leaves the model in use where it is, and the next run carries on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
from sarcoma_lab import SETTINGS, Lab, stages
from tests_support import processes_of, wait_until

from tasks.ledger.files import replace_symlink


@pytest.mark.parametrize("latest_is", ["2026-11-22", "2026-11-23"])
def test_a_promotion_that_was_cut_off_is_finished(lab: Lab, latest_is: str) -> None:
    """Killed between the model's record and the move of latest, or between that and its own note."""
    latest = lab.data / "results" / "STS" / "latest"
    models = lab.models()
    replace_symlink(latest, lab.home / models[latest_is]["folder"])
    record = lab.data / "results" / "STS" / "ledger" / "models" / "2026-11-23.json"
    record.write_text(json.dumps({**models["2026-11-23"], "promoted": False}))
    answer = lab.run("train", "STS", "--json")
    assert answer.returncode == 0, answer.stderr
    assert answer.report["state"] == "nothing new"
    assert latest.resolve() == lab.home / models["2026-11-23"]["folder"]
    assert lab.models()["2026-11-23"]["promoted"]


def test_going_back_to_a_former_model_is_not_undone(lab: Lab) -> None:
    latest = lab.data / "results" / "STS" / "latest"
    models = lab.models()
    replace_symlink(latest, lab.home / models["2026-11-22"]["folder"])
    try:
        assert lab.run("train", "STS").returncode == 0
        assert latest.resolve() == lab.home / models["2026-11-22"]["folder"]
    finally:
        replace_symlink(latest, lab.home / models["2026-11-23"]["folder"])


def test_a_folder_that_was_begun_is_not_taken_for_done(lab: Lab) -> None:
    """The original takes a folder that exists for finished, although it is made first."""
    begun = lab.data / "procdata" / "STS" / "2026-11-30__STS" / "nnUNet_preprocessed"
    begun.mkdir(parents=True)
    try:
        answer = lab.run("train", "STS", "--date", "2026-11-30")
        assert answer.returncode == 1
        assert "no prepared iteration of 2026-11-30" in answer.stderr
    finally:
        shutil.rmtree(begun.parent)


def test_a_fold_that_fails_fails_the_flow_and_latest_stays(lab: Lab) -> None:
    """The original ignores the exit codes of its folds and moves latest."""
    settings = lab.home / "config" / "dataset_STS.yaml"
    latest = (lab.data / "results" / "STS" / "latest").resolve()
    # More epochs make another iteration; there is no GPU here to train it on.
    longer = SETTINGS.replace("epochs_fine_tune: 1", "epochs_fine_tune: 2")
    settings.write_text(longer.replace("device: cpu\n  aug", "device: cuda\n  aug"))
    try:
        answer = lab.run("run", "STS")
    finally:
        settings.write_text(SETTINGS)
    assert answer.returncode == 1
    assert "2 of 2 folds failed, `latest` stays at 2026-11-23" in answer.stderr
    assert "torch sees no GPU" in answer.stderr
    assert (lab.data / "results" / "STS" / "latest").resolve() == latest
    runs = lab.server.post("/flow_runs/filter", {"limit": 200})
    failed = {run["name"].split()[0] for run in runs if run["state_type"] == "FAILED"}
    assert {"train", "iterate"} <= failed


def test_a_killed_run_leaves_nothing_behind_and_goes_on_from_its_checkpoints(lab: Lab) -> None:
    settings = lab.home / "config" / "dataset_STS.yaml"
    longer = SETTINGS.replace("epochs_fine_tune: 1", "epochs_fine_tune: 12")
    settings.write_text(longer.replace("training:", "training:\n  checkpoint_every_s: 0.001"))
    env = {**os.environ, **lab.server.environment, "ITERSEG_HOME": str(lab.home)}
    command = [sys.executable, "-m", "flows.cli", "run", "STS"]
    with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        models = lab.data / "procdata" / "STS"
        wait_until(lambda: len(list(models.rglob("checkpoint_latest.pth"))) == 2, 180)
        run.kill()
    wait_until(lambda: not processes_of(lab.home), 30)
    answer = lab.run("run", "STS", "--json")
    assert answer.returncode == 0, answer.stderr
    model = stages(answer)["train"]["model"]
    assert lab.models()[model]["epochs"] == {"0": 12, "1": 12}
    for fold in (0, 1):
        log = lab.data / "procdata" / "STS" / "logs" / f"{model}__STS.fold-{fold}.log"
        assert '"resumed_at"' in log.read_text()
    settings.write_text(SETTINGS)
