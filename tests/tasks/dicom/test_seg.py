"""SEG: what was written is read; other frames of the same voxels are found; other grids refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from dicom_factory import ORIENTATIONS, Series, ball, edit, grid_for, shapes, write_segments, write_series
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tasks.dicom.geometry import Grid
from tasks.dicom.image import read_series
from tasks.dicom.reasons import Reason
from tasks.dicom.seg import SegObject
from tasks.dicom.seg_writer import SegIdentity, write_seg
from tasks.errors import CaseRejected

SHAPE = (6, 20, 24)
NAMES = ("1.2.826.0.1.3680043.8.498.1", "1.2.826.0.1.3680043.8.498.2")


@pytest.mark.parametrize("name", shapes(SHAPE))
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_seg_keeps_every_voxel(tmp_path: Path, orientation: str, name: str) -> None:
    mask = shapes(SHAPE)[name]
    series = write_series(tmp_path / "ct", grid=grid_for(SHAPE, orientation))
    seg = SegObject(write_segments(tmp_path / "seg.dcm", series, mask.astype(np.uint8), [name]))
    np.testing.assert_array_equal(seg.mask(seg.segments[0], series.grid), mask)


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Series:
    return write_series(tmp_path_factory.mktemp("ct") / "ct", grid=grid_for(SHAPE, "oblique"))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.001, 0.999))
def test_random_label_maps_come_back(
    series: Series, tmp_path_factory: pytest.TempPathFactory, seed: int, share: float
) -> None:
    rng = np.random.default_rng(seed)
    labels = (rng.random(SHAPE) < share) * rng.integers(1, 4, SHAPE)
    seg = SegObject(
        write_segments(tmp_path_factory.mktemp("seg") / "seg.dcm", series, labels, ["a", "b", "c"])
    )
    for segment in seg.segments:
        np.testing.assert_array_equal(seg.mask(segment, series.grid), labels == segment.number)


@pytest.mark.parametrize("nested", [False, True])
def test_structures_that_overlap_come_back_overlapping(tmp_path: Path, series: Series, nested: bool) -> None:
    outer = ball(SHAPE, (3, 10, 10), 6)
    masks = {"outer": outer, "inner": ball(SHAPE, (3, 10, 10), 3) if nested else np.roll(outer, 4, axis=2)}
    assert (masks["outer"] & masks["inner"]).any()
    write_seg(tmp_path / "s.dcm", series.files, masks, SegIdentity(*NAMES, 2, "d", None, "1"))
    seg = SegObject(tmp_path / "s.dcm")
    for segment in seg.segments:
        np.testing.assert_array_equal(seg.mask(segment, series.grid), masks[segment.name])


def test_an_empty_structure_is_an_empty_mask(tmp_path: Path, series: Series) -> None:
    seg = SegObject(write_segments(tmp_path / "seg.dcm", series, np.zeros(SHAPE, int), ["nothing"]))
    assert not seg.mask(seg.segments[0], series.grid).any()


def write_as(
    kind: hd.seg.SegmentationTypeValues, file: Path, series: Series, pixels: NDArray[Any], names: list[str]
) -> None:
    """Write a SEG of a kind that IterSeg itself does not write."""
    binary = write_segments(file.with_suffix(".binary"), series, np.ones(SHAPE, dtype=int), names)
    described = pydicom.dcmread(binary).SegmentSequence
    hd.seg.Segmentation(
        [pydicom.dcmread(source) for source in series.files],
        pixels,
        kind,
        [hd.seg.SegmentDescription.from_dataset(item) for item in described],
        hd.UID(),
        1,
        hd.UID(),
        1,
        "maker",
        "model",
        "1",
        "1",
    ).save_as(file)


def test_a_label_map_segmentation_is_read(tmp_path: Path, series: Series) -> None:
    labels = np.random.default_rng(0).integers(0, 3, SHAPE).astype(np.uint8)
    kind = hd.seg.SegmentationTypeValues.LABELMAP
    write_as(kind, tmp_path / "l.dcm", series, labels, ["a", "b"])
    seg = SegObject(tmp_path / "l.dcm")
    for segment in seg.segments:
        np.testing.assert_array_equal(seg.mask(segment, series.grid), labels == segment.number)


def _cropped(grid: Grid) -> tuple[Grid, tuple[slice, ...]]:
    affine = grid.affine.copy()
    affine[:3, 3] = grid.to_patient(np.array([[5.0, 4.0, 1.0]]))[0]
    return Grid((4, 12, 15), affine), (slice(1, 5), slice(4, 16), slice(5, 20))


@pytest.mark.parametrize("view", ["cropped", "flipped slices", "reversed"])
def test_voxels_are_found_wherever_the_frames_lie(series: Series, view: str) -> None:
    """A SEG may be cropped, or store its frames the other way round."""
    mask = np.random.default_rng(1).random(SHAPE) < 0.3
    grid, affine = series.grid, _hd(series.grid)
    stored: NDArray[np.bool_] = mask
    if view == "cropped":
        smaller, crop = _cropped(grid)
        stored, affine = mask[crop], _hd(smaller)
        outside = mask.copy()
        outside[crop] = False
        mask = mask & ~outside
    elif view == "flipped slices":
        stored, affine = mask[::-1], _flipped(affine, (0,))
    else:
        stored, affine = mask[::-1, ::-1, ::-1], _flipped(affine, (0, 1, 2))
    from tasks.dicom.seg import _onto

    np.testing.assert_array_equal(_onto(stored, affine, grid, "roi"), mask)


def _hd(grid: Grid) -> NDArray[np.float64]:
    """The affine of (slice, row, column), as highdicom has it."""
    affine = grid.affine.copy()
    affine[:3, :3] = affine[:3, 2::-1]
    return affine


def _flipped(affine: NDArray[np.float64], axes: tuple[int, ...]) -> NDArray[np.float64]:
    found = affine.copy()
    for axis in axes:
        found[:3, 3] += found[:3, axis] * (SHAPE[axis] - 1)
        found[:3, axis] *= -1
    return found


def _shifted(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    affine[:3, 3] += affine[:3, 1] * 0.4
    return affine


def _coarser(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    affine[:3, 0] *= 2
    return affine


def _finer_by_little(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    affine[:3, 2] *= 1.02
    return affine


def _beyond(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    affine[:3, 3] += affine[:3, 2] * 3
    return affine


@pytest.mark.parametrize("change", [_shifted, _coarser, _finer_by_little, _beyond])
def test_other_grids_are_refused(
    series: Series, change: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> None:
    from tasks.dicom.seg import _onto

    with pytest.raises(CaseRejected) as caught:
        _onto(np.ones(SHAPE, dtype=bool), change(_hd(series.grid)), series.grid, "roi")
    assert caught.value.reason == Reason.OTHER_GRID


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.95])
def test_a_damaged_seg_is_refused(tmp_path: Path, series: Series, keep: float) -> None:
    file = write_segments(tmp_path / "seg.dcm", series, np.ones(SHAPE, dtype=int), ["a"])
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(CaseRejected) as caught:
        seg = SegObject(file)
        seg.mask(seg.segments[0], series.grid)
    assert caught.value.reason == Reason.UNREADABLE_SEGMENTATION


def test_probabilities_are_refused(tmp_path: Path, series: Series) -> None:
    kind = hd.seg.SegmentationTypeValues.FRACTIONAL
    write_as(kind, tmp_path / "f.dcm", series, np.full(SHAPE, 0.4, dtype=np.float32), ["a"])
    seg = SegObject(tmp_path / "f.dcm")
    with pytest.raises(CaseRejected) as caught:
        seg.mask(seg.segments[0], series.grid)
    assert caught.value.reason == Reason.NOT_BINARY


def _missing(*keywords: str) -> Callable[[int, Any], None]:
    def change(_k: int, ds: Any) -> None:
        for keyword in keywords:
            delattr(ds, keyword)

    return change


@pytest.mark.parametrize(
    "change",
    [
        _missing("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
        _missing("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
        _missing("SliceThickness"),
        lambda _k, ds: setattr(ds, "SliceThickness", None),
        lambda _k, ds: setattr(ds, "SpecificCharacterSet", ""),
        lambda _k, ds: setattr(ds, "SpecificCharacterSet", ["", "ISO 2022 IR 87"]),
    ],
)
def test_headers_that_leave_things_out_still_make_a_seg(
    tmp_path: Path, change: Callable[[int, Any], None]
) -> None:
    series = write_series(tmp_path / "ct", SHAPE, change=change)
    mask = shapes(SHAPE)["donut"]
    seg = SegObject(write_segments(tmp_path / "seg.dcm", series, mask.astype(int), ["donut"]))
    np.testing.assert_array_equal(seg.mask(seg.segments[0], series.grid), mask)


def _the_gap(_k: int, ds: Any) -> None:
    ds.SpacingBetweenSlices = 0.5


def _rounded_positions(k: int, ds: Any) -> None:
    x, y, z = ds.ImagePositionPatient
    ds.ImagePositionPatient = [x, y, round(float(z) + (0.3, -0.2, 0.1)[k % 3], 3)]


def _rounded_cosines(k: int, ds: Any) -> None:
    *others, last = ds.ImageOrientationPatient
    ds.ImageOrientationPatient = [*others, float(last) + 1e-6 * (k % 2)]


@pytest.mark.parametrize("change", [_the_gap, _rounded_positions, _rounded_cosines])
def test_a_seg_of_an_image_with_odd_spacings_is_read_back(tmp_path: Path, change: Any) -> None:
    """MR scanners that write the gap, exporters that round positions or directions: all are readable."""
    series = write_series(tmp_path / "mr", SHAPE, kind="MR", change=change)
    volume = read_series(series.files)
    mask = shapes(SHAPE)["donut"]
    seg = SegObject(write_segments(tmp_path / "seg.dcm", series, mask.astype(int), ["x"]))
    np.testing.assert_array_equal(seg.mask(seg.segments[0], volume.grid), mask)


def _rounded_to_tenths(k: int, ds: Any) -> None:
    """Of slices of 0.45 mm."""
    x, y, z = ds.ImagePositionPatient
    ds.ImagePositionPatient = [x, y, round(float(z), 1)]


def _sideways(k: int, ds: Any) -> None:
    x, y, z = ds.ImagePositionPatient
    ds.ImagePositionPatient = [float(x) + (0.015 if k % 2 else -0.015), y, z]


@pytest.mark.parametrize("first", range(4))
@pytest.mark.parametrize(
    ("change", "step_mm"), [(_rounded_positions, 2.5), (_rounded_to_tenths, 0.45), (_sideways, 0.45)]
)
def test_a_seg_may_begin_on_any_slice_of_such_an_image(
    tmp_path: Path, change: Any, step_mm: float, first: int
) -> None:
    """Its own first frame says where it begins, and lies a little off the image's grid."""
    grid = grid_for(SHAPE, spacing_mm=(0.8, 0.8, step_mm))
    series = write_series(tmp_path / "ct", grid=grid, change=change)
    mask = np.zeros(SHAPE, dtype=bool)
    mask[first : first + 2, 4:9, 5:12] = True
    seg = SegObject(write_segments(tmp_path / "seg.dcm", series, mask.astype(int), ["x"]), step_mm)
    volume = read_series(series.files)
    np.testing.assert_array_equal(seg.mask(seg.segments[0], volume.grid), mask)


