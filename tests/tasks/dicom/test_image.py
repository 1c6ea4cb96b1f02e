"""An image series becomes a volume on its own grid with the very values of its files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_factory import ORIENTATIONS, edit, grid_for, write_multi_frame, write_series
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from tasks.dicom.image import read_series, read_single_series, slice_numbers
from tasks.dicom.reasons import Reason
from tasks.errors import CaseRejected, UserDataError


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("kind", ["CT", "MR"])
def test_values_and_geometry_are_those_of_the_files(tmp_path: Path, orientation: str, kind: str) -> None:
    series = write_series(tmp_path / "s", grid=grid_for((5, 12, 9), orientation), kind=kind)
    volume = read_series(sorted(series.files))
    assert volume.image.GetPixelID() == sitk.sitkInt16
    np.testing.assert_array_equal(sitk.GetArrayFromImage(volume.image), series.voxels)
    for index in [(0, 0, 0), (8, 11, 4), (3, 1, 2)]:
        point = volume.image.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose(point, series.grid.to_patient(np.array([index]))[0], atol=1e-4)
    assert volume.files == series.files


@pytest.mark.parametrize(
    "syntax",
    [RLELossless, JPEGLSLossless, JPEG2000Lossless, DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian],
    ids=lambda uid: uid.name,
)
def test_every_lossless_encoding_gives_the_same_voxels(tmp_path: Path, syntax: UID) -> None:
    series = write_series(tmp_path / "s", (4, 64, 70))
    for file in series.files[1:]:  # of a series some may be compressed
        ds = pydicom.dcmread(file)
        if syntax.is_compressed and syntax != DeflatedExplicitVRLittleEndian:
            ds.compress(syntax, generate_instance_uid=False)
        ds.file_meta.TransferSyntaxUID = syntax
        pydicom.dcmwrite(file, ds, implicit_vr=syntax.is_implicit_VR, little_endian=True)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read_series(series.files).image), series.voxels)


def test_a_name_that_is_no_utf8_is_read_like_any_other(tmp_path: Path) -> None:
    """As an old Windows wrote "Müller" on a share."""
    series = write_series(tmp_path / os.fsdecode(b"M\xfcller"), (4, 12, 9))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read_series(series.files).image), series.voxels)
    with series.files[1].open("r+b") as stream:
        stream.truncate(series.files[1].stat().st_size - 50)
    with pytest.raises(CaseRejected, match="unreadable-pixels"):
        read_series(series.files)


def _rescale(slope: float, intercept: float, only: int | None = None) -> Any:
    def change(k: int, ds: Any) -> None:
        if only is None or k == only:
            ds.RescaleSlope, ds.RescaleIntercept = slope, intercept

    return change


@pytest.mark.parametrize("kind", ["CT", "MR"])
def test_each_slice_has_its_own_rescale(tmp_path: Path, kind: str) -> None:
    """Taken from the first slice alone, the others are wrong in silence."""
    series = write_series(tmp_path / "s", kind=kind, change=_rescale(2, -5, only=3))
    expected = series.voxels.astype(int)
    expected[3] = expected[3] * 2 - 5
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read_series(series.files).image), expected)


def test_fractions_are_kept(tmp_path: Path) -> None:
    series = write_series(tmp_path / "s", change=_rescale(0.25, 0.5))
    image = read_series(series.files).image
    assert image.GetPixelID() == sitk.sitkFloat32
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), series.voxels * 0.25 + 0.5)


def test_values_beyond_16_bits_are_kept(tmp_path: Path) -> None:
    series = write_series(tmp_path / "s", change=_rescale(100, 0))
    image = read_series(series.files).image
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), series.voxels.astype(int) * 100)


def test_pixels_cut_short_are_refused_without_naming_the_file(tmp_path: Path) -> None:
    series = write_series(tmp_path / "DOE^JOHN")
    content = series.files[2].read_bytes()
    series.files[2].write_bytes(content[:-300])
    with pytest.raises(CaseRejected) as caught:
        read_series(series.files)
    assert caught.value.reason in (Reason.UNREADABLE_PIXELS, Reason.UNREADABLE)
    assert "DOE" not in str(caught.value)


def test_colours_are_refused(tmp_path: Path) -> None:
    series = write_series(tmp_path / "s", change=lambda _k, ds: setattr(ds, "SamplesPerPixel", 3))
    with pytest.raises(CaseRejected, match="not-grayscale"):
        read_series(series.files)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "PALETTE COLOR", None])
def test_pixels_that_the_decoder_would_change_are_refused(tmp_path: Path, photometric: str | None) -> None:
    """GDCM inverts MONOCHROME1: v comes back as -1 - v."""

    def change(_k: int, ds: Any) -> None:
        del ds.PhotometricInterpretation
        if photometric:
            ds.PhotometricInterpretation = photometric

    with pytest.raises(CaseRejected, match="not-grayscale"):
        read_series(write_series(tmp_path / "s", change=change).files)


def test_a_copy_of_a_slice_is_no_second_slice(tmp_path: Path) -> None:
    series = write_series(tmp_path / "s")
    (tmp_path / "s" / "copy").write_bytes(series.files[1].read_bytes())
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read_single_series(tmp_path)), series.voxels)


def test_a_folder_with_one_series_is_read_whatever_lies_beside_it(tmp_path: Path) -> None:
    series = write_series(tmp_path / "a" / "b")
    (tmp_path / "notes.txt").write_text("hello")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read_single_series(tmp_path)), series.voxels)


def test_of_several_series_none_is_picked_at_random(tmp_path: Path) -> None:
    write_series(tmp_path / "a", name="one")
    write_series(tmp_path / "b", name="two")
    with pytest.raises(UserDataError, match="must hold one CT or MR series"):
        read_single_series(tmp_path)


def test_a_folder_without_images_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserDataError, match="found none"):
        read_single_series(tmp_path)


def test_a_damaged_slice_is_not_left_out_in_silence(tmp_path: Path) -> None:
    """The last one: without it the volume would be even, and shorter."""
    series = write_series(tmp_path / "s")
    series.files[-1].write_bytes(series.files[-1].read_bytes()[:300])
    with pytest.raises(UserDataError, match="it may be a slice"):
        read_single_series(tmp_path)


def numbered(numbers: list[Any]) -> Callable[[int, Any], None]:
    return lambda k, ds: setattr(ds, "InstanceNumber", numbers[k])


@pytest.mark.parametrize(
    ("numbers", "shown"),
    [
        ([1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6]),
        ([60, 50, 40, 30, 20, 10], [60, 50, 40, 30, 20, 10]),  # from the head down, as many scanners do
        ([1, 1, 1, 1, 1, 1], [1, 2, 3, 4, 5, 6]),
        ([None] * 6, [1, 2, 3, 4, 5, 6]),
        ([None, 11, 12, 13, 14, 15], [1, 2, 3, 4, 5, 6]),
        ([[1, 2]] * 6, [1, 2, 3, 4, 5, 6]),
    ],
)
def test_slices_are_called_as_a_viewer_calls_them(
    tmp_path: Path, numbers: list[Any], shown: list[int]
) -> None:
    files = write_series(tmp_path / "s", change=numbered(numbers)).files
    assert list(slice_numbers(files[::-1])) == shown


def test_frames_are_called_by_their_number(tmp_path: Path) -> None:
    slices = write_series(tmp_path / "s")
    file = write_multi_frame(tmp_path / "multi.dcm", slices, "enhanced CT")

    def swap(ds: Any) -> None:
        groups = list(ds.PerFrameFunctionalGroupsSequence)
        groups[0], groups[4] = groups[4], groups[0]
        ds.PerFrameFunctionalGroupsSequence = groups

    before = slice_numbers([file])
    assert sorted(before) == [1, 2, 3, 4, 5, 6]
    edit(file, swap)
    assert slice_numbers([file]) == tuple({1: 5, 5: 1}.get(number, number) for number in before)
