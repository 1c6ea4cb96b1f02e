"""A reader who is played: takes what is worst, and errs by as much as was said."""

from __future__ import annotations

import numpy as np
import pytest
from dicom_factory import ball
from scipy.ndimage import distance_transform_edt

from tasks.review.simulated_reader import with_errors, worst_slices

SHAPE = (24, 48, 44)
SPACING_MM = (2.0, 1.0, 1.0)
LEFT, RIGHT = ball(SHAPE, (12, 24, 14), 9), ball(SHAPE, (12, 24, 32), 8)
TRUTH = {"Left": LEFT, "Right": RIGHT}


def test_the_slices_with_the_most_wrong_voxels_come_first() -> None:
    predicted = {name: mask.copy() for name, mask in TRUTH.items()}
    predicted["Left"][12] = False
    predicted["Right"][5, :3, :3] = True
    predicted["Right"][20, 0, 0] = True
    assert worst_slices(predicted, TRUTH, 2) == [12, 5]
    assert worst_slices(predicted, TRUTH, 9) == [12, 5, 20]


def test_what_was_predicted_right_has_no_worst_slice() -> None:
    assert worst_slices(TRUTH, TRUTH, 5) == []


def test_a_structure_that_was_not_predicted_is_wrong_wherever_it_lies() -> None:
    found = worst_slices({"Left": LEFT}, TRUTH, 24)
    assert sorted(found) == np.flatnonzero(RIGHT.any(axis=(1, 2))).tolist()


@pytest.mark.parametrize("error_mm", [0.5, 1.0, 2.0])
def test_outlines_are_off_by_what_was_said(error_mm: float) -> None:
    drawn = with_errors({"Left": LEFT}, SPACING_MM, error_mm, seed=1)["Left"]
    assert (drawn != LEFT).any()
    away_mm = distance_transform_edt(~LEFT, sampling=SPACING_MM)[drawn & ~LEFT]
    missed_mm = distance_transform_edt(LEFT, sampling=SPACING_MM)[LEFT & ~drawn]
    # Four standard deviations, and the voxel that an outline runs through.
    assert max([*away_mm, *missed_mm]) <= 4 * error_mm + max(SPACING_MM)


def test_larger_errors_are_farther_from_the_truth() -> None:
    wrong = [np.count_nonzero(with_errors(TRUTH, SPACING_MM, e, 1)["Left"] ^ LEFT) for e in (0.5, 1.5, 3.0)]
    assert wrong == sorted(wrong) and wrong[0] < wrong[-1]


def test_neighbours_never_overlap_by_an_error() -> None:
    touching = {"Left": LEFT, "Right": ball(SHAPE, (12, 24, 26), 8) & ~LEFT}
    drawn = with_errors(touching, SPACING_MM, 2.0, seed=3)
    assert not (drawn["Left"] & drawn["Right"]).any()


def test_a_reader_errs_in_a_case_as_they_did_before() -> None:
    one, two, other = (with_errors(TRUTH, SPACING_MM, 1.0, seed)["Left"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()


def test_a_structure_is_never_lost_to_an_error() -> None:
    speck = np.zeros(SHAPE, dtype=bool)
    speck[12, 24, 22] = True
    for seed in range(20):
        assert with_errors({"Speck": speck}, SPACING_MM, 3.0, seed)["Speck"].any()
