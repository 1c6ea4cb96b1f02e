"""A fold's scores are there case by case: an attempt that is interrupted loses one of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from tasks.errors import IterSegError
from tasks.ledger.files import read_json
from tasks.ledger.iteration_paths import VALIDATION_SUMMARY
from tasks.nnunet import trainer, validation
from tasks.nnunet.trainer import SPARE_S, TrainingStopped
from tasks.nnunet.validation import validate_fold
from tasks.processes.program import JOB_ENDS_AT

CASES = ["a", "b", "c", "d"]
DICE = {"a": 0.5, "b": None, "c": 0.7, "d": 0.9}
MEAN = pytest.approx(0.7)


class Killed(Exception):
    """What ends a program here and nothing expects."""


@pytest.fixture
def fold(tmp_path: Path) -> Any:
    """Of a trainer what validates, without a network."""
    return SimpleNamespace(
        output_folder=str(tmp_path),
        mirroring=False,
        dataset_json={"labels": {"background": 0, "GTV": 1}, "file_ending": ".nii.gz"},
        do_split=lambda: ([], CASES),
        still_ours=lambda: None,
    )


@pytest.fixture
def predicted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The cases that were predicted, in order; ``stop`` may be asked for and ``kill`` set to one of them."""
    done: list[str] = []
    monkeypatch.setattr(validation, "_predictor", lambda _: None)
    monkeypatch.setattr(validation, "asked_to_stop", lambda: False)
    monkeypatch.setattr(validation, "tell", lambda **_: None)

    def predict(_trainer: Any, _predictor: Any, case_id: str) -> Path:
        done.append(case_id)
        return Path(f"{case_id}.nii.gz")

    monkeypatch.setattr(validation, "_predicted", predict)
    monkeypatch.setattr(validation, "_dice", lambda file, *_: {"GTV": DICE[file.name.split(".")[0]]})
    return done


def killed_at(monkeypatch: pytest.MonkeyPatch, case_id: str) -> Callable[[], None]:
    """Let the program die in a case; what is returned lets it live again."""
    dice = validation._dice

    def die(file: Path, *rest: Any) -> Any:
        if file.name.startswith(case_id):
            raise Killed
        return dice(file, *rest)

    monkeypatch.setattr(validation, "_dice", die)
    return lambda: monkeypatch.setattr(validation, "_dice", dice)


def a_case_takes(seconds: float, monkeypatch: pytest.MonkeyPatch, predicted: list[str]) -> None:
    """A clock that nothing moves but a prediction, and that begins with 0."""

    def now() -> float:
        return seconds * len(predicted)

    monkeypatch.setattr(validation, "time", SimpleNamespace(monotonic=now))
    monkeypatch.setattr(trainer, "time", SimpleNamespace(time=now))


@pytest.mark.parametrize(
    ("at", "checkpoint", "mirroring", "again"),
    [
        ("a", "weights", False, ["a", "b", "c", "d"]),
        ("c", "weights", False, ["c", "d"]),
        ("d", "weights", False, ["d"]),
        ("c", "other weights", False, ["a", "b", "c", "d"]),
        ("c", "weights", True, ["a", "b", "c", "d"]),
    ],
)
def test_what_is_scored_is_not_predicted_again_as_long_as_it_would_come_out_the_same(
    fold: Any,
    predicted: list[str],
    monkeypatch: pytest.MonkeyPatch,
    at: str,
    checkpoint: str,
    mirroring: bool,
    again: list[str],
) -> None:
    whole_again = killed_at(monkeypatch, at)
    with pytest.raises(Killed):
        validate_fold(fold, "weights", trained_here=True)
    whole_again()
    predicted.clear()
    fold.mirroring = mirroring
    found = validate_fold(fold, checkpoint, trained_here=False)
    assert predicted == again
    assert found == {"validation_dice": {"GTV": MEAN}, "cases": {case: {"GTV": DICE[case]} for case in CASES}}


