"""A candidate is judged on the cases that both models can be judged on, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from trained_models import case, iteration, trained

from tasks.errors import UserDataError
from tasks.ledger.files import read_json, write_json
from tasks.ledger.iterations import Iteration
from tasks.ledger.models import latest_model, load_model, promote, save_model
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.store import Store
from tasks.promote import judge_candidate, race, untested_structures
from tasks.review.fate import why_not
from tasks.settings.dataset import DatasetSettings
from tasks.train import control_is_due, fold_job

SETTINGS = DatasetSettings()


@pytest.fixture
def paths(home: Path) -> DatasetPaths:
    return DatasetPaths.of("D")


def fold_results(dice: dict[str, float]) -> list[dict[str, Any]]:
    return [{"fold": 0, "cases": {name: {"GTV": value} for name, value in dice.items()}}]


def judged(*given: Any) -> dict[str, Any]:
    """A candidate beside the model in use."""
    found: dict[str, Any] = judge_candidate.fn(*given, latest_model(DatasetPaths.of("D")))
    return found


def test_the_first_model_is_used(paths: DatasetPaths) -> None:
    judgement = judged("D", iteration("1", [case(1, 0)]), [], [], [], SETTINGS)
    assert (judgement["accepted"], judgement["basis"]) == (True, "the first model")


@pytest.mark.parametrize(("dice", "accepted"), [(0.8, True), (0.6, False)])
def test_without_a_test_set_validation_cases_decide(paths: DatasetPaths, dice: float, accepted: bool) -> None:
    cases = [case(n, n % 2) for n in range(6)]
    promote(paths, trained(paths, "2026-01-01", cases, 0.8), "first")
    judgement = judged(
        "D", iteration("2", cases), fold_results({c["case_id"]: dice for c in cases}), [], [], SETTINGS
    )
    assert (judgement["accepted"], judgement["basis"]) == (accepted, "cross-validation")
    assert judgement["verdicts"][0]["patients"] == 6


def test_a_case_under_a_corrected_label_is_no_comparison(paths: DatasetPaths) -> None:
    """The old score is of another truth."""
    promote(paths, trained(paths, "2026-01-01", [case(0, 0), case(1, 1)], 0.8), "first")
    now = [case(0, 0, "corrected"), case(1, 1), case(2, 0)]
    results = fold_results({"case0": 0.1, "case1": 0.9, "case2": 0.1})
    judgement = judged("D", iteration("2", now), results, [], [], SETTINGS)
    assert (judgement["accepted"], judgement["verdicts"][0]["cases"]) == (True, 1)


def test_where_there_is_a_test_set_it_decides(paths: DatasetPaths) -> None:
    cases = [case(0, 0), case(1, 1), case(2, "test")]
    promote(paths, trained(paths, "2026-01-01", cases, 0.2), "first")
    rows = [[{"case_id": "case2", "dice": {"GTV": value}}] for value in (0.5, 0.8)]
    results = fold_results({"case0": 0.9, "case1": 0.9})
    judgement = judged("D", iteration("2", cases), results, *rows, SETTINGS)
    assert (judgement["accepted"], judgement["basis"]) == (False, "test set")
    assert judgement["verdicts"][0]["difference"] == pytest.approx(-0.3)


def without_a_test_case_of_node(paths: DatasetPaths) -> Iteration:
    """A model that finds nodes is in use; the iteration that follows it."""
    cases = [case(0, 0), case(1, 1), case(2, "test")]
    before = replace(trained(paths, "2026-01-01", cases, 0.8), structures=["GTV", "node"])
    for fold in (0, 1):
        file = paths.home / before.folder / f"fold_{fold}" / "fold.json"
        write_json(file, {"cases": {f"case{fold}": {"GTV": 0.8, "node": 0.7}}})
    save_model(paths, before)
    promote(paths, before, "first")
    return replace(iteration("2", cases), structures=["GTV", "node"])


@pytest.mark.parametrize(("node", "accepted"), [(0.7, True), (0.0, False)])
def test_a_structure_that_no_test_case_has_is_judged_by_cross_validation(
    paths: DatasetPaths, node: float, accepted: bool
) -> None:
    """A candidate that has forgotten it would go live otherwise."""
    now = without_a_test_case_of_node(paths)
    rows = [[{"case_id": "case2", "dice": {"GTV": 0.8, "node": None}}]] * 2
    results = [{"fold": f, "cases": {f"case{f}": {"GTV": 0.1, "node": node}}} for f in (0, 1)]
    judgement = judged("D", now, results, *rows, SETTINGS)
    assert (judgement["accepted"], judgement["basis"]) == (accepted, "test set")
    found = {v["structure"]: (v["cases"], v["basis"]) for v in judgement["verdicts"]}
    assert found == {"GTV": (1, ""), "node": (2, "cross-validation")}
    assert accepted or why_not(judgement).endswith(
        "node -0.700 (at least -0.700, by cross-validation: no test case has it)"
    )


def test_a_structure_that_no_test_case_has_must_not_be_seen_in_one(paths: DatasetPaths) -> None:
    """However well it is found where it is."""
    now = without_a_test_case_of_node(paths)
    rows = [[{"case_id": "case2", "dice": {"GTV": 0.8, "node": node}}] for node in (0.0, None)]
    results = [{"fold": f, "cases": {f"case{f}": {"GTV": 0.9, "node": 0.9}}} for f in (0, 1)]
    judgement = judged("D", now, results, *rows, SETTINGS)
    assert not judgement["accepted"]
    assert "false alarms in 1 of 1 cases, and no more in 0" in why_not(judgement)


def test_false_alarms_in_cases_of_training_are_said_too(paths: DatasetPaths) -> None:
    """On the page would stand, as the reason against it, that it is better; the test case is silent."""
    now = without_a_test_case_of_node(paths)
    before = paths.home / load_model(paths, "2026-01-01").folder / "fold_1" / "fold.json"
    write_json(before, {"cases": {"case1": {"GTV": 0.8, "node": None}}})
    rows = [[{"case_id": "case2", "dice": {"GTV": 0.8, "node": None}}]] * 2
    results = [{"fold": f, "cases": {f"case{f}": {"GTV": 0.9, "node": (0.9, 0.0)[f]}}} for f in (0, 1)]
    judgement = judged("D", now, results, *rows, SETTINGS)
    assert not judgement["accepted"]
    assert "false alarms in 1 of 1 cases, and no more in 0" in why_not(judgement)
    (node,) = (verdict for verdict in judgement["verdicts"] if verdict["structure"] == "node")
    assert (node["alarm_bound"], node["false_alarm_margin"]) == (-1.0, SETTINGS.promotion.false_alarm_margin)


def raced(dice: dict[str, float], *, test: bool) -> dict[str, Any]:
    now = iteration("2026-01-02__D", [case(0, 0), case(1, "test" if test else 1)])
    folds = {name: [{"cases": {"case0": {"GTV": value}}}] for name, value in dice.items()}
    # On the test set it is the other way round.
    scores = {name: [{"dice": {"GTV": 1 - value}}] if test else [] for name, value in dice.items()}
    return race.fn(now, folds, scores)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("warm", "control", "test", "winner"),
    [
        (0.8, 0.7, False, "warm start"),
        (0.7, 0.8, False, "control"),
        (0.8, 0.8, False, "warm start"),
        (0.8, 0.7, True, "control"),
    ],
)
def test_the_better_one_wins_a_race(warm: float, control: float, test: bool, winner: str) -> None:
    outcome = raced({"fold": warm, "control": control}, test=test)
    assert outcome["winner"] == winner
    assert outcome["basis"] == ("test set" if test else "cross-validation")


def test_a_control_is_due_every_so_many_iterations(paths: DatasetPaths) -> None:
    cases = [case(0, 0), case(1, 1)]
    due = []
    parent = None
    for day in range(1, 8):
        name = f"2026-01-0{day}"
        now = replace(iteration(f"{name}__D", cases), parent=parent)
        due.append(control_is_due(paths, now, 3))
        assert not control_is_due(paths, now, None)
        record = trained(paths, name, cases, 0.5)
        save_model(paths, replace(record, parent=parent, control={} if due[-1] else None))
        parent = name
    assert due == [False, False, False, True, False, False, True]


def test_structures_that_only_one_lineage_knows_are_no_reason(paths: DatasetPaths) -> None:
    cases = [case(0, 0), case(1, 1)]
    promote(paths, trained(paths, "2026-01-01", cases, 0.8), "first")
    now = replace(iteration("2", cases), structures=["GTV", "Lung"], lineage=2)
    results = [{"fold": 0, "cases": {c["case_id"]: {"GTV": 0.9, "Lung": 0.1} for c in cases}}]
    judgement = judged("D", now, results, [], [], SETTINGS)
    assert judgement["accepted"]
    assert [verdict["structure"] for verdict in judgement["verdicts"]] == ["GTV"]


def test_without_a_test_set_an_imported_model_is_scored_on_what_it_has_not_seen(paths: DatasetPaths) -> None:
    cases = [case(0, 0), case(1, 1)]
    imported = replace(trained(paths, "2026-01-01", cases, 0.8), imported_from="sha")
    save_model(paths, imported)
    promote(paths, imported, "first")
    before = [{"case_id": c["case_id"], "dice": {"GTV": 0.9}} for c in cases]
    results = fold_results({c["case_id"]: 0.5 for c in cases})
    judgement = judged("D", iteration("2", cases), results, [], before, SETTINGS)
    assert (judgement["accepted"], judgement["verdicts"][0]["difference"]) == (False, pytest.approx(-0.4))


@pytest.mark.parametrize(("node", "accepted"), [(0.8, True), (0.0, False)])
def test_an_imported_model_is_asked_elsewhere_for_a_structure_that_no_test_case_has(
    paths: DatasetPaths, node: float, accepted: bool
) -> None:
    """Its own validation is not known here; a candidate that has forgotten the nodes would go live."""
    cases = [case(0, 0), case(1, 1), case(2, "test")]
    imported = replace(trained(paths, "2026-01-01", [], 0.8), imported_from="sha", structures=["GTV", "node"])
    save_model(paths, imported)
    promote(paths, imported, "first")
    now = replace(iteration("2", cases), structures=["GTV", "node"])
    tested = [{"case_id": "case2", "dice": {"GTV": 0.8, "node": None}}]
    asked = [{"case_id": f"case{n}", "dice": {"GTV": 0.9, "node": 0.8}} for n in (0, 1)]
    results = [{"fold": f, "cases": {f"case{f}": {"GTV": 0.1, "node": node}}} for f in (0, 1)]
    judgement = judged("D", now, results, tested, [*tested, *asked], SETTINGS)
    assert judgement["accepted"] == accepted
    found = {v["structure"]: (v["cases"], v["basis"]) for v in judgement["verdicts"]}
    assert found == {"GTV": (1, ""), "node": (2, "cross-validation")}


def test_which_structures_no_test_case_has_is_told_by_the_labels(paths: DatasetPaths) -> None:
    cases = [case(0, 0), case(1, "test"), case(2, "test")]
    now = replace(iteration("2", cases), structures=["GTV", "node"])
    assert untested_structures(paths, now, cases) == []  # of labels of which it is not known
    for n, found in ((0, {0: 5, 2: 5}), (1, {0: 9, 1: 1}), (2, {0: 10})):
        write_json(Store(paths.store).voxel_counts(f"case{n}", "same"), found)
    assert untested_structures(paths, now, now.test_cases()) == ["node"]
    assert untested_structures(paths, now, cases) == []


@pytest.mark.parametrize(
    ("before", "after", "basis"),
    [
        (True, True, "cross-validation"),
        (True, False, "cross-validation, with mirroring and without"),
        (False, True, "cross-validation, with mirroring and without"),
        (None, True, "cross-validation"),  # on record since it can be chosen
    ],
)
def test_who_was_validated_with_mirroring_and_who_without_is_said(
    paths: DatasetPaths, before: bool | None, after: bool, basis: str
) -> None:
    """Averaging over mirrored images gains a little, which is no merit of the weights."""
    cases = [case(0, 0), case(1, 1)]
    model = trained(paths, "2026-01-01", cases, 0.8)
    promote(paths, model, "first")
    for number in (0, 1):
        file = paths.home / model.folder / f"fold_{number}" / "fold.json"
        choices = {} if before is None else {"mirroring": before}
        write_json(file, {**read_json(file), "job": {"choices": choices}})
    now = DatasetSettings.model_validate({"prediction": {"mirroring": after}})
    results = fold_results({c["case_id"]: 0.8 for c in cases})
    assert judged("D", iteration("2", cases), results, [], [], now)["basis"] == basis


def test_a_warm_start_that_has_seen_its_judges_is_refused(paths: DatasetPaths) -> None:
    cases = [case(0, 0), case(1, 1)]
    parent = replace(trained(paths, "2026-01-01", cases, 0.5), seen={"0": ["p1"], "1": ["p0"]})
    save_model(paths, parent)
    now = replace(iteration("2026-01-02__D", cases), parent="2026-01-01")
    assert fold_job(paths, now, 0, SETTINGS).warm_start_sha256 == parent.checkpoints["0"]
    assert fold_job(paths, now, 0, SETTINGS, control=True).warm_start is None
    moved = replace(now, cases=[case(0, 1), case(1, 0)])
    with pytest.raises(UserDataError, match="fold 0 would be judged by 1 patients that model 2026-01-01"):
        fold_job(paths, moved, 0, SETTINGS)
    assert fold_job(paths, moved, 0, SETTINGS, control=True).warm_start is None


def test_a_model_of_fewer_folds_warms_more(paths: DatasetPaths) -> None:
    cases = [case(n, n) for n in range(5)]
    parent = replace(trained(paths, "2026-01-01", cases, 0.5), imported_from="sha")
    save_model(paths, parent)
    now = replace(iteration("2026-01-02__D", cases), parent="2026-01-01", folds=5)
    used = [fold_job(paths, now, fold, SETTINGS).warm_start_sha256 for fold in range(5)]
    assert used == [parent.checkpoints[str(fold % 2)] for fold in range(5)]


def test_what_nothing_speaks_for_is_not_used(paths: DatasetPaths) -> None:
    """No case, or no structure, that both know: the user may still put it into use."""
    promote(paths, trained(paths, "2026-01-01", [case(0, 0), case(1, 1)], 0.8), "first")
    others = iteration("2", [case(8, 0), case(9, 1)])
    judgement = judged("D", others, fold_results({"case8": 0.9, "case9": 0.9}), [], [], SETTINGS)
    assert (judgement["accepted"], judgement["basis"][:29]) == (False, "cross-validation, without a c")
    other = replace(iteration("2", [case(0, 0), case(1, 1)]), structures=["Lung"])
    results = [{"fold": 0, "cases": {"case0": {"Lung": 0.9}, "case1": {"Lung": 0.9}}}]
    assert not judged("D", other, results, [], [], SETTINGS)["accepted"]


def test_a_label_that_holds_nothing_of_a_structure_tells_a_false_alarm_from_a_miss(
    paths: DatasetPaths,
) -> None:
    """Both are a Dice of 0; only where the structure is, the two models can agree less than before."""
    cases = [case(n, "test") for n in range(4)] + [case(8, 0), case(9, 1)]
    promote(paths, trained(paths, "2026-01-01", cases, 0.5), "first")
    counts = [{0: 90, 1: 10}, {0: 90, 1: 10}, {0: 100}, {0: 60, 2: 40}]
    for n, count in enumerate(counts):
        write_json(Store(paths.store).voxel_counts(f"case{n}", "same"), count)
    rows = [[{"case_id": f"case{n}", "dice": {"GTV": dice}} for n in range(4)] for dice in (0.0, 0.0)]
    (verdict,) = judged("D", iteration("2", cases), [], *rows, SETTINGS)["verdicts"]
    # Of the last one a part was not looked at: nobody knows what is there.
    assert (verdict["cases"], verdict["empty"]) == (3, 1)


def test_under_a_corrected_label_the_prediction_of_then_is_scored_again(paths: DatasetPaths) -> None:
    cases = [case(0, 0), case(1, 1)]
    record = trained(paths, "2026-01-01", cases, 0.8)
    promote(paths, record, "first")
    drawn, predicted = np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8)
    drawn[:2], predicted[:1] = 1, 1
    label = Store(paths.store).label("case0", "corrected")
    prediction = paths.home / record.folder / "fold_0" / "validation" / "case0.nii.gz"
    for file, array in ((label, drawn), (prediction, predicted)):
        file.parent.mkdir(parents=True)
        sitk.WriteImage(sitk.GetImageFromArray(array), str(file))
    now = [case(0, 0, "corrected"), case(1, 1)]
    results = fold_results({"case0": 0.9, "case1": 0.9})
    verdict = judged("D", iteration("2", now), results, [], [], SETTINGS)["verdicts"][0]
    assert (verdict["cases"], verdict["current"]) == (2, pytest.approx((2 / 3 + 0.8) / 2))
