"""A candidate is held against former models that were better, in what they were better."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from trained_models import case, iteration, trained

from tasks.leads import best_in_use
from tasks.ledger.iterations import Iteration
from tasks.ledger.models import ModelRecord, promote, save_model
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.scores import keep_scores


@pytest.fixture
def paths(home: Path) -> DatasetPaths:
    return DatasetPaths.of("D")


def ahead(paths: DatasetPaths, today: Iteration, current: ModelRecord, **more: Any) -> list[ModelRecord]:
    """By what is on record."""
    return best_in_use(paths, today, current, more.pop("scored", {}), more.pop("mirroring", True), **more)


def with_scores(paths: DatasetPaths, model_id: str, dice: dict[str, float]) -> ModelRecord:
    """A model that was in use, and what it scored on the test set of its day."""
    rows = [{**case(n, "test"), "mirroring": True, "dice": {"GTV": d}} for n, d in enumerate(dice.values())]
    rows = [{**row, "case_id": name} for row, name in zip(rows, dice, strict=True)]
    model = replace(trained(paths, model_id, [case(8, 0), case(9, 1)], 0.5), test_cases=rows)
    save_model(paths, model)
    promote(paths, model, "not worse")
    return model


@pytest.mark.parametrize(
    ("earlier", "now", "best"),
    [
        # Its mean was the best of all, of three easy patients, on whom the one in use is as good.
        ({"case0": 0.95, "case1": 0.95}, {"case0": 0.96, "case1": 0.95, "case2": 0.5, "case3": 0.5}, False),
        ({"case2": 0.6, "case3": 0.55}, {"case0": 0.9, "case1": 0.9, "case2": 0.5, "case3": 0.5}, True),
        ({"case7": 0.99}, {"case0": 0.5}, False),  # on nothing of today
    ],
)
def test_the_best_of_former_models_is_found_case_by_case(
    paths: DatasetPaths, earlier: dict[str, float], now: dict[str, float], best: bool
) -> None:
    former, current = with_scores(paths, "2026-01-01", earlier), with_scores(paths, "2026-01-02", now)
    today = iteration("3", [case(n, "test") for n in range(4)])
    assert ahead(paths, today, current) == ([former] if best else [])
    relabelled = iteration("3", [case(n, "test", "corrected") for n in range(4)])
    assert ahead(paths, relabelled, current) == []


def test_what_one_structure_gains_does_not_hide_what_another_loses(paths: DatasetPaths) -> None:
    """Each night within the margin: the mean of both rises, and the nodes are lost."""
    scores = [{"GTV": 0.6, "node": 0.8}, {"GTV": 0.7, "node": 0.79}, {"GTV": 0.9, "node": 0.75}]
    models = []
    for day, dice in enumerate(scores, start=1):
        rows = [{**case(n, "test"), "mirroring": True, "dice": dice} for n in range(4)]
        record = trained(paths, f"2026-01-0{day}", [case(8, 0), case(9, 1)], 0.5)
        models.append(replace(record, structures=["GTV", "node"], test_cases=rows))
        save_model(paths, models[-1])
        promote(paths, models[-1], "not worse")
    today = replace(iteration("4", [case(n, "test") for n in range(4)]), structures=["GTV", "node"])
    assert ahead(paths, today, models[-1]) == [models[0]]


def test_false_alarms_that_are_granted_each_night_do_not_add_up(paths: DatasetPaths) -> None:
    """The first saw none of them, and is not worse in what it saw."""
    models = []
    for day, alarms in enumerate((0, 1, 2), start=1):
        dice = [0.8, 0.8, *([0.0] * alarms), *([None] * (4 - alarms))]
        rows = [{**case(n, "test"), "mirroring": True, "dice": {"GTV": d}} for n, d in enumerate(dice)]
        models.append(replace(trained(paths, f"2026-01-0{day}", [case(8, 0)], 0.5), test_cases=rows))
        save_model(paths, models[-1])
        promote(paths, models[-1], "not worse")
    today = iteration("4", [case(n, "test") for n in range(6)])
    assert ahead(paths, today, models[-1]) == [models[0]]


def test_without_a_test_set_former_models_are_compared_where_both_were_validated(paths: DatasetPaths) -> None:
    cases = [case(0, 0), case(1, 1)]
    models = [trained(paths, f"2026-01-0{n}", cases, dice) for n, dice in ((1, 0.8), (2, 0.7))]
    for model in models:
        promote(paths, model, "not worse")
    today = iteration("3", [*cases, case(2, 0)])
    assert ahead(paths, today, models[1]) == [models[0]]
    assert ahead(paths, today, models[0]) == []


def test_who_seems_the_best_by_a_few_cases_hides_no_other_once_it_is_scored(paths: DatasetPaths) -> None:
    """The first test case was easy for it, when it was the only one."""
    early = with_scores(paths, "2026-01-01", {"case0": 0.90})
    later = with_scores(paths, "2026-01-02", {f"case{n}": 0.84 for n in range(4)})
    current = with_scores(paths, "2026-01-03", {"case0": 0.85, **{f"case{n}": 0.82 for n in range(1, 4)}})
    today = iteration("4", [case(n, "test") for n in range(4)])
    assert ahead(paths, today, current) == [early]
    on_all = [{"case_id": f"case{n}", "dice": {"GTV": 0.7}} for n in range(4)]
    assert ahead(paths, today, current, scored={early.model_id: on_all}) == [later]


@pytest.mark.parametrize("imported_from", [None, "a file"])
def test_what_was_scored_since_is_on_record(paths: DatasetPaths, imported_from: str | None) -> None:
    """The record of a model from elsewhere has none, and never gets any."""
    former, current = (with_scores(paths, f"2026-01-0{n}", {f"case{n}": 0.8}) for n in (1, 2))
    former = replace(former, imported_from=imported_from)
    save_model(paths, former)
    today = iteration("3", [case(n, "test") for n in range(4)])
    assert ahead(paths, today, current) == []
    rows = [{**case(2, "test"), "tolerance_mm": 2.0, "mirroring": True, "dice": {"GTV": 0.9}}]
    for _ in range(2):
        keep_scores(paths, former, rows)
    assert ahead(paths, today, current) == [former]
    save_model(paths, replace(former, checkpoints={"0": "other weights"}))
    assert ahead(paths, today, current) == []


def test_another_way_to_predict_forgets_nobody(paths: DatasetPaths) -> None:
    """Both were scored in the way of then; in the way of today only the one in use is."""
    former = with_scores(paths, "2026-01-01", {"case0": 0.9})
    current = with_scores(paths, "2026-01-02", {"case0": 0.8})
    today, mirroring = iteration("3", [case(0, "test")]), False
    scored = {current.model_id: [{"case_id": "case0", "dice": {"GTV": 0.85}}]}
    assert ahead(paths, today, current, scored=scored, mirroring=mirroring) == [former]
    scored |= {former.model_id: [{"case_id": "case0", "dice": {"GTV": 0.84}}]}
    assert ahead(paths, today, current, scored=scored, mirroring=mirroring) == []


def test_a_structure_that_no_test_case_has_is_compared_where_both_were_validated(paths: DatasetPaths) -> None:
    """Else a margin would be granted in it each night, without an end."""
    cases = [case(0, 0), case(1, 1), case(2, "test")]
    models = []
    for day, dice in ((1, 0.8), (2, 0.7)):
        rows = [{**case(2, "test"), "mirroring": True, "dice": {"GTV": None}}]
        models.append(replace(trained(paths, f"2026-01-0{day}", cases, dice), test_cases=rows))
        save_model(paths, models[-1])
        promote(paths, models[-1], "not worse")
    today = iteration("3", cases)
    assert ahead(paths, today, models[1]) == []
    assert ahead(paths, today, models[1], untested=["GTV"]) == [models[0]]


def after_one_from_elsewhere(
    paths: DatasetPaths, cases: list[dict[str, Any]]
) -> tuple[ModelRecord, ModelRecord]:
    """A model that was imported, and the one of here that followed it."""
    current = trained(paths, "2026-01-02", cases, 0.7)
    folder = str((paths.imported("import-1").root / "results" / "D" / "t").relative_to(paths.home))
    former = replace(current, model_id="import-1", folder=folder, imported_from="a file")
    for model in (former, current):
        (paths.home / model.folder).mkdir(parents=True, exist_ok=True)
        save_model(paths, model)
        promote(paths, model, "not worse")
    return former, current


def test_without_a_test_set_a_model_from_elsewhere_is_known_by_what_it_was_asked_for(
    paths: DatasetPaths,
) -> None:
    """It was validated on nothing that is known here."""
    cases = [case(0, 0), case(1, 1)]
    former, current = after_one_from_elsewhere(paths, cases)
    today = iteration("3", cases)
    assert ahead(paths, today, current) == []
    rows = [{**row, "tolerance_mm": 2.0, "mirroring": True, "dice": {"GTV": 0.8}} for row in cases]
    keep_scores(paths, former, rows)
    assert ahead(paths, today, current) == [former]


def test_a_model_from_elsewhere_is_held_against_what_follows_where_no_test_case_has_a_structure(
    paths: DatasetPaths,
) -> None:
    """By what it was asked for while it was in use."""
    cases = [case(0, 0), case(1, 1), case(2, "test")]
    former, current = after_one_from_elsewhere(paths, cases)
    rows = [{**row, "tolerance_mm": 2.0, "mirroring": True, "dice": {"GTV": 0.8}} for row in cases[:2]]
    keep_scores(paths, former, rows)
    today = iteration("3", cases)
    assert ahead(paths, today, current, untested=["GTV"]) == [former]
    assert ahead(paths, today, current) == []