DRAWN = ((3,), (1, 2, 3), (1, 4))


def without_a_step(ds: Any) -> None:
    del ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices


def with_a_gap(step_mm: float) -> Callable[[Any], None]:
    """As an MR says how much lies between its slices, and not from slice to slice."""

    def change(ds: Any) -> None:
        ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices = step_mm

    return change


@pytest.mark.parametrize(
    ("change", "drawn"),
    [
        *[(change, drawn) for change in (without_a_step, with_a_gap(0), with_a_gap(0.5)) for drawn in DRAWN],
        *[(with_a_gap(step_mm), (1, 2, 3)) for step_mm in (3.7, 6.0)],  # the thickness of slices that overlap
    ],
)
def test_a_seg_that_does_not_say_its_step_is_read(
    tmp_path: Path, drawn: tuple[int, ...], change: Callable[[Any], None]
) -> None:
    """One structure lies on few slices, another beside it on all."""
    labels = np.zeros(SHAPE, dtype=int)
    labels[:, 2:5, 2:5] = 1
    labels[list(drawn), 10:14, 10:14] = 2
    series = write_series(tmp_path / "ct", grid=grid_for(SHAPE, spacing_mm=(0.8, 0.8, 3.0)))
    for segments in ([1, 2], [2]):
        names = ["all", "few"][-len(segments) :]
        shown = np.where(np.isin(labels, segments), labels - (2 - len(segments)), 0)
        file = edit(write_segments(tmp_path / "s.dcm", series, np.maximum(shown, 0), names), change)
        seg = SegObject(file, 3.0)
        np.testing.assert_array_equal(seg.mask(seg.segments[-1], series.grid), labels == 2)
