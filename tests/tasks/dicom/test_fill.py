"""Pixels inside an outline are those that scikit-image finds, edges and vertices included, only sooner."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from skimage.draw import polygon

from tasks.dicom.fill import filled

SHAPE = (12, 14)
COORDINATE = st.one_of(
    st.integers(-3, 16).map(float),
    st.integers(-6, 32).map(lambda half: half / 2),
    st.integers(-30, 160).map(lambda tenth: tenth / 10),
    st.floats(-3, 16).map(lambda value: round(value, 12)),  # of less, a product is nothing
)


def expected(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[polygon(rows, columns, shape)] = True
    return mask


@settings(max_examples=1500, deadline=None)
@given(st.lists(st.tuples(COORDINATE, COORDINATE), min_size=3, max_size=12))
@example([(0.0, 0.0), (0.0, 4.0), (4.0, 4.0), (4.0, 0.0)])
@example([(1.0, 1.0), (1.0, 1.0), (1.0, 1.0)])
@example([(2.0, 2.0), (2.0, 9.0), (2.0, 2.0)])
@example([(-2.0, 3.0), (20.0, 3.0), (20.0, 30.0)])
@example([(0.0, 0.0), (8.0, 8.0), (0.0, 8.0), (8.0, 0.0)])
def test_any_outline_is_filled_as_scikit_image_fills_it(points: list[tuple[float, float]]) -> None:
    rows, columns = np.array(points).T
    np.testing.assert_array_equal(filled(rows, columns, SHAPE), expected(rows, columns, SHAPE))


@pytest.mark.parametrize("offset", [0.0, 0.05, 1 / 3, 1e-9, 1e-13])
@pytest.mark.parametrize("count", [5, 64, 700])
def test_large_outlines_too(count: int, offset: float) -> None:
    """Round ones, and those of marching squares, whose vertices lie beside centres."""
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    rows, columns = 60 + 47.3 * np.sin(angle) + offset, 70 + 55.1 * np.cos(angle) + offset
    for r, c in ((rows, columns), (np.rint(rows) + offset, np.rint(columns) + offset)):
        np.testing.assert_array_equal(filled(r, c, (128, 140)), expected(r, c, (128, 140)))
