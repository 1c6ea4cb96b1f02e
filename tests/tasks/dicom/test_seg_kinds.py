"""Every kind of SEG that viewers write gives the mask that was drawn: real files, written by highdicom."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from dicom_factory import ORIENTATIONS, Series, edit, grid_for, write_segments, write_series
from highdicom.seg import SegmentationTypeValues as Kind
from numpy.typing import NDArray
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from tasks.dicom.reasons import Reason
from tasks.dicom.seg import SegObject
from tasks.errors import CaseRejected

SHAPE = (6, 64, 72)
LABELS = np.zeros(SHAPE, dtype=np.uint8)
LABELS[2:5, 10:30, 12:31] = 1
LABELS[3:6, 33:48, 25:50] = 2
LABELS[0, 0, 0] = LABELS[5, 63, 71] = 2


@pytest.fixture(params=["axial", "oblique"])
def series(tmp_path: Path, request: pytest.FixtureRequest) -> Series:
    assert request.param in ORIENTATIONS
    return write_series(tmp_path / "ct", grid=grid_for(SHAPE, request.param))


def whole(volume: hd.Volume) -> hd.Volume:
    return volume


def cropped(volume: hd.Volume) -> hd.Volume:
    return volume[1:5, 4:60, 8:70]


def flipped(volume: hd.Volume) -> hd.Volume:
    return volume[::-1, ::-1, ::-1]


def write(
    file: Path,
    series: Series,
    kind: Kind,
    syntax: str = ExplicitVRLittleEndian,
    view: Callable[[hd.Volume], hd.Volume] = whole,
) -> NDArray[np.uint8]:
    """Write a SEG of a kind; returns the label map that a reader should find on the image's grid."""
    named = write_segments(file.with_suffix(".names"), series, np.ones(SHAPE, dtype=int), ["a", "b"])
    affine = series.grid.affine.copy()
    affine[:3, :3] = affine[:3, 2::-1]
    frame = series.uids["frame"]

    def on_view(labels: NDArray[np.uint8]) -> hd.Volume:
        return view(hd.Volume(labels, affine, "PATIENT", frame_of_reference_uid=frame))

    described = [hd.seg.SegmentDescription.from_dataset(s) for s in pydicom.dcmread(named).SegmentSequence]
    save(file, series, on_view(LABELS), kind, described, syntax)
    seen = on_view(np.ones(SHAPE, dtype=np.uint8)).match_geometry(
        hd.Volume(LABELS, affine, "PATIENT", frame_of_reference_uid=frame)
    )
    return LABELS * seen.array


def save(
    file: Path,
    series: Series,
    labels: hd.Volume | NDArray[np.uint16],
    kind: Kind,
    described: list[hd.seg.SegmentDescription],
    syntax: str = ExplicitVRLittleEndian,
) -> None:
    """As highdicom writes it."""
    images, uids = [pydicom.dcmread(source) for source in series.files], (hd.UID(), hd.UID())
    by = ("maker", "model", "1", "1")
    hd.seg.Segmentation(
        images, labels, kind, described, uids[0], 1, uids[1], 1, *by, transfer_syntax_uid=syntax
    ).save_as(file)


def assert_read_exactly(file: Path, series: Series, expected: NDArray[np.uint8]) -> None:
    seg = SegObject(file)
    assert [segment.name for segment in seg.segments] == ["a", "b"]
    for segment in seg.segments:
        np.testing.assert_array_equal(seg.mask(segment, series.grid), expected == segment.number)


@pytest.mark.parametrize("view", [whole, cropped, flipped], ids=lambda view: view.__name__)
@pytest.mark.parametrize(
    ("kind", "syntax"),
    [
        (Kind.BINARY, ExplicitVRLittleEndian),
        (Kind.FRACTIONAL, ExplicitVRLittleEndian),
        (Kind.FRACTIONAL, RLELossless),
        (Kind.FRACTIONAL, JPEG2000Lossless),
        (Kind.FRACTIONAL, JPEGLSLossless),
        (Kind.LABELMAP, ExplicitVRLittleEndian),
        (Kind.LABELMAP, RLELossless),
        (Kind.LABELMAP, JPEG2000Lossless),
    ],
    ids=str,
)
def test_every_kind_is_read_exactly(
    tmp_path: Path, series: Series, kind: Kind, syntax: str, view: Any
) -> None:
    file = tmp_path / "seg.dcm"
    expected = write(file, series, kind, syntax, view)
    assert_read_exactly(file, series, expected)


