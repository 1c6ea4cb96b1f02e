"""On which cases the model in use is judged beside a candidate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from predicted_lab import a_model

from flows import judgement
from tasks.errors import UserDataError
from tasks.ledger.case_book import BookedCase, book_cases
from tasks.ledger.iterations import Iteration
from tasks.ledger.models import promote, save_model
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.refinements import Kind, Refinement, note_refinements
from tasks.promote import judge_candidate
from tasks.settings.dataset import DatasetSettings


@pytest.mark.parametrize(
    ("imported_from", "seen", "test_cases", "untested", "asked"),
    [
        ("a file", {}, [], ["GTV"], ["c1", "c2"]),  # validated elsewhere: it has seen nobody from here
        ("a file", {}, ["t"], [], None),  # the test set tells
        ("a file", {}, ["t"], ["GTV"], ["t", "c1"]),  # not of what no test case has
        ("a file", {}, ["t"], ["a structure that is new here"], None),
        ("a file", {"0": ["p1"]}, [], ["GTV"], None),  # one of ours that came back: it has learned from them
        (None, {"0": ["p1"]}, [], ["GTV"], None),
    ],
)
def test_an_imported_model_is_scored_on_what_it_has_not_seen(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    imported_from: str | None,
    seen: dict[str, list[str]],
    test_cases: list[str],
    untested: list[str],
    asked: list[str] | None,
) -> None:
    model = replace(a_model(DatasetPaths.of("D"), ["GTV"]), imported_from=imported_from, seen=seen)
    cases = [{"case_id": name, "label_key": "l"} for name in ("c1", "c2")]
    in_test_set = [{"case_id": name, "label_key": "l"} for name in test_cases]
    iteration: Any = SimpleNamespace(test_cases=lambda: in_test_set, training_cases=lambda: cases)
    in_c1 = {"c1": []}  # the structure is, and in no other
    monkeypatch.setattr(
        judgement, "untested_structures", lambda *given: in_c1.get(given[2][0]["case_id"], untested)
    )
    asked_for: list[Any] = []
    monkeypatch.setattr(judgement, "_scored", lambda *_, cases, **__: asked_for.append(cases) or [])
    monkeypatch.setattr(judgement, "check_weights", lambda *_: None)
    nothing: Any = None
    judgement._scores_of(DatasetPaths.of("D"), iteration, model, nothing, nothing)
    assert [found and [case["case_id"] for case in found] for found in asked_for] == [asked]


def came_back(paths: DatasetPaths, case_id: str, model: str | None, kind: Kind, label: str = "l") -> None:
    """A case whose label is what became of a prediction."""
    uid = f"segmentation of {case_id}"
    book_cases(paths.cases, "2026-11-21", {case_id: BookedCase("p", "i", label, uid, None, "2026-11-21")})
    note_refinements(paths.refinements, {uid: Refinement(case_id, kind, "", "1", model, False, "2026-11-21")})


def test_an_imported_model_is_not_asked_whether_it_agrees_with_itself(home: Path) -> None:
    paths = DatasetPaths.of("D")
    model = replace(a_model(paths, ["GTV"]), imported_from="a file")
    came_back(paths, "corrected", model.model_id, "edited")
    came_back(paths, "approved", model.model_id, "unedited")
    came_back(paths, "of another model", "2026-01-01", "edited")
    came_back(paths, "drawn anew", model.model_id, "new")
    came_back(paths, "drawn again since", model.model_id, "edited", "of then")
    names = ["corrected", "approved", "of another model", "drawn anew", "drawn again since", "drawn"]
    cases = [{"case_id": name, "label_key": "l"} for name in names]

    def fair(cases: list[dict[str, str]]) -> list[str]:
        iteration: Any = SimpleNamespace(training_cases=lambda: cases)
        return [case["case_id"] for case in judgement._fair_cases(paths, iteration, model)]

    assert fair(cases) == names[2:]
    assert fair(cases[:2]) == names[:2]  # nothing else is there to judge by


def test_a_model_that_lacks_a_fold_is_no_measure_of_a_candidate(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With four folds of five it scores less, and is easier to beat."""
    paths = DatasetPaths.of("D")
    model = replace(a_model(paths, ["GTV"]), checkpoints={"0": "sha256", "1": "sha256"})
    iteration: Any = SimpleNamespace(test_cases=lambda: ["t"], training_cases=lambda: [])
    monkeypatch.setattr(judgement, "_scored", lambda *_, **__: [])
    nothing: Any = None
    with pytest.raises(UserDataError, match="fold 0 of model 2026-11-20 is not what was recorded"):
        judgement._scores_of(paths, iteration, model, nothing, nothing)


