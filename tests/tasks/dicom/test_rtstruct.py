"""What a person drew is what is read, to the voxel; what cannot be read so is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_factory import Series, ball, edit, write_rois, write_series
from pydicom.dataset import Dataset

from tasks.dicom.reasons import Reason
from tasks.dicom.rtstruct import rasterise, read_rois
from tasks.errors import CaseRejected

SHAPE = (6, 20, 24)
LEFT = ball(SHAPE, (3, 8, 6), 3)
RIGHT = ball(SHAPE, (3, 10, 17), 4)


@pytest.fixture
def series(tmp_path: Path) -> Series:
    return write_series(tmp_path / "ct", SHAPE)


@pytest.fixture
def structure_set(tmp_path: Path, series: Series) -> Path:
    return write_rois(tmp_path / "rt.dcm", series, {"left": LEFT, "right": RIGHT})


def square(series: Series, k: float, corners: list[tuple[float, float]]) -> Dataset:
    index = np.array([(column, row, k) for row, column in corners])
    contour = Dataset()
    contour.ContourGeometricType = "CLOSED_PLANAR"
    contour.ContourData = [f"{v:.6f}" for v in series.grid.to_patient(index).ravel()]
    contour.NumberOfContourPoints = len(corners)
    return contour


def test_contours_belong_by_number_not_by_place(structure_set: Path, series: Series) -> None:
    """med-imagetools pairs by place and returns the wrong organ as success."""
    edit(structure_set, lambda ds: ds.ROIContourSequence.reverse())
    masks = {roi.name: rasterise(roi, series.grid) for roi in read_rois(structure_set)}
    np.testing.assert_array_equal(masks["left"], LEFT)
    np.testing.assert_array_equal(masks["right"], RIGHT)


def test_vertices_between_voxels_stay_where_they_are(structure_set: Path, series: Series) -> None:
    """Rounded vertices shift half-voxel contours by 0.37 voxels: Dice 0.83 at a radius of 3."""
    corners = [(4.5, 4.5), (4.5, 9.5), (9.5, 9.5), (9.5, 4.5)]

    def draw(ds: Any) -> None:
        ds.ROIContourSequence[0].ContourSequence = [square(series, 2, corners)]

    roi = read_rois(edit(structure_set, draw))[0]
    expected = np.zeros(SHAPE, dtype=bool)
    expected[2, 5:10, 5:10] = True
    np.testing.assert_array_equal(rasterise(roi, series.grid), expected)


def test_a_contour_inside_another_is_a_hole(structure_set: Path, series: Series) -> None:
    outer = [(2.5, 2.5), (2.5, 12.5), (12.5, 12.5), (12.5, 2.5)]
    inner = [(5.5, 5.5), (5.5, 8.5), (8.5, 8.5), (8.5, 5.5)]

    def draw(ds: Any) -> None:
        ds.ROIContourSequence[0].ContourSequence = [square(series, 1, outer), square(series, 1, inner)]

    mask = rasterise(read_rois(edit(structure_set, draw))[0], series.grid)
    assert mask.sum() == 10 * 10 - 3 * 3
    assert not mask[1, 6:9, 6:9].any()


def test_a_roi_that_nobody_drew_has_no_contours(structure_set: Path) -> None:
    """med-imagetools raises an IndexError on it."""
    edit(structure_set, lambda ds: ds.ROIContourSequence.pop(0))
    assert [len(roi.contours) > 0 for roi in read_rois(structure_set)] == [False, True]


TRIANGLE = [(4.2, 4.2), (4.2, 9.2), (9.2, 4.2)]


@pytest.mark.parametrize(
    ("polygons", "reason"),
    [
        ([TRIANGLE, TRIANGLE], Reason.CONTOURS_OVERLAP),
        ([TRIANGLE, [(r + 1, c + 1) for r, c in TRIANGLE]], Reason.CONTOURS_OVERLAP),
        ([TRIANGLE, [(6.0, 6.0)]], Reason.CONTOUR_DEGENERATE),
        ([TRIANGLE, [(5.0, 5.0), (6.0, 6.0)]], Reason.CONTOUR_DEGENERATE),
        ([TRIANGLE, [(5.0, 5.0), (6.0, 6.0), (7.0, 7.0)]], Reason.CONTOUR_DEGENERATE),
    ],
)
def test_contours_that_would_delete_each_other_are_refused(
    structure_set: Path, series: Series, polygons: list[Any], reason: Reason
) -> None:
    """Exclusive or of a contour with its copy is nothing, and of a point it is a hole."""

    def draw(ds: Any) -> None:
        ds.ROIContourSequence[0].ContourSequence = [square(series, 2, corners) for corners in polygons]

    with pytest.raises(CaseRejected) as caught:
        rasterise(read_rois(edit(structure_set, draw))[0], series.grid)
    assert caught.value.reason == reason


def _first(ds: Any) -> Any:
    return ds.ROIContourSequence[0].ContourSequence[0]


def _shift(axis: int, mm: float) -> Callable[[Any], None]:
    def change(ds: Any) -> None:
        values = np.array(_first(ds).ContourData, dtype=float).reshape(-1, 3)
        values[:, axis] += mm
        _first(ds).ContourData = [f"{v:.4f}" for v in values.ravel()]

    return change


def _lift_one_vertex(ds: Any) -> None:
    _first(ds).ContourData[2] = float(_first(ds).ContourData[2]) + 1.2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_shift(2, 1.2), Reason.CONTOUR_OFF_SLICE),
        (_lift_one_vertex, Reason.CONTOUR_OFF_SLICE),
        (_shift(2, 250.0), Reason.CONTOUR_OUTSIDE),
        (_shift(0, 100.0), Reason.CONTOUR_OUTSIDE),
        (lambda ds: setattr(_first(ds), "ContourGeometricType", "OPEN_PLANAR"), Reason.CONTOUR_TYPE),
        (lambda ds: setattr(_first(ds), "ContourGeometricType", "POINT"), Reason.CONTOUR_TYPE),
        (lambda ds: setattr(_first(ds), "ContourData", [1, 2]), Reason.UNREADABLE_SEGMENTATION),
        (lambda ds: delattr(_first(ds), "ContourData"), Reason.UNREADABLE_SEGMENTATION),
        (
            lambda ds: setattr(ds.ROIContourSequence[0], "ReferencedROINumber", 9),
            Reason.UNREADABLE_SEGMENTATION,
        ),
        (lambda ds: setattr(ds.StructureSetROISequence[1], "ROINumber", 1), Reason.UNREADABLE_SEGMENTATION),
    ],
)
def test_what_cannot_be_a_mask_is_refused(
    structure_set: Path, series: Series, change: Callable[[Any], None], reason: Reason
) -> None:
    with pytest.raises(CaseRejected) as caught:
        for roi in read_rois(edit(structure_set, change)):
            rasterise(roi, series.grid)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "change",
    [
        lambda ds: setattr(_first(ds), "ContourData", []),  # as planning systems leave them in a couch
        lambda ds: setattr(_first(ds), "ContourData", [1, 2]),
        lambda ds: setattr(_first(ds), "NumberOfContourPoints", 99),
    ],
)
def test_a_roi_that_is_damaged_costs_who_asks_for_it_and_nobody_else(
    structure_set: Path, series: Series, change: Callable[[Any], None]
) -> None:
    before = {roi.name: rasterise(roi, series.grid) for roi in read_rois(structure_set)}
    damaged, *others = read_rois(edit(structure_set, change))
    assert damaged.drawn
    with pytest.raises(CaseRejected, match="unreadable-segmentation: .*ROI 1 "):
        rasterise(damaged, series.grid)
    assert others
    for roi in others:
        np.testing.assert_array_equal(rasterise(roi, series.grid), before[roi.name])


def test_a_file_that_is_cut_short_is_refused(structure_set: Path) -> None:
    content = structure_set.read_bytes()
    structure_set.write_bytes(content[: len(content) // 2])
    with pytest.raises(CaseRejected) as caught:
        read_rois(structure_set)
    assert caught.value.reason == Reason.UNREADABLE_SEGMENTATION


SQUARE = [(2.5, 2.5), (2.5, 10.4), (10.4, 10.4), (10.4, 2.5)]


@pytest.mark.parametrize(
    ("polygons", "reason"),
    [
        # The second sticks out of the first between two columns of centres: no hole, though no voxel says so.
        ([SQUARE, [(4.0, 9.6), (4.0, 10.9), (7.0, 10.9), (7.0, 9.6)]], Reason.CONTOURS_OVERLAP),
        # Two that share an edge which runs through centres.
        (
            [
                [(2.0, 2.0), (2.0, 10.0), (10.0, 10.0), (10.0, 2.0)],
                [(3.0, 10.0), (3.0, 10.8), (8.0, 10.8), (8.0, 10.0)],
            ],
            Reason.CONTOURS_OVERLAP,
        ),
        ([SQUARE * 2], Reason.CONTOUR_DEGENERATE),  # twice around: by the even-odd rule nothing is inside
    ],
)
def test_what_only_geometry_tells_is_refused(
    structure_set: Path, series: Series, polygons: list[Any], reason: Reason
) -> None:
    def draw(ds: Any) -> None:
        ds.ROIContourSequence[0].ContourSequence = [square(series, 2, corners) for corners in polygons]

    with pytest.raises(CaseRejected) as caught:
        rasterise(read_rois(edit(structure_set, draw))[0], series.grid)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "inner",
    [
        [(4.5, 4.5), (4.5, 7.5), (7.5, 7.5), (7.5, 4.5)],
        [(2.5, 4.5), (2.5, 7.5), (7.5, 7.5), (7.5, 4.5)],  # touches the outer contour
    ],
)
def test_a_hole_may_touch_its_contour(structure_set: Path, series: Series, inner: Any) -> None:
    def draw(ds: Any) -> None:
        ds.ROIContourSequence[0].ContourSequence = [square(series, 2, c) for c in (inner, SQUARE)]

    mask = rasterise(read_rois(edit(structure_set, draw))[0], series.grid)
    assert not mask[2, 5:8, 5:8].any()
    assert mask.sum() == 8 * 8 - 3 * len(range(5 if inner[0][0] == 4.5 else 3, 8))


def test_a_thin_contour_between_centres_is_nothing_and_no_error(structure_set: Path, series: Series) -> None:
    thin = [(4.2, 2.5), (4.2, 12.5), (4.8, 12.5), (4.8, 2.5)]

    def draw(ds: Any) -> None:
        ds.ROIContourSequence[0].ContourSequence = [square(series, 2, thin)]

    assert not rasterise(read_rois(edit(structure_set, draw))[0], series.grid).any()


@pytest.mark.parametrize("named", [0, 1])
def test_a_contour_lies_on_the_slice_that_it_names(structure_set: Path, series: Series, named: int) -> None:
    """Shifted by a whole slice it would lie on another one, exactly."""
    instances = [f"1.2.{k}" for k in range(SHAPE[0])]

    def draw(ds: Any) -> None:
        contour, image = square(series, 2, SQUARE), Dataset()
        image.ReferencedSOPInstanceUID = instances[2 - named]
        contour.ContourImageSequence = [image]
        ds.ROIContourSequence[0].ContourSequence = [contour]

    roi = read_rois(edit(structure_set, draw))[0]
    if named == 0:
        assert rasterise(roi, series.grid, instances).any()
        return
    with pytest.raises(CaseRejected, match=r"on slice 3 that says it was drawn on slice 2 \(1.2.1\)"):
        rasterise(roi, series.grid, instances)
    as_viewers_count = range(SHAPE[0] + 10, 10, -1)  # from the head down
    there, named_there = as_viewers_count[2], as_viewers_count[1]
    with pytest.raises(
        CaseRejected, match=rf"on slice {there} that says it was drawn on slice {named_there} "
    ):
        rasterise(roi, series.grid, instances, as_viewers_count)


@pytest.mark.parametrize(
    ("k", "words"),
    [
        (-2, "on no slice, 2 beyond slice 30 at its end, 0.0 pixels"),
        (SHAPE[0], f"on no slice, 1 beyond slice {31 - SHAPE[0]} at its end, 0.0 pixels"),
    ],
)
def test_a_contour_above_or_below_the_image_is_told_from_its_end(
    structure_set: Path, series: Series, k: int, words: str
) -> None:
    def draw(ds: Any) -> None:
        ds.ROIContourSequence[0].ContourSequence = [square(series, k, SQUARE)]

    roi = read_rois(edit(structure_set, draw))[0]
    with pytest.raises(CaseRejected, match=words):
        rasterise(roi, series.grid, (), range(30, 30 - SHAPE[0], -1))
