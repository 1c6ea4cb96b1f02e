"""What was prepared is trained as long as it would be prepared like this again."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import SimpleITK as sitk
from predicted_lab import a_model

from tasks.cluster.attempts import Stopped
from tasks.errors import UserDataError
from tasks.ledger.images import fingerprint, write_image
from tasks.ledger.iteration_paths import IterationPaths
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.store import Store
from tasks.ledger.withdrawals import add_withdrawal
from tasks.nnunet.fold import ASKED, LATE, STOPPED, VALIDATED
from tasks.nnunet.trainer import TrainingChoices
from tasks.processes.program import THREADS, on_threads
from tasks.settings.dataset import DatasetSettings
from tasks.train import (
    Share,
    fold_environment,
    fold_job,
    require_current,
    train_fold,
)


def iteration(parent: str | None) -> Any:
    cases = [{"case_id": f"case{n}", "patient": f"p{n}", "image_key": "i"} for n in range(3)]
    return SimpleNamespace(name="2026-11-21__D", lineage=1, parent=parent, cases=cases)


@pytest.mark.parametrize(
    ("parent", "withdrawn", "words"),
    [
        ("2026-11-20", [], None),
        ("2026-11-20", ["case9"], None),
        ("2026-11-20", ["case1"], "1 of its cases were withdrawn"),
        ("2026-11-19", [], "another model is in use"),
        (None, [], "another model is in use"),
    ],
)
def test_what_was_prepared_before_a_withdrawal_or_a_rollback_is_prepared_again(
    home: Path, parent: str | None, withdrawn: list[str], words: str | None
) -> None:
    paths = DatasetPaths.of("D")
    a_model(paths, ["GTV"])
    add_withdrawal(paths.withdrawals, date(2026, 11, 22), withdrawn)
    if words is None:
        require_current(paths, iteration(parent))
        return
    with pytest.raises(UserDataError, match=f"{words}; run `iterseg prepare D` first"):
        require_current(paths, iteration(parent))


def test_a_withdrawn_patients_scan_is_not_trained_on_under_another_name(home: Path) -> None:
    paths = DatasetPaths.of("D")
    a_model(paths, ["GTV"])
    image = Store(paths.store).image("case1", "i")
    write_image(sitk.Image(4, 3, 2, sitk.sitkInt16), image)
    add_withdrawal(paths.withdrawals, date(2026, 11, 22), ["case9"], "p9", [fingerprint(image)])
    with pytest.raises(UserDataError, match="1 of its cases were withdrawn"):
        require_current(paths, iteration("2026-11-20"))


@pytest.mark.parametrize(
    ("asked", "budget_spent"),
    [(False, True), (True, False)],  # True: somebody clears the node, and the fold goes on in another job
)
def test_a_training_that_is_asked_to_clear_its_node_has_not_spent_its_budget(
    home: Path, monkeypatch: pytest.MonkeyPatch, asked: bool, budget_spent: bool
) -> None:
    monkeypatch.setattr("tasks.train.run_fold", lambda *_: {STOPPED: 3, VALIDATED: 1, ASKED: asked})
    result = one_fold(monkeypatch, Share("tonight", 3600))
    assert result == Stopped((3, 1), None, budget_spent)


@pytest.mark.parametrize("finished", [False, True])
def test_a_fold_that_is_finished_costs_no_budget(
    home: Path, monkeypatch: pytest.MonkeyPatch, finished: bool
) -> None:
    """A run that is tried again in the UI is of the same night, whose hours are over."""
    monkeypatch.setattr("tasks.train.run_fold", lambda *_: {"epochs": 9})
    monkeypatch.setattr("tasks.train.is_finished", lambda *_: finished)
    result = one_fold(monkeypatch, Share("tonight", -1))
    done = {"fold": 0, "worker": None, "epochs": 9}
    assert result == (done if finished else Stopped((0, 0), None, budget_spent=True))


def one_fold(monkeypatch: pytest.MonkeyPatch, share: Share) -> dict[str, Any] | Stopped:
    monkeypatch.setattr("tasks.train.fold_job", lambda *_, **__: None)
    monkeypatch.setattr("tasks.train.shown_steps", lambda *_: None)
    prepared: Any = SimpleNamespace(
        name="2026-11-21__D", plans_name="nnUNetPlans", configuration="3d_fullres", folds=2
    )
    result: dict[str, Any] = train_fold.fn("D", prepared, 0, DatasetSettings(), 1, share=share)
    return result


def test_a_training_that_was_begun_early_takes_any_fold_of_its_job() -> None:
    """All but the number of threads, which the job is given, comes with the fold."""
    told = fold_environment(3, DatasetSettings(), [1.0])
    folders = IterationPaths(Path("x")).environment()
    assert {*told, *folders} - set(LATE) == set(on_threads(3))
    assert {told[name] for name in THREADS} == {"3"}


@pytest.mark.parametrize(
    ("training", "more"),
    [
        ({}, {}),
        ({"mirrored": True}, {}),  # a training that was begun before it could be chosen goes on
        ({"mirrored": False}, {"mirrored": False}),
        ({"early_stop": {}}, {"patience_epochs": 30, "min_gain": 0.005}),
    ],
)
def test_what_is_not_chosen_is_no_part_of_a_job(
    home: Path, training: dict[str, Any], more: dict[str, Any]
) -> None:
    settings = DatasetSettings.model_validate({"training": training})
    begun: Any = SimpleNamespace(
        name="2026-11-21__D",
        parent=None,
        plans_name="nnUNetPlans",
        configuration="3d_fullres",
        digest="d",
        preparation="p",
    )
    choices = fold_job(DatasetPaths.of("D"), begun, 0, settings).choices
    assert {
        name: choices[name] for name in ("mirrored", "patience_epochs", "min_gain") if name in choices
    } == more
    TrainingChoices(**choices)
