"""med-imagetools and IterSeg against masks that neither made: the difference is on record here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_factory import ball, write_rois, write_series
from numpy.typing import NDArray

from tasks.dicom.convert import LabelRules, label_map
from tasks.dicom.headers import read_header
from tasks.dicom.image import read_series
from tasks.dicom.imgtools_converter import convert_with_imgtools
from tasks.errors import CaseRejected
from tasks.review.scores import dice

SARCOMA = Path(__file__).parents[2] / "data" / "sarcoma"
# Measured with med-imagetools 2.16: what `converter: imgtools` costs, case by case.
DICE_OF_IMGTOOLS = {"STS_002": 0.940, "STS_019": 0.934, "STS_025": 0.925}
SHAPE = (8, 40, 44)


def by_imgtools(images: list[Path], drawn: Path, rules: LabelRules, out: Path) -> NDArray[np.uint8]:
    convert_with_imgtools(images, drawn, rules, out / "image.nii.gz", out / "label.nii.gz")
    return np.asarray(sitk.GetArrayFromImage(sitk.ReadImage(str(out / "label.nii.gz"))))


@pytest.mark.parametrize("patient", sorted(DICE_OF_IMGTOOLS))
def test_both_are_held_against_the_reference(tmp_path: Path, patient: str) -> None:
    kinds = {file: read_header(file, str).kind for file in (SARCOMA / patient / "CT").rglob("*.dcm")}
    images = [file for file, kind in kinds.items() if kind == "CT"]
    (drawn,) = (file for file, kind in kinds.items() if kind == "RTSTRUCT")
    reference = sitk.GetArrayFromImage(
        sitk.ReadImage(str(SARCOMA / "reference_masks" / f"{patient}_CT_mask.nii.gz"))
    )
    rules = LabelRules({"GTV": ["GTV.*"]}, "priority", "merge")
    own = sitk.GetArrayFromImage(label_map(read_series(images), drawn, "RTSTRUCT", rules))
    theirs = by_imgtools(images, drawn, rules, tmp_path)
    np.testing.assert_array_equal(own > 0, reference > 0)
    assert dice(theirs > 0, reference > 0) == pytest.approx(DICE_OF_IMGTOOLS[patient], abs=0.005)


@pytest.mark.parametrize("strategy", ["priority", "regions"])
def test_overlaps_end_as_they_do_in_imgtools(tmp_path: Path, strategy: str) -> None:
    """The same integers, in the middle of the overlap and outside it; its borders are another matter."""
    series = write_series(tmp_path / "ct", SHAPE)
    left, right = ball(SHAPE, (4, 20, 16), 8), ball(SHAPE, (4, 20, 28), 8)
    drawn = write_rois(tmp_path / "rt.dcm", series, {"left": left, "right": right})
    rules = LabelRules({"Left": ["left"], "Right": ["right"]}, strategy, "merge")  # type: ignore[arg-type]
    own = sitk.GetArrayFromImage(label_map(read_series(series.files), drawn, "RTSTRUCT", rules))
    theirs = by_imgtools(series.files, drawn, rules, tmp_path)
    for column in (12, 22, 32, 2):
        assert theirs[4, 20, column] == own[4, 20, column]


def test_what_imgtools_cannot_convert_has_a_code(tmp_path: Path) -> None:
    series = write_series(tmp_path / "ct", SHAPE, patient="XYZZY")
    drawn = write_rois(tmp_path / "rt.dcm", series, {"other": ball(SHAPE, (4, 20, 16), 8)})
    with pytest.raises(CaseRejected, match="imgtools-failed") as caught:
        by_imgtools(series.files, drawn, LabelRules({"GTV": ["GTV.*"]}, "priority"), tmp_path)
    assert "XYZZY" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)
