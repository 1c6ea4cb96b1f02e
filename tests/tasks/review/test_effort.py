"""What a correction cost, held against MONAI and against what can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from dicom_factory import ball
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from monai.metrics import compute_dice, compute_hausdorff_distance, compute_surface_dice
from numpy.typing import NDArray

from tasks.review.effort import IN_SLICE, effort, efforts
from tasks.review.surface import surface_of, surface_scores

SHAPE = (10, 30, 28)
SPACING_MM = (3.0, 0.8, 1.1)
PAIRS = {
    "grown": (ball(SHAPE, (5, 14, 14), 5), ball(SHAPE, (5, 14, 14), 7)),
    "moved": (ball(SHAPE, (5, 14, 14), 5), ball(SHAPE, (4, 18, 11), 5)),
    "a piece more": (ball(SHAPE, (5, 9, 9), 4), ball(SHAPE, (5, 9, 9), 4) | ball(SHAPE, (6, 22, 20), 3)),
    "at the border": (ball(SHAPE, (0, 0, 0), 6), ball(SHAPE, (1, 2, 0), 6)),
}


def channels(mask: NDArray[np.bool_]) -> torch.Tensor:
    """One case of one class, as MONAI wants it; beyond the image is outside for us, so a margin."""
    return torch.from_numpy(np.pad(mask, 2)[np.newaxis, np.newaxis].astype(np.float32))


@pytest.mark.filterwarnings("ignore:monai")
@pytest.mark.parametrize("name", PAIRS)
def test_the_metrics_are_monais(name: str) -> None:
    before, after = PAIRS[name]
    ours = effort(before, after, SPACING_MM, tolerance_mm=2.0)
    a, b = channels(before), channels(after)
    assert ours.dice == pytest.approx(float(compute_dice(b, a)))
    hd95 = compute_hausdorff_distance(b, a, include_background=True, percentile=95, spacing=SPACING_MM)
    assert ours.hd95_mm == pytest.approx(float(hd95), abs=1e-3)
    surface = compute_surface_dice(b, a, [2.0], include_background=True, spacing=SPACING_MM)
    assert ours.surface_dice == pytest.approx(float(surface), abs=1e-3)


@pytest.mark.parametrize("name", PAIRS)
def test_added_path_length_is_the_outline_that_is_not_there_yet(name: str) -> None:
    before, after = PAIRS[name]
    count = 0
    for z in range(SHAPE[0]):
        for y, x in np.argwhere(after[z]):
            around = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]

            def on_outline(plane: NDArray[np.bool_], y: int, x: int, around: list[tuple[int, int]]) -> bool:
                outside = [
                    not (0 <= r < SHAPE[1] and 0 <= c < SHAPE[2]) or not plane[r, c] for r, c in around
                ]
                return bool(plane[y, x]) and any(outside)

            count += on_outline(after[z], y, x, around) and not on_outline(before[z], y, x, around)
    found = effort(before, after, SPACING_MM, 2.0)
    assert found.added_path_length_mm == pytest.approx(count * np.sqrt(0.8 * 1.1))


@pytest.mark.parametrize("name", PAIRS)
def test_where_somebody_stopped_looking_nobody_has_drawn(name: str) -> None:
    """An outline ends there as one does that goes on."""
    before, after = PAIRS[name]
    seen = np.ones(SHAPE, bool)
    seen[:, 13:, :] = False
    found = effort(before & seen, after & seen, SPACING_MM, 2.0, ~seen)
    drawn = surface_of(after, None, IN_SLICE) & ~surface_of(before, None, IN_SLICE) & seen
    assert found.added_path_length_mm == pytest.approx(np.count_nonzero(drawn) * np.sqrt(0.8 * 1.1))
    surface = surface_scores(before & seen, after & seen, SPACING_MM, 2.0, ~seen)
    assert found.surface_dice == (surface.surface_dice if surface else None)


def test_slices_and_volume_are_those_that_changed() -> None:
    before = ball(SHAPE, (5, 14, 14), 5)
    after = before.copy()
    after[3, 14, 14] = after[6, 0, 0] = True
    after[5, 14, 14] = False
    found = effort(before, after, SPACING_MM, 2.0)
    changed = int((before != after).sum())
    assert found.edited_slices == len({int(z) for z in np.argwhere(before != after)[:, 0]})
    assert found.edited_volume_ml == pytest.approx(changed * np.prod(SPACING_MM) / 1000)
    assert not found.unedited


def test_nothing_changed_is_no_effort() -> None:
    mask = ball(SHAPE, (5, 14, 14), 5)
    found = effort(mask, mask.copy(), SPACING_MM, 2.0)
    assert (found.unedited, found.added_path_length_mm, found.edited_slices, found.dice) == (True, 0, 0, 1)


def test_what_was_not_saved_was_taken_away() -> None:
    mask, nothing = ball(SHAPE, (5, 14, 14), 5), np.zeros(SHAPE, bool)
    found = efforts({"a": mask, "b": nothing}, {}, SPACING_MM, 2.0)
    assert found["a"]["dice"] == 0.0
    assert found["a"]["added_path_length_mm"] == 0  # erasing is no drawing
    assert found["a"]["edited_slices"] == int(mask.any(axis=(1, 2)).sum())
    assert found["b"] == {**found["b"], "unedited": True, "dice": None, "surface_dice": None, "hd95_mm": None}


def test_other_shapes_are_an_error() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        effort(np.zeros(SHAPE, bool), np.zeros((1, 2, 3), bool), SPACING_MM, 2.0)


@settings(max_examples=60)
@given(arrays(bool, (2, 4, 5, 6)))
def test_the_figures_hold_together(masks: NDArray[np.bool_]) -> None:
    before, after = masks
    found = effort(before, after, SPACING_MM, 2.0)
    assert found.unedited == bool((before == after).all()) == (found.edited_volume_ml == 0)
    assert found.edited_slices <= before.shape[0]
    outline = effort(np.zeros_like(after), after, SPACING_MM, 2.0).added_path_length_mm
    assert 0 <= found.added_path_length_mm <= outline + 1e-9
    both = surface_scores(before, after, SPACING_MM, 2.0)
    assert found.surface_dice == (both.surface_dice if both else None)
