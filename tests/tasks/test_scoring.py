"""A model is scored on the test set case by case: what is interrupted loses the case it was at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tasks.errors import ExternalToolError, IterSegError, TransientError, UserDataError
from tasks.labels import Labels
from tasks.ledger.files import read_json
from tasks.ledger.iterations import Iteration
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.store import Store
from tasks.scoring import score_test_set, scoring_file
from tasks.settings.dataset import DatasetSettings

CASES = [
    {"case_id": f"case{n}", "patient": f"p{n}", "place": "test", "image_key": "i", "label_key": "same"}
    for n in range(3)
]
NOW = Iteration("2026-01-02__D", "d", None, "CT", ["GTV"], "3d_fullres", "nnUNetPlans", "", 2, CASES)
SETTINGS = DatasetSettings()
WEIGHTS = ["sha of fold 0", "sha of fold 1"]
OTHER = Labels(["node", "GTV"], "label_image")
"""What the integers of the model mean, which is of another lineage."""
DICE = {"case0": 0.5, "case1": 0.6, "case2": 0.7}


class Program:
    """What predicts, without a network; it is killed before it comes to ``killed_at``."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.killed_at: str | None = None
        self.failing: dict[str, str] = {}
        self.unheard: str | None = None

    def __call__(
        self,
        cases: Sequence[Mapping[str, str]],
        *,
        on_message: Callable[[dict[str, Any]], None],
        log: Path,
        **_: Any,
    ) -> dict[str, str]:
        for number, case in enumerate(cases, start=1):
            if case["case_id"] == self.killed_at:
                raise ExternalToolError("python -m predict", -9, log)
            self.asked.append(case["case_id"])
            on_message({"predicted": number, "of": len(cases)})
            if case["case_id"] not in (*self.failing, self.unheard):
                on_message({"written": case["case_id"], "doubt": {}})
        return self.failing


@pytest.fixture
def program(home: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    def scores(truth: Path, prediction: Path, labels: Labels, _mm: float, predicted: Labels | None) -> Any:
        case_id = prediction.name.split(".")[0]
        assert truth == Store(DatasetPaths.of("D").store).label(case_id, "same")
        assert (labels.structures, predicted) == (NOW.structures, OTHER)
        return {"dice": {"GTV": DICE[prediction.name.split(".")[0]]}}

    predicts = Program()
    monkeypatch.setattr("tasks.scoring.predict_batch", predicts)
    monkeypatch.setattr("tasks.scoring.scores_of_files", scores)
    monkeypatch.setattr("tasks.shown.steps.progress_artifact", lambda _: lambda *_: None)
    return predicts


def scored(
    weights: list[str] = WEIGHTS, known: Sequence[dict[str, Any]] = (), settings: DatasetSettings = SETTINGS
) -> dict[str, float]:
    rows = score_test_set.fn("D", NOW, "m", Path("absent"), weights, settings, 1, known, OTHER)
    return {row["case_id"]: row["dice"]["GTV"] for row in rows}


def test_each_case_is_predicted_and_compared_with_its_label(program: Program) -> None:
    assert scored() == DICE
    paths = DatasetPaths.of("D")
    assert read_json(scoring_file(paths, NOW, "m")) == ["scored", 3, 3]


@pytest.mark.parametrize(
    ("weights", "mirroring", "again"),
    [
        (WEIGHTS, True, ["case1", "case2"]),
        (["sha of fold 0", "trained again"], True, ["case0", "case1", "case2"]),
        (WEIGHTS, False, ["case0", "case1", "case2"]),
    ],
)
def test_what_was_killed_goes_on_with_the_case_it_was_at(
    program: Program, weights: list[str], mirroring: bool, again: list[str]
) -> None:
    program.killed_at = "case1"
    with pytest.raises(ExternalToolError):
        scored()
    program.killed_at, program.asked = None, []
    settings = SETTINGS.model_copy(
        update={"prediction": SETTINGS.prediction.model_copy(update={"mirroring": mirroring})}
    )
    assert scored(weights, settings=settings) == DICE
    assert program.asked == again


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({}, ["case1", "case2"]),
        ({"label_key": "before it was corrected"}, ["case0", "case1", "case2"]),
        ({"image_key": "before it was sent again"}, ["case0", "case1", "case2"]),
        ({"mirroring": False}, ["case0", "case1", "case2"]),
        ({"tolerance_mm": 3.0}, ["case0", "case1", "case2"]),
    ],
)
def test_a_score_that_the_model_has_is_not_computed_again(
    program: Program, change: dict[str, Any], again: list[str]
) -> None:
    row = {
        "case_id": "case0",
        "image_key": "i",
        "label_key": "same",
        "tolerance_mm": 2.0,
        "mirroring": True,
        "dice": {"GTV": 0.9},
    }
    found = scored(known=[{**row, **change}])
    assert found == {**DICE, "case0": DICE["case0"] if change else 0.9}
    assert program.asked == again


def test_a_case_that_cannot_be_predicted_is_told_and_the_others_are_kept(program: Program) -> None:
    program.failing = {"case1": "RuntimeError: out of memory"}
    with pytest.raises(UserDataError, match="cannot predict test cases: .*case1.*out of memory"):
        scored()
    program.failing, program.asked = {}, []
    assert scored() == DICE
    assert program.asked == ["case1"]


def test_a_case_of_which_nothing_was_heard_is_tried_again(program: Program) -> None:
    program.unheard = "case1"
    with pytest.raises(TransientError, match="nothing was heard of case1"):
        scored()
    program.unheard, program.asked = None, []
    assert scored() == DICE
    assert program.asked == ["case1"]


def test_without_its_weights_a_model_is_not_scored(home: Path) -> None:
    with pytest.raises(IterSegError):
        score_test_set.fn("D", NOW, "m", home / "absent", WEIGHTS, SETTINGS, 1)