def test_it_ends_with_the_case_at_hand_where_it_is_asked_to(
    fold: Any, predicted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation, "asked_to_stop", lambda: len(predicted) == 2)
    with pytest.raises(TrainingStopped) as stopped:
        validate_fold(fold, "weights", trained_here=True)
    assert (stopped.value.validated_cases, predicted) == (2, ["a", "b"])
    assert list(read_json(Path(fold.output_folder) / VALIDATION_SUMMARY)["cases"]) == ["a", "b"]


@pytest.mark.parametrize(
    ("left_s", "trained_here", "cases"),
    [
        (SPARE_S - 5, True, 0),  # the job of which the training took all but that
        (SPARE_S - 5, False, 1),  # one case at least, or nobody would ever get further
        (SPARE_S + 5, True, 1),  # the first took 10 s
        (SPARE_S + 15, True, 1),
        (SPARE_S + 25, True, 2),
        (SPARE_S + 3600, True, 4),
    ],
)
def test_no_case_is_begun_that_would_not_be_scored_before_the_job_ends(
    fold: Any,
    predicted: list[str],
    monkeypatch: pytest.MonkeyPatch,
    left_s: float,
    trained_here: bool,
    cases: int,
) -> None:
    a_case_takes(10, monkeypatch, predicted)
    monkeypatch.setenv(JOB_ENDS_AT, str(left_s))
    if cases == len(CASES):
        validate_fold(fold, "weights", trained_here=trained_here)
    else:
        with pytest.raises(TrainingStopped):
            validate_fold(fold, "weights", trained_here=trained_here)
    assert len(predicted) == cases


def test_an_attempt_that_goes_on_knows_how_long_a_case_takes(
    fold: Any, predicted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    a_case_takes(100, monkeypatch, predicted)
    whole_again = killed_at(monkeypatch, "b")
    with pytest.raises(Killed):
        validate_fold(fold, "weights", trained_here=True)
    whole_again()
    predicted.clear()
    monkeypatch.setenv(JOB_ENDS_AT, str(SPARE_S + 60))
    with pytest.raises(TrainingStopped):
        validate_fold(fold, "weights", trained_here=True)
    assert predicted == []


def test_an_attempt_that_lost_its_fold_writes_no_score_over_those_of_the_one_that_has_it(
    fold: Any, predicted: list[str]
) -> None:
    def taken_over() -> None:
        raise IterSegError("another attempt has this fold")

    fold.still_ours = taken_over
    with pytest.raises(IterSegError, match="another attempt"):
        validate_fold(fold, "weights", trained_here=True)
    assert not (Path(fold.output_folder) / VALIDATION_SUMMARY).exists()


def test_where_no_voxel_is_known_to_be_background_there_is_no_dice(tmp_path: Path) -> None:
    """A structure that fills the image could not be told from one that is right."""
    trainer: Any = SimpleNamespace(
        preprocessed_dataset_folder_base=str(tmp_path),
        plans_manager=SimpleNamespace(image_reader_writer_class=SimpleITKIO),
        label_manager=SimpleNamespace(ignore_label=2),
    )
    truth = np.full((4, 8, 8), 2, dtype=np.uint8)
    truth[1:3, 2:5, 2:5] = 1
    (tmp_path / "gt_segmentations").mkdir()
    predicted = tmp_path / "case.nii.gz"
    sitk.WriteImage(sitk.GetImageFromArray(np.ones_like(truth)), predicted)
    sitk.WriteImage(sitk.GetImageFromArray(truth), tmp_path / "gt_segmentations" / predicted.name)
    assert validation._dice(predicted, trainer, {"GTV": 1}) == {"GTV": None}
    truth[0] = 0
    sitk.WriteImage(sitk.GetImageFromArray(truth), tmp_path / "gt_segmentations" / predicted.name)
    found = validation._dice(predicted, trainer, {"GTV": 1})["GTV"]
    assert found is not None and found < 0.5
