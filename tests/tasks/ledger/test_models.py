"""Which model is in use, where it comes from, and whom it has seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tasks.errors import UserDataError
from tasks.ledger.journal import Journal
from tasks.ledger.models import (
    BY_ROLLBACK,
    ModelRecord,
    latest_model,
    leaked_patients,
    load_model,
    load_models,
    promote,
    save_model,
    used_since_rollback,
    was_rolled_back_since,
)
from tasks.ledger.paths import DatasetPaths


@pytest.fixture
def paths(home: Path) -> DatasetPaths:
    return DatasetPaths(home, "D")


def record(model_id: str, parent: str | None = None) -> ModelRecord:
    return ModelRecord(
        model_id=model_id,
        parent=parent,
        folder=f"data/procdata/D/{model_id}__D/nnUNet_results/x/y",
        created=f"{model_id}T00:00:00",
        structures=["GTV"],
        seen={"0": ["b", "c"], "1": ["a"]},
        checkpoints={"0": "x", "1": "y"},
        epochs={"0": 1, "1": 1},
        cases={"training": 3, "test": 0},
        validation_dice={"0": {"GTV": 0.5}, "1": {"GTV": None}},
        test_dice={},
    )


def test_models_are_listed_oldest_first_and_found_by_id(paths: DatasetPaths) -> None:
    for model_id in ("2026-11-24", "2026-11-23"):
        save_model(paths, record(model_id))
    assert [m.model_id for m in load_models(paths)] == ["2026-11-23", "2026-11-24"]
    assert load_model(paths, "2026-11-24") == record("2026-11-24")


def test_promotion_and_going_back_move_latest(paths: DatasetPaths) -> None:
    first, second = record("2026-11-23"), record("2026-11-24", parent="2026-11-23")
    for model in (first, second):
        (paths.home / model.folder).mkdir(parents=True)
        save_model(paths, model)
    assert latest_model(paths) is None
    for model in (first, second, first):
        promote(paths, model, "test")
        assert latest_model(paths) == model


def test_a_missing_model_is_said_with_those_that_exist(paths: DatasetPaths) -> None:
    with pytest.raises(UserDataError, match="has no model yet"):
        load_model(paths)
    save_model(paths, record("2026-11-23"))
    with pytest.raises(UserDataError, match="it has: 2026-11-23"):
        load_model(paths, "2099-01-01")


def test_a_latest_that_is_lost_or_leads_nowhere_is_an_error(paths: DatasetPaths) -> None:
    """Taken for "no model yet", it would throw the lineage away and train from scratch."""
    model = replace(record("2026-11-23"), promoted=True)
    save_model(paths, model)
    with pytest.raises(UserDataError, match="Point it at the one"):
        latest_model(paths)
    promote(paths, model, "test")
    with pytest.raises(UserDataError, match="Point it at the one"):
        latest_model(paths)
    (paths.home / model.folder).mkdir(parents=True)
    assert latest_model(paths) == model
    (paths.home / "elsewhere").mkdir()
    promote(paths, replace(model, folder="elsewhere"), "test")
    with pytest.raises(UserDataError, match=model.folder):
        latest_model(paths)


def test_a_folder_in_the_place_of_latest_is_an_error(paths: DatasetPaths) -> None:
    paths.latest.mkdir(parents=True)
    with pytest.raises(UserDataError, match="is no link"):
        latest_model(paths)


def test_a_validation_patient_that_an_ancestor_has_seen_is_found() -> None:
    assert leaked_patients(record("m"), {0: ["a"], 1: ["b"]}) == {}
    assert leaked_patients(record("m"), {0: ["a", "c"], 1: ["b"]}) == {0: ["c"]}


@pytest.mark.parametrize(
    ("made", "why", "rolled_back"),
    [
        ("2026-11-24T10:00:00", BY_ROLLBACK, True),
        ("2026-11-24T12:00:01", BY_ROLLBACK, False),
        ("2026-11-24T10:00:00", "not worse than another", False),
    ],
)
def test_a_person_who_went_back_is_not_overruled(
    paths: DatasetPaths, made: str, why: str, rolled_back: bool
) -> None:
    """By a promotion that was cut off before they did."""
    Journal(paths.promotions).append(
        {"at": "2026-11-24T12:00:00", "model": "2026-11-23", "before": "2026-11-24", "why": why}
    )
    assert was_rolled_back_since(paths, replace(record("2026-11-24"), created=made)) is rolled_back


@pytest.mark.parametrize(
    ("used", "back_to", "counted"),
    [
        (3, None, [0, 1, 2]),
        (3, 0, [0]),  # a person had a reason to go back: what was before does not count
        (0, None, []),
    ],
)
def test_those_that_were_in_use_since_a_rollback(
    paths: DatasetPaths, used: int, back_to: int | None, counted: list[int]
) -> None:
    models = [record(f"2026-11-2{n}") for n in range(used)]
    for model in models:
        (paths.home / model.folder).mkdir(parents=True)
        save_model(paths, model)
        promote(paths, model, "not worse")
    never = record("2026-11-29")
    (paths.home / never.folder).mkdir(parents=True)
    save_model(paths, never)
    if back_to is not None:
        promote(paths, models[back_to], BY_ROLLBACK)
    assert used_since_rollback(paths, ["GTV"]) == [models[n] for n in counted]


def test_of_those_only_models_with_the_same_structures(paths: DatasetPaths) -> None:
    """The mean over liver and tumour is always below that over the liver."""
    liver = replace(record("2026-11-20"), structures=["liver"])
    both = replace(record("2026-11-21"), structures=["liver", "tumour"])
    for model in (liver, both):
        (paths.home / model.folder).mkdir(parents=True, exist_ok=True)
        save_model(paths, model)
        promote(paths, model, "not worse")
    assert used_since_rollback(paths, ["tumour", "liver"]) == [both]
