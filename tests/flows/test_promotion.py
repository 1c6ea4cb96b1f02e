"""A candidate that is worse is kept and not used, and a rollback gives the former predictions back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hippocampus_lab import ANSWERED, TRAINED, lab, mean_dice_of, predicted, series_of
from numpy.typing import NDArray
from tests_support import PrefectServer, iterseg

from tasks.ledger.files import read_json

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]


def drawn(_number: int, labels: NDArray[np.uint8]) -> dict[str, NDArray[np.bool_]]:
    return {"Anterior": labels == 1, "Posterior": labels == 2}


def test_worse_is_not_used_better_is_and_back_again(
    home: Path, tmp_path: Path, prefect_server: PrefectServer
) -> None:
    def run(*arguments: str) -> dict[str, Any]:
        answer = iterseg(home, *arguments, "--json", **prefect_server.environment)
        assert answer.returncode == 0, answer.stderr
        return answer.report

    rois = "Anterior: Anterior\nPosterior: Posterior\n"
    # Eight cases and networks of a few steps: chance moves Dice by 0.1, forgetting by 0.5.
    delivery, truth = lab(home, tmp_path, "promotion: {margin: 0.3}\n", rois, drawn)
    mean_dice_of(home, tmp_path, truth, delivery, prefect_server)
    latest = home / "data" / "results" / "D" / "latest"
    first = latest.readlink()
    scans = [series_of(n, tmp_path / "again" / f"{n}") for n in range(TRAINED, TRAINED + ANSWERED)]
    before = [predicted(home, scan) for scan in scans]

    settings = home / "config" / "dataset_D.yaml"
    text = settings.read_text()
    # A learning rate with which a network forgets what it knew; and a step more an epoch, since what a
    # training from scratch does not use makes no other one of it.
    spoiled = text.replace(
        "epochs_first: 8", "epochs_first: 8\n  epochs_fine_tune: 1\n  learning_rate_fine_tune: 0.3"
    ).replace("iterations_per_epoch: 50", "iterations_per_epoch: 51")
    settings.write_text(spoiled)
    trained = next(s for s in run("run", "D")["stages"] if s["stage"] == "train")
    assert (trained["accepted"], trained["basis"]) == (False, "cross-validation")
    assert latest.readlink() == first
    said = iterseg(home, "models", "D").stdout
    assert (
        f"not put into use: against {trained['compared_with']} on the cross-validation: Anterior -0." in said
    )
    # The next night does not try again, and does not use it either.
    assert (run("run", "D")["state"], latest.readlink()) == ("nothing new", first)
    assert (run("train", "D")["state"], latest.readlink()) == ("nothing new", first)

    # No second epoch gains 0.9 of pseudo Dice: each fold stops after two of three.
    gentle = spoiled.replace("learning_rate_fine_tune: 0.3", "learning_rate_fine_tune: 0.001").replace(
        "epochs_fine_tune: 1", "epochs_fine_tune: 3\n  early_stop: {patience_epochs: 1, min_gain: 0.9}"
    )
    settings.write_text(gentle)
    trained = next(s for s in run("run", "D")["stages"] if s["stage"] == "train")
    assert trained["accepted"], trained["verdicts"]
    record = read_json(home / "data" / "results" / "D" / "ledger" / "models" / f"{trained['model']}.json")
    assert record["epochs"] == {"0": 2, "1": 2}
    assert trained["parent"] == trained["compared_with"]
    assert latest.readlink() != first

    run("rollback", "D", trained["parent"])
    assert latest.readlink() == first
    run("predict", "D")
    for scan, masks in zip(scans, before, strict=True):
        for name, mask in predicted(home, scan, trained["parent"]).items():
            np.testing.assert_array_equal(mask, masks[name])
    history = read_json(home / "data" / "results" / "D" / "ledger" / "promotions.json")["entries"]
    assert [entry["why"] for entry in history] == [
        "the first model",
        f"not worse than {trained['parent']} on the cross-validation",
        "rollback",
    ]
    assert run("status", "D", "--verify")["verified"]["findings"] == []
