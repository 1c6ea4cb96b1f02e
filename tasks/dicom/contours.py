"""Outlines of masks that every reader turns back into the same mask.

Each slice is traced by marching squares (:func:`skimage.measure.find_contours`) at level 0.75, a
quarter of a voxel inside the true edge: readers that round vertices, readers that count edges as
inside and readers that do not all see the same voxel centres inside. Holes are joined to the outer
contour by a keyhole, since many readers fill a second contour.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.measure import find_contours, label

from tasks.dicom.fill import area_of

LEVEL = 0.75
"""Contours run at this share of the way from a background centre to a foreground centre."""
BRIDGE_ROW_OFFSET = 0.1
"""Keyholes run a tenth of a voxel beside the row of centres, so that no centre lies on their edge;
it is less than 1 - LEVEL, so that they stay inside the mask."""

Polygon = NDArray[np.float64]


def outlines(mask: NDArray[np.bool_]) -> list[Polygon]:
    """The contours of a 2-D mask, one closed polygon for each connected part.

    Parameters
    ----------
    mask
        (rows, columns).

    Returns
    -------
    Polygons (n, 2) of sub-voxel (row, column), not repeating the first point; holes are keyholed.
    """
    polygons: list[Polygon] = []
    if not mask.any():
        return polygons
    # Only where there is something: most of a slice is not.
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    first = np.array([rows[0], columns[0]])
    parts, count = label(
        mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], connectivity=1, return_num=True
    )
    for part in range(1, count + 1):
        # One voxel of margin, so that contours close at the border.
        padded = np.pad(parts == part, 1).astype(np.float64)
        rings = [ring[:-1] - 1 + first for ring in find_contours(padded, LEVEL, fully_connected="low")]
        rings.sort(key=area_of, reverse=True)
        polygons.append(_keyholed(rings[0], rings[1:]))
    return polygons


def _keyholed(outer: Polygon, holes: list[Polygon]) -> Polygon:
    """Join holes one after another, leftmost first: a bridge to the left meets what is joined."""
    for hole in sorted(holes, key=lambda ring: float(ring[:, 1].min())):
        outer = _join(outer, hole)
    return outer


def _join(outer: Polygon, hole: Polygon) -> Polygon:
    leftmost = hole[int(np.argmin(hole[:, 1]))]
    row = np.rint(leftmost[0]) + BRIDGE_ROW_OFFSET
    start, hole_at = min(_crossings(hole, row), key=lambda crossing: crossing[0])
    left = [crossing for crossing in _crossings(outer, row) if crossing[0] < start]
    end, outer_at = max(left, key=lambda crossing: crossing[0])
    on_hole, on_outer = np.array([[row, start]]), np.array([[row, end]])
    around = np.roll(hole, -(hole_at + 1), axis=0)
    return np.concatenate(
        [outer[: outer_at + 1], on_outer, on_hole, around, on_hole, on_outer, outer[outer_at + 1 :]]
    )


def _crossings(ring: Polygon, row: float) -> list[tuple[float, int]]:
    """Where a ring crosses a row: (column, index of the vertex before the crossing)."""
    before, after = ring, np.roll(ring, -1, axis=0)
    crossing = np.flatnonzero((before[:, 0] - row) * (after[:, 0] - row) < 0)
    share = (row - before[crossing, 0]) / (after[crossing, 0] - before[crossing, 0])
    columns = before[crossing, 1] + share * (after[crossing, 1] - before[crossing, 1])
    return list(zip(columns.tolist(), crossing.tolist(), strict=True))
