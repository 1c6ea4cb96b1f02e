"""One colour for a structure, wherever it is drawn: in pictures, curves, SEG and RTSTRUCT."""

from __future__ import annotations

import colorsys

RGB = tuple[int, int, int]
PALETTE: tuple[RGB, ...] = (
    (213, 94, 0),
    (86, 180, 233),
    (0, 158, 115),
    (204, 121, 167),
    (230, 159, 0),
    (0, 114, 178),
    (240, 228, 66),
)
"""Told apart with any kind of colour vision (Okabe and Ito, Color Universal Design, 2008)."""
GOLDEN_RATIO = 0.618034
"""Steps of it around the circle of hues come near to none that was taken before."""
SATURATION, VALUES = 0.6, (0.95, 0.7)


def rgb_of(number: int) -> RGB:
    """The colour of a structure by its place among all, from 0: red, green and blue, of 255.

    Those behind the palette are told apart less well, but no two of a hundred are the same.
    """
    if number < len(PALETTE):
        return PALETTE[number]
    further = number - len(PALETTE)
    colour = colorsys.hsv_to_rgb(further * GOLDEN_RATIO % 1, SATURATION, VALUES[further % len(VALUES)])
    red, green, blue = (round(255 * part) for part in colour)
    return red, green, blue


def css_of(number: int) -> str:
    """The same as a page has it."""
    return "rgb({},{},{})".format(*rgb_of(number))
