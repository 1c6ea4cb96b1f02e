"""Which model is in use, and why, stands in the history; and it is the one that was made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from trained_models import case, trained

from tasks.errors import UserDataError
from tasks.ledger.models import latest_model, load_promotions, save_model, was_rolled_back_since
from tasks.ledger.paths import DatasetPaths
from tasks.promote import promote_model, put_back
from tasks.verify import verify_dataset


@pytest.fixture
def paths(home: Path) -> DatasetPaths:
    return DatasetPaths.of("D")


def test_a_model_without_its_weights_is_not_put_into_use(paths: DatasetPaths) -> None:
    model = trained(paths, "2026-01-01", [case(0, 0), case(1, 1)], 0.8)
    (paths.home / model.folder / "fold_1" / "checkpoint_final.pth").unlink()
    with pytest.raises(UserDataError, match="fold 1 of model 2026-01-01 is not what was recorded"):
        promote_model.fn("D", model)
    assert latest_model(paths) is None


def test_why_a_model_is_used_is_told_as_it_is_written_down(
    paths: DatasetPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[dict[str, str]] = []
    monkeypatch.setattr("tasks.promote.tell_event", lambda *_, **payload: told.append(payload))
    judgements = {
        "2026-11-21": (None, "the first model"),
        "2026-11-22": ("2026-11-21", "test set"),
    }
    for day, (compared_with, basis) in judgements.items():
        model = trained(paths, day, [case(0, 0), case(1, 1)], 0.8)
        model = replace(model, compared_with=compared_with, basis=basis)
        save_model(paths, model)
        promote_model.fn("D", model)
    assert told == [
        {"model": "2026-11-21", "why": "the first model"},
        {"model": "2026-11-22", "why": "not worse than 2026-11-21 on the test set"},
    ]
    assert [entry["why"] for entry in load_promotions(paths)] == [payload["why"] for payload in told]


def test_a_rollback_is_one_step_and_on_record(paths: DatasetPaths) -> None:
    cases = [case(0, 0), case(1, 1)]
    first, second = trained(paths, "2026-01-01", cases, 0.5), trained(paths, "2026-01-02", cases, 0.6)
    promote_model.fn("D", first)
    promote_model.fn("D", second)
    assert put_back.fn("D", "2026-01-01") == {"model": "2026-01-01", "instead_of": "2026-01-02"}
    current = latest_model(paths)
    assert current is not None and current.model_id == "2026-01-01"
    put_back.fn("D", "2026-01-01")
    assert [(e["model"], e["instead_of"]) for e in load_promotions(paths)] == [
        ("2026-01-01", None),
        ("2026-01-02", "2026-01-01"),
        ("2026-01-01", "2026-01-02"),
    ]


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_weights_that_are_not_those_on_record_are_not_put_back(paths: DatasetPaths, damage: str) -> None:
    cases = [case(0, 0), case(1, 1)]
    first, second = trained(paths, "2026-01-01", cases, 0.5), trained(paths, "2026-01-02", cases, 0.6)
    promote_model.fn("D", first)
    promote_model.fn("D", second)
    file = paths.home / first.folder / "fold_1" / "checkpoint_final.pth"
    file.unlink() if damage == "gone" else file.write_text("other")
    with pytest.raises(UserDataError, match="fold 1 of model 2026-01-01 is not what was recorded"):
        put_back.fn("D", "2026-01-01")
    current = latest_model(paths)
    assert current is not None and current.model_id == "2026-01-02"
    findings = verify_dataset(paths)["findings"]
    fate = {"changed": "has another content than was recorded", "gone": "is gone"}[damage]
    assert f"model 2026-01-01, fold 1 {fate}" in findings


def test_who_goes_back_again_to_the_same_model_declines_what_came_since(
    paths: DatasetPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first time it was not there yet; a run was killed before it put it into use."""
    cases = [case(0, 0), case(1, 1)]
    promote_model.fn("D", trained(paths, "2026-01-01", cases, 0.5))
    promote_model.fn("D", trained(paths, "2026-01-02", cases, 0.6))
    monkeypatch.setattr("tasks.ledger.models.now", lambda: "2026-01-02T12:00:00")
    put_back.fn("D", "2026-01-01")
    since = trained(paths, "2026-01-03", cases, 0.7)
    assert not was_rolled_back_since(paths, since)
    monkeypatch.setattr("tasks.ledger.models.now", lambda: "2026-01-03T12:00:00")
    put_back.fn("D", "2026-01-01")
    assert was_rolled_back_since(paths, since)


def test_a_model_that_is_not_there_is_said(paths: DatasetPaths) -> None:
    with pytest.raises(UserDataError, match="has no model '2020-01-01'; it has: none"):
        put_back.fn("D", "2020-01-01")


def test_a_record_that_was_changed_is_found_and_not_used(paths: DatasetPaths) -> None:
    record = trained(paths, "2026-01-01", [case(0, 0), case(1, 1)], 0.5)
    file = paths.models / "2026-01-01.json"
    file.write_text(file.read_text().replace('"training": 2', '"training": 9'))
    assert "the record of model 2026-01-01 is not what was written" in verify_dataset(paths)["findings"]
    with pytest.raises(UserDataError, match="the record of model 2026-01-01"):
        put_back.fn("D", "2026-01-01")
    with pytest.raises(UserDataError, match="the record of model 2026-01-01"):
        promote_model.fn("D", replace(record, accepted=False))
    assert latest_model(paths) is None
