"""How far the surfaces of two masks lie apart, in millimetres.

The surface of a mask is its voxels with a face neighbour outside it; beyond the image is outside. The
distance of a surface voxel is that of its centre to the nearest centre of the other surface. Surface
Dice: Nikolov et al., J Med Internet Res 23 (2021) e26151. HD95: the larger of the two directed 95th
percentiles, as the Metrics Reloaded consortium has it (Maier-Hein et al., Nat Methods 21, 2024).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, distance_transform_edt

HD_PERCENTILE = 95.0
ROUNDING_MM = 1e-6
"""Five voxels of 0.8 mm are 4 mm apart, or a little more as floating point has it; they are within 4 mm."""


@dataclass(frozen=True)
class SurfaceScores:
    """Agreement of two surfaces.

    Attributes
    ----------
    surface_dice
        The share of both surfaces that lies within the tolerance of the other, 0 to 1; 0 where one mask is
        empty.
    hd95_mm
        None where one mask is empty: nothing is there to be near to.
    """

    surface_dice: float
    hd95_mm: float | None


def surface_scores(
    truth: NDArray[np.bool_],
    prediction: NDArray[np.bool_],
    spacing_mm: Sequence[float],
    tolerance_mm: float,
    unknown: NDArray[np.bool_] | None = None,
) -> SurfaceScores | None:
    """Compare two masks of one shape (slices, rows, columns).

    Parameters
    ----------
    spacing_mm
        Of slices, rows and columns, in this order.
    tolerance_mm
        So far from the other surface a voxel of a surface still counts as on it, this included.
    unknown
        Voxels at which nobody has looked, of which neither mask has any: where a mask ends at them it has no
        surface, or two masks would agree in where somebody stopped looking.

    Returns
    -------
    None where both are empty, since nothing is there to agree on, or nobody has seen a surface of either.

    Raises
    ------
    ValueError
        Where the shapes differ.
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"masks differ in shape: {truth.shape} and {prediction.shape}")
    if not truth.any() and not prediction.any():
        return None
    if not truth.any() or not prediction.any():
        return SurfaceScores(0.0, None)
    box = _box(truth | prediction)
    hidden = None if unknown is None else unknown[box]
    one, other = surface_of(truth[box], hidden), surface_of(prediction[box], hidden)
    if not one.any() or not other.any():
        return SurfaceScores(0.0, None) if one.any() or other.any() else None
    to_other = distance_transform_edt(~other, sampling=spacing_mm)[one]
    to_one = distance_transform_edt(~one, sampling=spacing_mm)[other]
    reach_mm = tolerance_mm + ROUNDING_MM
    within = int((to_other <= reach_mm).sum()) + int((to_one <= reach_mm).sum())
    return SurfaceScores(
        within / (to_other.size + to_one.size),
        float(max(np.percentile(to_other, HD_PERCENTILE), np.percentile(to_one, HD_PERCENTILE))),
    )


def surface_of(
    mask: NDArray[np.bool_], unknown: NDArray[np.bool_] | None, neighbours: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_]:
    """The voxels of a mask with a neighbour that is known to be outside; ``neighbours``: those of a face."""
    whole = mask if unknown is None else mask | unknown
    return np.asarray(mask & ~binary_erosion(whole, neighbours, border_value=0))


def _box(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    """A box around a mask, with the voxels beside it where the image has some; beyond it is outside both."""
    found = []
    for axis in range(mask.ndim):
        others = tuple(a for a in range(mask.ndim) if a != axis)
        where = np.flatnonzero(mask.any(axis=others))
        found.append(slice(max(0, int(where[0]) - 1), int(where[-1]) + 2))
    return tuple(found)
