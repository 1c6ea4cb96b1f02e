"""Multi-frame images are read as the same volume as their slices, and labelled as exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_factory import (
    ORIENTATIONS,
    Series,
    ball,
    edit,
    grid_for,
    write_multi_frame,
    write_rois,
    write_segments,
    write_series,
)
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from tasks.dicom.convert import LabelRules, label_map
from tasks.dicom.image import read_series
from tasks.dicom.reasons import Reason
from tasks.errors import CaseRejected

SHAPE = (6, 20, 24)
KINDS = ["legacy CT", "legacy MR", "enhanced CT", "enhanced MR"]
MASK = ball(SHAPE, (2, 8, 6), 3)


def as_one_file(
    tmp_path: Path, kind: str = "enhanced CT", shape: tuple[int, int, int] = SHAPE, **series: Any
) -> tuple[Series, Series]:
    """A series of slices, and the same with all of them in one file."""
    modality = kind.split()[1]
    slices = write_series(tmp_path / "slices", shape, kind=modality, **series)
    file = write_multi_frame(tmp_path / "multi" / "frames.dcm", slices, kind, order=[3, 0, 5, 1, 4, 2])
    return slices, Series(file.parent, [file], slices.grid, slices.voxels, slices.uids)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_frames_in_any_order_are_the_volume_of_the_slices(
    tmp_path: Path, kind: str, orientation: str
) -> None:
    slices, multi = as_one_file(tmp_path, kind, grid=grid_for(SHAPE, orientation))
    expected, found = read_series(slices.files), read_series(multi.files)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found.image), sitk.GetArrayFromImage(expected.image))
    np.testing.assert_allclose(found.grid.affine, expected.grid.affine, atol=1e-6)
    assert found.image.GetPixelID() == sitk.sitkInt16
    assert found.frame_of_reference_uid == slices.uids["frame"]


@pytest.mark.parametrize("slope", [100, 1_000_000, 0.5])
def test_rescaled_values_beyond_16_bits_are_kept(tmp_path: Path, slope: float) -> None:
    """816 × 100 is 81600, and in 16 bits 16064."""
    slices, multi = as_one_file(
        tmp_path, "enhanced MR", change=lambda _, ds: setattr(ds, "RescaleSlope", slope)
    )
    for series in (multi, slices):
        values = sitk.GetArrayFromImage(read_series(series.files).image)
        np.testing.assert_allclose(values, slices.voxels.astype(float) * slope, rtol=1e-6)


def test_each_frame_is_rescaled_by_its_own_slope(tmp_path: Path) -> None:
    """A PET-like or MR series may change its slope from slice to slice."""

    def rescale(k: int, ds: Any) -> None:
        ds.RescaleSlope, ds.RescaleIntercept = k + 1, -10 * k

    slices, multi = as_one_file(tmp_path, "enhanced MR", change=rescale)
    expected = slices.voxels.astype(int) * np.arange(1, 7)[:, None, None]
    expected -= 10 * np.arange(6)[:, None, None]
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read_series(multi.files).image), expected)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless], ids=lambda uid: uid.name)
def test_compressed_frames(tmp_path: Path, syntax: Any) -> None:
    slices, multi = as_one_file(tmp_path, shape=(6, 64, 72))
    edit(multi.files[0], lambda ds: ds.compress(syntax))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read_series(multi.files).image), slices.voxels)


@pytest.mark.parametrize("segmentation", ["RTSTRUCT", "SEG"])
@pytest.mark.parametrize("kind", ["enhanced CT", "legacy MR"])
def test_a_mask_comes_back_from_a_segmentation_of_frames(
    tmp_path: Path, kind: str, segmentation: str
) -> None:
    _, multi = as_one_file(tmp_path, kind)
    if segmentation == "SEG":
        file = write_segments(tmp_path / "s.dcm", multi, MASK.astype(int), ["GTV"])
    else:
        file = write_rois(tmp_path / "s.dcm", multi, {"GTV": MASK})
    labels = label_map(read_series(multi.files), file, segmentation, LabelRules({"GTV": ["GTV"]}))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(labels), MASK)


def _all_in_each_frame(ds: Any) -> None:
    for sequence in ("PlaneOrientationSequence", "PixelMeasuresSequence"):
        value = ds.SharedFunctionalGroupsSequence[0][sequence]
        del ds.SharedFunctionalGroupsSequence[0][sequence]
        for group in ds.PerFrameFunctionalGroupsSequence:
            group[sequence] = value


def _the_gap_as_step(ds: Any) -> None:
    ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices = 0.5


def _no_shared_groups(ds: Any) -> None:
    _all_in_each_frame(ds)
    del ds.SharedFunctionalGroupsSequence


@pytest.mark.parametrize("change", [_all_in_each_frame, _the_gap_as_step, _no_shared_groups])
def test_a_seg_can_be_made_of_frames_wherever_they_say_how_they_lie(tmp_path: Path, change: Any) -> None:
    slices, multi = as_one_file(tmp_path)
    edit(multi.files[0], change)
    file = write_segments(tmp_path / "s.dcm", multi, MASK.astype(int), ["GTV"])
    measures = pydicom.dcmread(file).SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert float(measures.SpacingBetweenSlices) == pytest.approx(2.5)
    labels = label_map(read_series(slices.files), file, "SEG", LabelRules({"GTV": ["GTV"]}))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(labels), MASK)


def _two_phases(ds: Any) -> None:
    for half in (ds.PerFrameFunctionalGroupsSequence[:3], ds.PerFrameFunctionalGroupsSequence[3:]):
        for k, group in enumerate(half):
            group.PlanePositionSequence[0].ImagePositionPatient = [0, 0, 2.5 * k]


def _two_echoes_between_each_other(ds: Any) -> None:
    for k, group in enumerate(ds.PerFrameFunctionalGroupsSequence):
        echo = pydicom.Dataset()
        place = round(float(group.PlanePositionSequence[0].ImagePositionPatient[2]) / 2.5)
        echo.EffectiveEchoTime = [10.0, 80.0][place % 2]
        group.MREchoSequence = [echo]
        assert k < 6


def _tilt(ds: Any) -> None:
    for k, group in enumerate(ds.PerFrameFunctionalGroupsSequence):
        group.PlanePositionSequence[0].ImagePositionPatient = [0, 0.5 * k, 2.5 * k]


def _drop_a_frame(ds: Any) -> None:
    del ds.PerFrameFunctionalGroupsSequence[2]


def _drop_positions(ds: Any) -> None:
    for group in ds.PerFrameFunctionalGroupsSequence:
        del group.PlanePositionSequence


def _colour(ds: Any) -> None:
    ds.PhotometricInterpretation = "RGB"


def _cut_pixels(ds: Any) -> None:
    ds.PixelData = ds.PixelData[:400]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_two_phases, Reason.DUPLICATE_POSITION),
        (_two_echoes_between_each_other, Reason.DUPLICATE_POSITION),
        (_tilt, Reason.GANTRY_TILT),
        (_drop_a_frame, Reason.NO_GEOMETRY),
        (_drop_positions, Reason.NO_GEOMETRY),
        (_colour, Reason.NOT_GRAYSCALE),
        (_cut_pixels, Reason.UNREADABLE_PIXELS),
    ],
)
def test_frames_that_make_no_volume_have_a_code(tmp_path: Path, change: Any, reason: Reason) -> None:
    _, multi = as_one_file(tmp_path)
    edit(multi.files[0], change)
    with pytest.raises(CaseRejected) as caught:
        read_series(multi.files)
    assert caught.value.reason == reason


def test_an_image_in_two_multi_frame_files_has_no_seg(tmp_path: Path) -> None:
    slices = write_series(tmp_path / "slices", SHAPE)
    halves = []
    for name, part in (("low", [0, 1, 2]), ("high", [3, 4, 5])):
        halves.append(write_multi_frame(tmp_path / f"{name}.dcm", slices, "enhanced CT", order=part))
    volume = read_series(halves)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(volume.image), slices.voxels)
    both = Series(tmp_path, halves, slices.grid, slices.voxels, slices.uids)
    with pytest.raises(CaseRejected, match="several-multi-frame-files"):
        write_segments(tmp_path / "s.dcm", both, MASK.astype(int), ["GTV"])
