"""A series is one even, rectangular grid, or it is refused with a code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_factory import ORIENTATIONS, grid_for, write_series
from hypothesis import given
from hypothesis import strategies as st

from tasks.dicom.geometry import grid_of
from tasks.dicom.reasons import Reason
from tasks.errors import CaseRejected


def headers(
    tmp_path: Path, change: Callable[[int, Any], None] = lambda _k, _d: None, **kwargs: Any
) -> list[Any]:
    series = write_series(tmp_path / "series", change=change, **kwargs)
    return [pydicom.dcmread(file, stop_before_pixels=True) for file in series.files]


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_the_grid_is_that_of_the_headers_whatever_the_order_of_files(
    tmp_path: Path, orientation: str
) -> None:
    grid = grid_for((6, 20, 24), orientation)
    slices = headers(tmp_path, grid=grid)
    shuffled = [slices[i] for i in (3, 0, 5, 1, 4, 2)]
    found, order = grid_of(shuffled)
    assert found.shape == grid.shape
    np.testing.assert_allclose(found.affine, grid.affine, atol=1e-5)
    assert [shuffled[i].InstanceNumber for i in order] == [1, 2, 3, 4, 5, 6]


def _move(k: int, mm: float) -> Callable[[int, Any], None]:
    def change(at: int, ds: Any) -> None:
        if at == k:
            ds.ImagePositionPatient[2] = float(ds.ImagePositionPatient[2]) + mm

    return change


def _only(k: int, **values: Any) -> Callable[[int, Any], None]:
    def change(at: int, ds: Any) -> None:
        if at == k:
            for keyword, value in values.items():
                setattr(ds, keyword, value)

    return change


def _shear(k: int, ds: Any) -> None:
    ds.ImagePositionPatient[1] = float(ds.ImagePositionPatient[1]) + 0.4 * k


def _without(keyword: str) -> Callable[[int, Any], None]:
    return lambda _k, ds: delattr(ds, keyword)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_move(3, -2.5), Reason.DUPLICATE_POSITION),
        (_move(3, 1.25), Reason.UNEVEN_SLICES),
        (_move(5, 2.5), Reason.UNEVEN_SLICES),
        (_shear, Reason.GANTRY_TILT),
        (_only(2, ImageOrientationPatient=[0, 1, 0, 0, 0, -1]), Reason.MIXED_GEOMETRY),
        (_only(2, PixelSpacing=[0.8, 0.9]), Reason.MIXED_GEOMETRY),
        (_only(2, Rows=10), Reason.MIXED_GEOMETRY),
        (_without("ImagePositionPatient"), Reason.NO_GEOMETRY),
        (_without("ImageOrientationPatient"), Reason.NO_GEOMETRY),
        (_without("PixelSpacing"), Reason.NO_GEOMETRY),
        (lambda _k, ds: setattr(ds, "PixelSpacing", [0, 1]), Reason.NO_GEOMETRY),
        (lambda _k, ds: setattr(ds, "ImageOrientationPatient", [1, 0, 0, 1, 0, 0]), Reason.NO_GEOMETRY),
        (lambda _k, ds: setattr(ds, "ImageOrientationPatient", [2, 0, 0, 0, 1, 0]), Reason.NO_GEOMETRY),
        (lambda _k, ds: setattr(ds, "ImagePositionPatient", [1, 2]), Reason.NO_GEOMETRY),
    ],
)
def test_what_is_no_even_grid_is_refused(
    tmp_path: Path, change: Callable[[int, Any], None], reason: Reason
) -> None:
    with pytest.raises(CaseRejected) as caught:
        grid_of(headers(tmp_path, change))
    assert caught.value.reason == reason


def test_one_slice_is_no_volume(tmp_path: Path) -> None:
    with pytest.raises(CaseRejected, match=r"single-slice"):
        grid_of(headers(tmp_path, shape=(1, 20, 24)))


def test_a_missing_slice_of_many_is_seen(tmp_path: Path) -> None:
    slices = headers(tmp_path, shape=(60, 4, 4))
    del slices[30]
    with pytest.raises(CaseRejected, match=r"uneven-slices.*5\.000 mm"):
        grid_of(slices)


@pytest.mark.parametrize("k", [0, 3, 5])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_position_that_is_off_by_little_moves_no_other(tmp_path: Path, k: int, axis: int) -> None:
    """Taken from the ends of the stack, one wrong digit there would shift every contour."""
    grid = grid_for((6, 20, 24))

    def change(at: int, ds: Any) -> None:
        if at == k:
            ds.ImagePositionPatient[axis] = float(ds.ImagePositionPatient[axis]) + 0.05

    found, _ = grid_of(headers(tmp_path, change, grid=grid))
    np.testing.assert_allclose(found.affine, grid.affine, atol=1e-5)


def test_rounded_positions_are_even(tmp_path: Path) -> None:
    """Some exporters round to 0.1 mm, of slices 0.625 mm apart."""
    grid = grid_for((40, 4, 4), spacing_mm=(0.9, 0.7, 0.625))

    def rounded(_k: int, ds: Any) -> None:
        ds.ImagePositionPatient = [round(float(v), 1) for v in ds.ImagePositionPatient]

    found, _ = grid_of(headers(tmp_path, rounded, grid=grid))
    assert found.spacing_mm[2] == pytest.approx(0.625, abs=2e-3)


@given(
    orientation=st.sampled_from(sorted(ORIENTATIONS)),
    index=st.lists(st.tuples(*[st.floats(-50, 600)] * 3), min_size=1, max_size=5),
    spacing=st.tuples(*[st.floats(0.2, 8)] * 3),
)
def test_index_and_patient_coordinates_are_inverse(
    orientation: str, index: list[tuple[float, ...]], spacing: tuple[float, float, float]
) -> None:
    grid = grid_for((5, 6, 7), orientation, spacing)
    points = np.array(index)
    np.testing.assert_allclose(grid.to_index(grid.to_patient(points)), points, atol=1e-7)


@pytest.mark.parametrize("keyword", ["AcquisitionNumber", "TemporalPositionIdentifier", "EchoTime"])
def test_two_volumes_that_lie_between_each_other_are_no_volume(tmp_path: Path, keyword: str) -> None:
    with pytest.raises(CaseRejected, match=f"{keyword} alternates between") as caught:
        grid_of(headers(tmp_path, change=lambda k, ds: setattr(ds, keyword, 1 + k % 2)))
    assert caught.value.reason == Reason.DUPLICATE_POSITION


@pytest.mark.parametrize(
    ("keyword", "values"),
    [("AcquisitionNumber", [1, 1, 1, 2, 2, 2]), ("AcquisitionTime", ["1", "2"] * 3), ("EchoTime", range(6))],
)
def test_a_volume_acquired_in_turns_is_one(tmp_path: Path, keyword: str, values: Any) -> None:
    grid_of(headers(tmp_path, change=lambda k, ds: setattr(ds, keyword, str(values[k]))))