@pytest.mark.parametrize("described", [300, 200])
def test_the_segments_of_a_whole_body_keep_their_numbers(tmp_path: Path, described: int) -> None:
    """Above 255 a label map takes 16 bits: in 8 bits the 257th organ would be the first."""
    series = write_series(tmp_path / "ct", grid=grid_for(SHAPE))
    labels = np.zeros(SHAPE, dtype=np.uint16)
    drawn = {1: 1, 2: 255, 3: 256, 4: 257, 5: 300}
    for row, number in drawn.items():
        labels[2:5, 10 * row : 10 * row + 8, 12:31] = number
    file = tmp_path / "seg.dcm"
    organ = hd.sr.CodedConcept("113343008", "SCT", "Organ")
    organs = [hd.seg.SegmentDescription(n, f"organ {n}", organ, organ, "MANUAL") for n in range(1, 301)]
    save(file, series, labels, Kind.LABELMAP, organs)

    def describe(ds: Any) -> None:
        ds.SegmentSequence = ds.SegmentSequence[: described + 1]  # with the background's

    seg = SegObject(edit(file, describe))
    assert [segment.number for segment in seg.segments] == list(range(1, described + 1))
    for segment in seg.segments:
        expected = labels == segment.number
        np.testing.assert_array_equal(seg.mask(segment, series.grid), expected, str(segment))


@pytest.mark.parametrize("kind", list(Kind), ids=lambda kind: kind.value)
def test_frames_without_a_dimension_index_are_found_by_their_position(
    tmp_path: Path, series: Series, kind: Kind
) -> None:
    """OHIF's default save is a label map without FrameContentSequence, which highdicom cannot read."""
    file = tmp_path / "seg.dcm"
    expected = write(file, series, kind)

    def forget(ds: Any) -> None:
        for group in ds.PerFrameFunctionalGroupsSequence:
            del group.FrameContentSequence

    edit(file, forget)
    assert_read_exactly(file, series, expected)


@pytest.mark.parametrize("kind", [Kind.BINARY, Kind.FRACTIONAL], ids=lambda kind: kind.value)
def test_frames_that_are_indexed_by_position_alone_keep_their_segment(
    tmp_path: Path, series: Series, kind: Kind
) -> None:
    """The standard asks for a dimension of segments of nobody; highdicom does."""
    file = tmp_path / "seg.dcm"
    expected = write(file, series, kind)

    def by_position(ds: Any) -> None:
        number = pydicom.datadict.tag_for_keyword("ReferencedSegmentNumber")
        places = [n for n, d in enumerate(ds.DimensionIndexSequence) if d.DimensionIndexPointer != number]
        ds.DimensionIndexSequence = [ds.DimensionIndexSequence[n] for n in places]
        for group in ds.PerFrameFunctionalGroupsSequence:
            content = group.FrameContentSequence[0]
            content.DimensionIndexValues = [content.DimensionIndexValues[n] for n in places]

    edit(file, by_position)
    assert_read_exactly(file, series, expected)


def _move_off_the_grid(ds: Any) -> None:
    for group in ds.PerFrameFunctionalGroupsSequence:
        place = group.PlanePositionSequence[0]
        place.ImagePositionPatient = [float(v) + 0.31 for v in place.ImagePositionPatient]


def _stretch(ds: Any) -> None:
    for sequence in (ds.SharedFunctionalGroupsSequence, ds.PerFrameFunctionalGroupsSequence):
        for group in sequence:
            for measure in group.get("PixelMeasuresSequence", []):
                measure.PixelSpacing = [float(v) * 1.5 for v in measure.PixelSpacing]


@pytest.mark.parametrize(
    ("change", "reason"), [(_move_off_the_grid, Reason.OTHER_GRID), (_stretch, Reason.OTHER_GRID)]
)
@pytest.mark.parametrize("kind", list(Kind), ids=lambda kind: kind.value)
def test_a_seg_on_another_grid_is_refused(
    tmp_path: Path, series: Series, kind: Kind, change: Any, reason: Reason
) -> None:
    """Resampling a label would invent its border."""
    file = tmp_path / "seg.dcm"
    write(file, series, kind)
    edit(file, change)
    with pytest.raises(CaseRejected) as caught:
        assert_read_exactly(file, series, LABELS)
    assert caught.value.reason == reason
