"""mask → contours → mask is the identity, for every shape, orientation and random mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_factory import ORIENTATIONS, grid_for, shapes, write_rois, write_segments, write_series
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from skimage.draw import polygon2mask

from tasks.dicom.contours import outlines
from tasks.dicom.rtstruct import rasterise, read_rois
from tasks.dicom.seg import SegObject

SHAPE = (6, 20, 24)


def filled(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    found = np.zeros_like(mask)
    for ring in outlines(mask):
        found ^= polygon2mask(mask.shape, ring)
    return found


@settings(max_examples=300, deadline=None)
@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_random_masks_come_back(mask: NDArray[np.bool_]) -> None:
    np.testing.assert_array_equal(filled(mask), mask)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 0.99))
def test_masks_full_of_holes_come_back(seed: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((30, 30)) < share
    np.testing.assert_array_equal(filled(mask), mask)


@pytest.mark.parametrize("name", shapes(SHAPE))
def test_readers_that_round_vertices_see_the_mask_too(name: str) -> None:
    """Every vertex is nearest to a voxel of the mask; at level 0.5 it would lie on the edge."""
    for mask in shapes(SHAPE)[name]:
        for ring in outlines(mask):
            rows, columns = np.rint(ring).astype(int).T
            assert mask[rows, columns].all()
            assert (np.abs(ring - np.rint(ring)) < 0.4).all()


def test_a_hole_is_keyholed_into_one_contour() -> None:
    mask = np.ones((9, 9), dtype=bool)
    mask[4, 4] = False
    assert len(outlines(mask)) == 1


@pytest.mark.parametrize("name", shapes(SHAPE))
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_rtstruct_keeps_every_voxel(tmp_path: Path, orientation: str, name: str) -> None:
    mask = shapes(SHAPE)[name]
    series = write_series(tmp_path / "ct", grid=grid_for(SHAPE, orientation))
    (roi,) = read_rois(write_rois(tmp_path / "rt.dcm", series, {name: mask}))
    np.testing.assert_array_equal(rasterise(roi, series.grid), mask)


@pytest.mark.parametrize("kind", ["RTSTRUCT", "SEG", "both in turn"])
def test_twenty_rounds_drift_by_nothing(tmp_path: Path, kind: str) -> None:
    mask = first = shapes(SHAPE)["island in a hole"]
    series = write_series(tmp_path / "ct", grid=grid_for(SHAPE, "oblique"))
    for n in range(20):
        if kind == "SEG" or (kind == "both in turn" and n % 2):
            seg = SegObject(write_segments(tmp_path / "seg.dcm", series, mask.astype(int), ["roi"]))
            mask = seg.mask(seg.segments[0], series.grid)
        else:
            (roi,) = read_rois(write_rois(tmp_path / "rt.dcm", series, {"roi": mask}))
            mask = rasterise(roi, series.grid)
    np.testing.assert_array_equal(mask, first)


@settings(max_examples=25, deadline=None)
@given(
    mask=hnp.arrays(bool, (3, 9, 10)),
    orientation=st.sampled_from(sorted(ORIENTATIONS)),
    spacing=st.tuples(*[st.floats(0.3, 5).map(lambda v: round(v, 3))] * 3),
)
def test_random_masks_come_back_from_dicom(
    tmp_path_factory: pytest.TempPathFactory,
    mask: NDArray[np.bool_],
    orientation: str,
    spacing: tuple[float, float, float],
) -> None:
    folder = tmp_path_factory.mktemp("random")
    series = write_series(folder / "ct", grid=grid_for((3, 9, 10), orientation, spacing))
    (roi,) = read_rois(write_rois(folder / "rt.dcm", series, {"roi": mask}))
    np.testing.assert_array_equal(rasterise(roi, series.grid), mask)


def test_coordinates_fit_into_16_characters(tmp_path: Path) -> None:
    series = write_series(tmp_path / "ct", grid=grid_for(SHAPE, "oblique"))
    file = write_rois(tmp_path / "rt.dcm", series, {"ball": shapes(SHAPE)["ball"]})
    contours = pydicom.dcmread(file).ROIContourSequence[0].ContourSequence
    values = [str(value) for contour in contours for value in contour.ContourData]
    assert max(map(len, values)) <= 16


def test_an_outline_longer_than_an_explicit_ds_can_hold_is_kept(tmp_path: Path) -> None:
    """64 kB are some 1,300 points; the teeth of this comb need more."""
    mask = np.zeros((2, 200, 200), dtype=bool)
    mask[0, 5:195, 10] = True
    mask[0, 5:195:2, 10:190] = True
    series = write_series(tmp_path / "ct", grid=grid_for((2, 200, 200)))
    (roi,) = read_rois(write_rois(tmp_path / "rt.dcm", series, {"comb": mask}))
    assert len(roi.contours[0]) > 5000
    np.testing.assert_array_equal(rasterise(roi, series.grid), mask)
