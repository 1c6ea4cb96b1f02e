"""A promotion that was cut off is finished by the next run, unless a person has said otherwise."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from trained_models import case, iteration, trained

from flows import train as train_module
from flows.train import finish_promotion
from tasks.ledger.models import latest_model, load_promotions, save_model
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.withdrawals import add_withdrawal
from tasks.promote import promote_model, put_back
from tasks.settings.dataset import DatasetSettings


@pytest.fixture
def paths(home: Path) -> DatasetPaths:
    return DatasetPaths.of("D")


def test_who_stays_with_the_model_in_use_has_declined_what_was_accepted_since(paths: DatasetPaths) -> None:
    """A run was killed before it put that into use; the next one would."""
    cases = [case(0, 0), case(1, 1)]
    first = trained(paths, "2026-01-01", cases, 0.5)
    promote_model.fn("D", first)
    second = replace(trained(paths, "2026-01-02", cases, 0.6), compared_with="2026-01-01")
    save_model(paths, second)
    put_back.fn("D", "2026-01-01")
    put_back.fn("D", "2026-01-01")
    assert [entry["why"] for entry in load_promotions(paths)][1:] == ["rollback"], "once"
    finish_promotion(paths)
    current = latest_model(paths)
    assert current is not None
    assert current.model_id == "2026-01-01"


def not_put_into_use(paths: DatasetPaths, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is said of the model that waits; the one before it stays in use."""
    said: list[str] = []
    for name, does in (("promote_model", promote_model.fn), ("write_pages", print), ("told", said.append)):
        monkeypatch.setattr(f"flows.train.{name}", does)
    monkeypatch.setattr("flows.train.get_run_logger", lambda: logging.getLogger("test"))
    finish_promotion(paths)
    current = latest_model(paths)
    assert current is not None
    assert current.model_id == "2026-01-01"
    return said


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_an_accepted_model_without_its_weights_stops_no_night(
    paths: DatasetPaths, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody made room while it waited: it is not in use."""
    cases = [case(0, 0), case(1, 1)]
    first = trained(paths, "2026-01-01", cases, 0.5)
    promote_model.fn("D", first)
    second = replace(trained(paths, "2026-01-02", cases, 0.6), compared_with="2026-01-01")
    save_model(paths, second)
    file = second.checkpoint(paths, "0")
    if damage == "gone":
        file.unlink()
    else:
        file.write_text("other")
    said = not_put_into_use(paths, monkeypatch)
    assert "model 2026-01-02 was accepted, and is not put into use: fold 0" in said[0]


@pytest.mark.parametrize(
    ("accepted", "in_use", "after"),
    [
        (True, "2026-01-01", "2026-01-02"),
        (False, "2026-01-01", "2026-01-01"),
        (True, "2026-01-03", "2026-01-03"),  # another one was put into use since: it was not judged beside it
    ],
)
def test_only_what_was_accepted_beside_the_model_in_use_is_put_into_use(
    paths: DatasetPaths, accepted: bool, in_use: str, after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [case(0, 0), case(1, 1)]
    models = {day: trained(paths, day, cases, 0.5) for day in ("2026-01-01", "2026-01-03")}
    promote_model.fn("D", models[in_use])
    waits = replace(
        trained(paths, "2026-01-02", cases, 0.6),
        compared_with="2026-01-01",
        accepted=accepted,
        created="2026-02-02T00:00:00",
    )
    save_model(paths, waits)
    written: list[DatasetPaths] = []
    for name, does in (("promote_model", promote_model.fn), ("write_pages", written.append)):
        monkeypatch.setattr(f"flows.train.{name}", does)
    finish_promotion(paths)
    current = latest_model(paths)
    assert current is not None
    assert current.model_id == after
    assert bool(written) is (after == "2026-01-02"), "the pages name what the model in use predicted"


@pytest.mark.parametrize(("folds", "accepted"), [([0, 1], True), ([0, 1], False), ([0], True)])
def test_a_training_of_some_folds_or_that_is_declined_leaves_the_model_in_use(
    paths: DatasetPaths, folds: list[int], accepted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    promoted: list[str] = []
    record = replace(trained(paths, "2026-01-02", [case(0, 0), case(1, 1)], 0.6), accepted=accepted)
    result = {"epochs": 1, "training_s": 1.0, "validation_dice": {}, "cases": {}}
    done = {("fold", fold): {"fold": fold, **result} for fold in folds}
    judged: list[str] = []
    written: list[DatasetPaths] = []
    stubs: dict[str, Any] = {
        "_train_folds": lambda *_: done,
        "judged": lambda *_: judged.append("asked") or record,
        "promote_model": lambda _, model: promoted.append(model.model_id),
        "write_pages": written.append,
        "_show_learning_curve": lambda _: None,
        "show_table": lambda *_: None,
    }
    for name, stub in stubs.items():
        monkeypatch.setattr(f"flows.train.{name}", stub)
    nothing: Any = None
    now = iteration("2026-01-02__D", [case(0, 0), case(1, 1)])
    report = train_module._train(paths, now, folds, DatasetSettings(), nothing, nothing)
    whole = len(folds) == 2
    assert bool(judged) is bool(written) is whole
    assert bool(promoted) is (whole and accepted)
    assert whole or "folds [0] are done" in report["state"]


def test_a_model_that_learned_from_somebody_who_has_withdrawn_since_is_not_put_into_use(
    paths: DatasetPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were told that the model in use is another."""
    first = trained(paths, "2026-01-01", [case(0, 0)], 0.5)
    promote_model.fn("D", first)
    second = trained(paths, "2026-01-02", [case(0, 0), case(1, 1)], 0.6)
    save_model(paths, replace(second, compared_with="2026-01-01", accepted=True))
    add_withdrawal(paths.withdrawals, date(2026, 1, 3), ["case1"], "p1")
    said = not_put_into_use(paths, monkeypatch)
    assert said == [
        "model 2026-01-02 was accepted, and is not put into use: 1 of its cases were withdrawn since"
    ]
