"""Which voxels lie inside an outline, row by row.

The same answer as :func:`skimage.draw.polygon`, which asks of each pixel of the bounding box on which side
of each edge it lies: 33 ms for a circle of 160 pixels with 600 vertices, 2 ms here. An edge is looked at in
the rows that it crosses, and the pixels between crossings follow (O'Rourke, Computational Geometry in C,
1998, 7.4: crossings to either side, so that what lies on an edge is known).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.intp]
NEAR = 1e-6
"""So near to a pixel's centre, in pixels, a crossing is compared by the formula itself and not by its value,
whose rounding is far smaller."""
SAME = 1e-12
"""A vertex on a centre, as skimage has it."""


def filled(rows: Floats, columns: Floats, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels whose centre lies inside a closed outline or on it.

    Parameters
    ----------
    rows, columns
        Of the vertices, in pixels; whole numbers are centres.
    shape
        Of the image; what lies outside is cut off.

    Returns
    -------
    Boolean array of that shape. Where the outline crosses itself a pixel is inside if it is surrounded an odd
    number of times.
    """
    edge, row = _rows_of_edges(rows, shape[0])
    before = edge - 1  # the edge from the vertex before; the first comes after the last
    y0, y1, x0, x1 = rows[edge] - row, rows[before] - row, columns[edge], columns[before]
    right, left = (y0 > 0) != (y1 > 0), (y0 < 0) != (y1 < 0)
    inside = _between(row[right], _beyond(y0, y1, x0, x1, right, 1), shape)
    inside |= _between(row[left], _beyond(y0, y1, x0, x1, left, -1), shape)
    _add_vertices(inside, rows, columns)
    return inside


def area_of(outline: Floats) -> float:
    """The area that an outline of (vertices, 2) encloses, in pixels (the shoelace formula)."""
    row, column = outline[:, 0], outline[:, 1]
    return abs(float(np.dot(row, np.roll(column, 1)) - np.dot(column, np.roll(row, 1)))) / 2


def _rows_of_edges(rows: Floats, count: int) -> tuple[Integers, Integers]:
    """Each edge with each row of the image that it touches."""
    before = np.roll(rows, 1)
    first = np.clip(np.ceil(np.minimum(rows, before)), 0, count).astype(np.intp)
    last = np.clip(np.floor(np.maximum(rows, before)), -1, count - 1).astype(np.intp)
    lengths = np.maximum(last - first + 1, 0)
    edge = np.repeat(np.arange(len(rows)), lengths)
    starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
    return edge, first[edge] + np.arange(len(edge)) - starts


def _beyond(y0: Floats, y1: Floats, x0: Floats, x1: Floats, chosen: NDArray[np.bool_], side: int) -> Integers:
    """The first column for which a crossing no longer lies to the right (``side`` 1), or does to the left."""
    y0, y1, x0, x1 = y0[chosen], y1[chosen], x0[chosen], x1[chosen]
    crossing = _crossing(y0, y1, x0, x1)
    nearest = np.rint(crossing)
    counts = side * _crossing(y0, y1, x0 - nearest, x1 - nearest) > 0
    # To the right: the last column that counts is `nearest`, or the one before. To the left: the first.
    exact = nearest + counts if side > 0 else nearest + ~counts
    plain = np.floor(crossing) + 1
    found: Integers = np.where(np.abs(crossing - nearest) < NEAR, exact, plain).astype(np.intp)
    return found


def _crossing(y0: Floats, y1: Floats, x0: Floats, x1: Floats) -> Floats:
    found: Floats = (x0 * y1 - x1 * y0) / (y1 - y0)
    return found


def _between(row: Integers, column: Integers, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels with an odd number of crossings before them in their row, and so behind them.

    A closed outline crosses each row an even number of times: beyond the first and the last of its crossings
    there is nothing, and only the box around them is looked at.
    """
    inside = np.zeros(shape, dtype=bool)
    if not len(row):
        return inside
    column = np.clip(column, 0, shape[1])
    top, left = row.min(), column.min()
    crossed = np.zeros((row.max() - top + 1, column.max() - left + 1), dtype=bool)
    np.logical_xor.at(crossed, (row - top, column - left), True)
    box = inside[top : row.max() + 1, left : column.max()]
    np.logical_xor.accumulate(crossed[:, :-1], axis=1, out=box)
    return inside


def _add_vertices(inside: NDArray[np.bool_], rows: Floats, columns: Floats) -> None:
    nearest = np.rint(np.column_stack([rows, columns]))
    on = (np.abs(rows - nearest[:, 0]) < SAME) & (np.abs(columns - nearest[:, 1]) < SAME)
    on &= (nearest >= 0).all(axis=1) & (nearest < inside.shape).all(axis=1)
    row, column = nearest[on].astype(np.intp).T
    inside[row, column] = True