def test_the_best_of_former_models_without_its_weights_stops_a_night_with_a_way_out(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = DatasetPaths.of("D")
    current, best = (a_model(paths, ["GTV"], f"2026-11-2{n}") for n in (1, 0))
    save_model(paths, current)
    (paths.home / current.folder).mkdir(parents=True)
    promote(paths, current, "not worse")

    def scores_of(_paths: Any, _iteration: Any, model: Any, *_: Any) -> list[Any]:
        if model is best:
            raise UserDataError("fold 0 of model 2026-11-20 is not what was recorded")
        return []

    iteration: Any = SimpleNamespace(name="2026-11-22__D", test_cases=lambda: [], training_cases=lambda: [])
    for name, does in (
        ("_scores_of", scores_of),
        ("_scored", lambda *_, **__: []),
        ("candidate_folder", lambda *_, **__: home),
        ("best_in_use", lambda *_: [best]),
        ("judge_candidate", lambda *_: {"accepted": True, "verdicts": []}),
    ):
        monkeypatch.setattr(judgement, name, does)
    nothing: Any = None
    with pytest.raises(UserDataError, match=r"fold 0 .*Or delete the folder .* as a whole"):
        judgement.judged(paths, iteration, {"fold": []}, DatasetSettings(), nothing)


@pytest.mark.parametrize(
    ("dice", "accepted", "against"),
    [
        (0.835, True, "2026-11-21"),
        (0.825, False, "2026-11-20"),  # 0.015 below the model in use, 0.025 below the best
        (0.815, False, "2026-11-21"),
    ],
)
def test_a_margin_that_is_granted_each_night_does_not_add_up(
    home: Path, monkeypatch: pytest.MonkeyPatch, dice: float, accepted: bool, against: str
) -> None:
    paths = DatasetPaths.of("D")
    before = {"2026-11-20": 0.85, "2026-11-21": 0.84}
    for model_id, mean in before.items():
        on_record = [
            {"case_id": f"c{n}", "label_key": "l", "mirroring": True, "dice": {"GTV": mean}} for n in range(6)
        ]
        model = replace(a_model(paths, ["GTV"], model_id), test_cases=on_record)
        (paths.home / model.folder).mkdir(parents=True)
        save_model(paths, model)
        promote(paths, model, "not worse")
    cases = [{"case_id": f"c{n}", "patient": f"p{n}", "place": "test", "label_key": "l"} for n in range(6)]
    name = "2026-11-22__D"
    iteration = Iteration(name, name, None, "CT", ["GTV"], "3d_fullres", "nnUNetPlans", "", 2, cases)

    def scored(*given: Any, **_: Any) -> list[dict[str, Any]]:
        return [{"case_id": row["case_id"], "dice": {"GTV": before.get(given[3], dice)}} for row in cases]

    monkeypatch.setattr(judgement, "_scored", scored)
    monkeypatch.setattr(judgement, "check_weights", lambda *_: None)
    monkeypatch.setattr(judgement, "judge_candidate", judge_candidate.fn)
    monkeypatch.setattr(judgement, "record_model", lambda *given: given[4])
    nothing: Any = None
    found: Any = judgement.judged(paths, iteration, {"fold": []}, DatasetSettings(), nothing)
    assert (found["accepted"], found["compared_with"]) == (accepted, against)


def test_an_imported_model_is_a_measure_of_those_that_follow_its_successor(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record has no scores: what it scored while it was in use is kept."""
    paths = DatasetPaths.of("D")
    dice = {"import-1": 0.85, "2026-11-21": 0.835, "2026-11-22": 0.82}
    cases = [{"case_id": f"c{n}", "patient": f"p{n}", "place": "test", "label_key": "l"} for n in range(6)]
    predicted: list[str] = []

    def scored(*given: Any, known: Any = (), **_: Any) -> list[dict[str, Any]]:
        if not known:
            predicted.append(given[3])
        return [{**row, "mirroring": True, "dice": {"GTV": dice[given[3]]}} for row in cases]

    def recorded(_id: str, iteration: Iteration, _folds: Any, rows: Any, judgement: Any, _raced: Any) -> Any:
        return replace(a_model(paths, ["GTV"], iteration.name.split("__")[0]), test_cases=rows, **judgement)

    monkeypatch.setattr(judgement, "_scored", scored)
    monkeypatch.setattr(judgement, "check_weights", lambda *_: None)
    monkeypatch.setattr(judgement, "judge_candidate", judge_candidate.fn)
    monkeypatch.setattr(judgement, "record_model", recorded)
    model = replace(a_model(paths, ["GTV"], "import-1"), imported_from="a file")
    nothing: Any = None
    for day in ("2026-11-21", "2026-11-22"):
        (paths.home / model.folder).mkdir(parents=True)
        save_model(paths, model)
        promote(paths, model, "first")
        name = f"{day}__D"
        iteration = Iteration(name, name, None, "CT", ["GTV"], "3d_fullres", "nnUNetPlans", "", 2, cases)
        model = judgement.judged(paths, iteration, {"fold": []}, DatasetSettings(), nothing)
    assert (model.accepted, model.compared_with) == (False, "import-1")
    assert predicted == ["2026-11-21", "import-1", "2026-11-22"]


def test_former_models_are_asked_for_what_no_test_case_has(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, asked = DatasetPaths.of("D"), []
    current = a_model(paths, ["GTV", "node"])
    save_model(paths, current)
    (paths.home / current.folder).mkdir(parents=True)
    promote(paths, current, "first")
    verdicts = [{"structure": "GTV", "basis": ""}, {"structure": "node", "basis": "cross-validation"}]
    iteration: Any = SimpleNamespace(name="2026-11-22__D", test_cases=lambda: [], training_cases=lambda: [])
    for name, does in (
        ("_scored", lambda *_, **__: []),
        ("candidate_folder", lambda *_, **__: home),
        ("judge_candidate", lambda *_: {"accepted": True, "verdicts": verdicts}),
        ("best_in_use", lambda *given: asked.append(given[-1]) or []),
        ("record_model", lambda *_: None),
    ):
        monkeypatch.setattr(judgement, name, does)
    nothing: Any = None
    judgement.judged(paths, iteration, {"fold": []}, DatasetSettings(), nothing)
    assert asked == [["node"]]
