"""Distances of surfaces, held against definitions written out in full."""

from __future__ import annotations

import numpy as np
import pytest
from dicom_factory import ball
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from tasks.review.surface import ROUNDING_MM, SurfaceScores, surface_scores

SHAPE = (9, 20, 20)
SPACING = (3.0, 1.0, 0.8)


def surface_points(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Centres, in mm, of voxels that have a face neighbour outside, one by one."""
    padded = np.pad(mask, 1)
    steps = [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)]
    found = [v for v in np.argwhere(padded) if not all(padded[tuple(v + np.array(s))] for s in steps)]
    return np.array(found, dtype=float).reshape(-1, 3) * SPACING


def test_where_somebody_stopped_looking_is_no_surface() -> None:
    """Both masks are cut there, and would agree in the cut."""
    truth, prediction, unknown = (np.zeros(SHAPE, bool) for _ in range(3))
    truth[1:8, 4:9, 4:16], prediction[1:8, 4:15, 4:16] = True, True
    unknown[5:] = True
    found = surface_scores(truth & ~unknown, prediction & ~unknown, SPACING, 2.0, unknown)
    # What is above the cut (of padded masks, one further), of masks that go on below it as they do above.
    above = [points[points[:, 0] < 6 * SPACING[0]] for points in map(surface_points, (truth, prediction))]
    apart = cdist(above[0], above[1])
    near = (apart.min(axis=1) <= 2.0).sum() + (apart.min(axis=0) <= 2.0).sum()
    assert found is not None
    assert found.surface_dice == pytest.approx(near / sum(apart.shape))
    cut = surface_scores(truth & ~unknown, prediction & ~unknown, SPACING, 2.0)
    assert cut is not None and cut.surface_dice > found.surface_dice + 0.01


def test_a_mask_that_ends_nowhere_in_what_was_seen_has_no_surface() -> None:
    mask, unknown = np.zeros(SHAPE, bool), np.ones(SHAPE, bool)
    mask[4, 8:12, 8:12], unknown[4, 8:12, 8:12] = True, False
    assert surface_scores(mask, mask, SPACING, 2.0, unknown) is None
    smaller = mask.copy()
    smaller[4, 8] = False
    for pair in ((mask, smaller), (smaller, mask)):
        assert surface_scores(*pair, SPACING, 2.0, unknown) == SurfaceScores(0.0, None), "one has filled it"


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(bool, (4, 5, 6)), hnp.arrays(bool, (4, 5, 6)), st.floats(0.1, 6))
def test_they_are_what_the_definitions_say(
    truth: NDArray[np.bool_], prediction: NDArray[np.bool_], tolerance_mm: float
) -> None:
    found = surface_scores(truth, prediction, SPACING, tolerance_mm)
    if not truth.any() or not prediction.any():
        assert found is None or (found.surface_dice, found.hd95_mm) == (0.0, None)
        return
    apart = cdist(surface_points(truth), surface_points(prediction))
    there, back = apart.min(axis=1), apart.min(axis=0)
    near = (there <= tolerance_mm + ROUNDING_MM).sum() + (back <= tolerance_mm + ROUNDING_MM).sum()
    assert found is not None
    assert found.surface_dice == pytest.approx(near / (there.size + back.size))
    assert found.hd95_mm == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)))


@pytest.mark.parametrize("voxels", range(1, 20))
@pytest.mark.parametrize("spacing_mm", [0.1, 0.3, 0.7, 0.8, 0.9765625])
def test_a_distance_that_is_the_tolerance_is_within_it(voxels: int, spacing_mm: float) -> None:
    """However floating point rounds it: 3 × 0.8 is not 2.4."""
    truth, prediction = np.zeros((1, 1, 20), bool), np.zeros((1, 1, 20), bool)
    truth[0, 0, 0] = prediction[0, 0, voxels] = True
    for tolerance_mm, within in ((round(voxels * spacing_mm, 7), 1.0), (voxels * spacing_mm - 0.01, 0.0)):
        found = surface_scores(truth, prediction, (1, 1, spacing_mm), tolerance_mm)
        assert found is not None and found.surface_dice == within


def test_the_same_mask_is_perfect_and_a_shift_is_its_length() -> None:
    mask = ball(SHAPE, (4, 9, 9), 3)
    same = surface_scores(mask, mask, SPACING, 2.0)
    assert same is not None and (same.surface_dice, same.hd95_mm) == (1.0, 0.0)
    for axis, length_mm in enumerate(SPACING):
        plane = np.indices(SHAPE)[axis] == 4
        for tolerance_mm, share in ((length_mm - 0.01, 0.0), (length_mm, 1.0)):
            shifted = surface_scores(plane, np.roll(plane, 1, axis), SPACING, tolerance_mm)
            assert shifted == SurfaceScores(share, pytest.approx(length_mm))


def test_a_mask_at_the_border_of_the_image_has_a_surface_there() -> None:
    everything = np.ones((3, 4, 5), dtype=bool)
    smaller = everything.copy()
    smaller[0] = False
    found = surface_scores(everything, smaller, (1, 1, 1), tolerance_mm=0.5)
    assert found is not None and found.surface_dice < 1


def test_masks_of_other_shapes_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        surface_scores(np.ones((2, 2, 2), bool), np.ones((2, 2, 3), bool), SPACING, 2.0)
