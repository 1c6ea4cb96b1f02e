"""A person who corrects predictions, played from the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter

Mask = NDArray[np.bool_]
SMOOTH_MM = 5.0
"""Over which an outline that is off stays off to the same side."""


def worst_slices(predicted: Mapping[str, Mask], truth: Mapping[str, Mask], count: int) -> list[int]:
    """The slices with the most wrong voxels over all structures, worst first; those without any are none.

    Masks are (slices, rows, columns) of one shape; a structure may be missing on one of the sides.
    """
    nothing = np.zeros_like(next(iter(truth.values())))
    wrong = np.zeros(len(nothing), dtype=np.int64)
    for name in predicted.keys() | truth.keys():
        differs = predicted.get(name, nothing) != truth.get(name, nothing)
        wrong += np.count_nonzero(differs, axis=(1, 2))
    order = np.argsort(-wrong, kind="stable")[:count]
    return [int(number) for number in order if wrong[number]]


def with_errors(
    truth: Mapping[str, Mask], spacing_mm: Sequence[float], error_mm: float, seed: int
) -> dict[str, Mask]:
    """Masks as a person draws them whose outlines are off by so much.

    The signed distance to the true outline is moved by smooth noise, one for all structures, so that
    neighbours stay neighbours and never overlap where the truth does not.

    Parameters
    ----------
    truth
        Structure → mask (slices, rows, columns).
    spacing_mm
        Of slices, rows, columns.
    error_mm
        Standard deviation of the noise.
    seed
        The same gives the same masks.
    """
    shape = next(iter(truth.values())).shape
    noise = np.random.default_rng(seed).standard_normal(shape)
    smooth = gaussian_filter(noise, [SMOOTH_MM / step for step in spacing_mm])
    off_mm = smooth * (error_mm / max(float(smooth.std()), 1e-12))
    union = np.logical_or.reduce(list(truth.values()))
    inside = _signed_distance_mm(union, spacing_mm) + off_mm > 0
    nearest = np.argmax([_signed_distance_mm(mask, spacing_mm) for mask in truth.values()], axis=0)
    drawn = {}
    for position, (name, mask) in enumerate(truth.items()):
        # What overlaps in the truth may overlap; elsewhere a voxel goes to the structure that is nearest.
        own = inside & (mask | ((nearest == position) & ~union))
        drawn[name] = own if own.any() else mask
    return drawn


def _signed_distance_mm(mask: Mask, spacing_mm: Sequence[float]) -> NDArray[np.float64]:
    """Above 0 inside, below outside; far below where there is nothing. The outline runs between voxels."""
    if not mask.any():
        return np.full(mask.shape, -1e6)
    if mask.all():
        return np.full(mask.shape, 1e6)
    half_mm = min(spacing_mm) / 2
    within = distance_transform_edt(mask, sampling=spacing_mm) - half_mm
    beyond = distance_transform_edt(~mask, sampling=spacing_mm) - half_mm
    return np.asarray(np.where(mask, within, -beyond), dtype=np.float64)
