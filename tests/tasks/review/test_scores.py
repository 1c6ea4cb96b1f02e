"""How a segmentation is scored against another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from tasks.labels import Labels
from tasks.review.scores import dice, mean_scores, scores_of_files
from tasks.review.surface import surface_scores

BOX = np.zeros((4, 4, 4), dtype=bool)
BOX[:2] = True
NONE = np.zeros_like(BOX)
LABELS = Labels(["a", "b", "c"], "label_image")


@pytest.mark.parametrize(
    ("truth", "prediction", "expected"),
    [(BOX, BOX, 1.0), (BOX, ~BOX, 0.0), (BOX, ~NONE, 2 / 3), (NONE, BOX, 0.0), (NONE, NONE, None)],
)
def test_dice(truth: np.ndarray, prediction: np.ndarray, expected: float | None) -> None:
    assert dice(truth, prediction) == (None if expected is None else pytest.approx(expected))


def test_masks_of_different_shape_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        dice(BOX, BOX[:2])


def test_the_mean_leaves_out_what_is_not_defined() -> None:
    cases = [{"a": 1.0, "b": None}, {"a": 0.5, "b": None}]
    assert mean_scores(cases, ["a", "b"]) == {"a": 0.75, "b": None}
    assert mean_scores([], ["a"]) == {}


def test_scores_of_files(files: tuple[Path, Path]) -> None:
    _, label = files
    assert scores_of_files(label, label, LABELS, 2.0) == {
        "dice": {"a": 1.0, "b": 1.0, "c": None},
        "surface_dice": {"a": 1.0, "b": 1.0, "c": None},
        "hd95_mm": {"a": 0.0, "b": 0.0, "c": None},
    }


def test_a_model_of_another_lineage_is_compared_by_the_names_of_structures(files: tuple[Path, Path]) -> None:
    _, label = files
    other = Labels(["b", "a"], "label_image")
    scores = scores_of_files(label, label, LABELS, 2.0, other)
    assert scores["dice"] == {"a": 0.0, "b": 0.0, "c": None}
    assert scores_of_files(label, label, LABELS, 2.0, Labels(["a"], "label_image"))["dice"] == {
        "a": 1.0,
        "b": None,
        "c": None,
    }


def test_where_somebody_stopped_looking_neither_has_a_surface(tmp_path: Path) -> None:
    truth, predicted = np.zeros((6, 12, 12), dtype=np.uint8), np.zeros((6, 12, 12), dtype=np.uint8)
    truth[1:, 2:8, 2:8], predicted[1:, 2:8, 5:11] = 1, 1
    unknown = np.zeros(truth.shape, dtype=bool)
    unknown[3:] = True
    truth[unknown] = LABELS.ignore
    for name, voxels in (("truth", truth), ("predicted", predicted)):
        sitk.WriteImage(sitk.GetImageFromArray(voxels), tmp_path / f"{name}.nii.gz")
    found = scores_of_files(tmp_path / "truth.nii.gz", tmp_path / "predicted.nii.gz", LABELS, 1.0)
    pair = truth == 1, (predicted == 1) & ~unknown
    seen, cut = surface_scores(*pair, (1, 1, 1), 1.0, unknown), surface_scores(*pair, (1, 1, 1), 1.0)
    assert seen is not None and cut is not None and seen != cut
    assert found["surface_dice"]["a"] == seen.surface_dice
    assert found["hd95_mm"]["a"] == seen.hd95_mm


def test_where_no_voxel_is_known_to_be_background_nothing_is_scored(tmp_path: Path) -> None:
    """A is drawn, B `unlabelled`: an A that fills the image could not be told from a perfect one."""
    labels = Labels(["A", "B"], "label_image")
    truth = np.full((4, 8, 8), labels.ignore, dtype=np.uint8)
    truth[1:3, 2:5, 2:5] = 1
    for name, voxels in (("truth", truth), ("everywhere", np.ones_like(truth))):
        sitk.WriteImage(sitk.GetImageFromArray(voxels), tmp_path / f"{name}.nii.gz")
    blind = scores_of_files(tmp_path / "truth.nii.gz", tmp_path / "everywhere.nii.gz", labels, 1.0)
    assert [value for of in blind.values() for value in of.values()] == [None] * 6
    truth[0] = 0  # somebody has looked at a slice
    sitk.WriteImage(sitk.GetImageFromArray(truth), tmp_path / "truth.nii.gz")
    seen = scores_of_files(tmp_path / "truth.nii.gz", tmp_path / "everywhere.nii.gz", labels, 1.0)
    assert seen["dice"]["A"] is not None and seen["dice"]["A"] < 0.5
