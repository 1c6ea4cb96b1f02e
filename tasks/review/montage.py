"""One picture of a case: its image in grey with the structures outlined."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import binary_erosion, distance_transform_edt

from tasks.colours import rgb_of
from tasks.labels import Labels

TILES = 6
TILE_PIXELS = 160
THUMBNAIL_PIXELS = 72
WEBP_QUALITY = 70
GREY_PERCENTILES = (1.0, 99.0)
GREY_OF_MM = 20.0
"""So far around what is drawn grey values count; of a whole CT most are air."""
LEAST_SHARE_OF_GREY = 0.1
"""Of the values around it, for a structure that has next to none of its own."""
OUTLINE_PIXELS = 2
"""WebP halves the resolution of colours."""
DASH_PIXELS = 4
LIGHT, DARK = (255, 255, 255), (0, 0, 0)
LEAST_VIEW_MM = 120.0
"""However little is drawn, so much is seen around it."""
MARGIN = 0.5
"""Of what is drawn, on each side of it."""
NUMBER_PIXELS = 14
View = tuple[slice, slice]
"""Rows and columns of all slices that are shown."""


def montage(
    image_file: Path,
    label_file: Path,
    labels: Labels,
    other_file: Path | None = None,
    slices: Sequence[int] = (),
    numbers: Sequence[int] = (),
) -> bytes:
    """Slices through the structures side by side, as WebP: that part of them in which anything is drawn.

    Parameters
    ----------
    image_file, label_file
        NIfTI on one grid.
    labels
        Which integers are which structure.
    other_file
        A second label map on the same grid, such as a prediction: outlined by a line of light and dark.
    slices
        That must be among them, such as those on which folds disagree.
    numbers
        What a viewer calls each slice, which is then written on it.
    """
    image = sitk.ReadImage(str(image_file))
    voxels = sitk.GetArrayFromImage(image)
    label_map = sitk.GetArrayFromImage(sitk.ReadImage(str(label_file)))
    other = label_map[:0] if other_file is None else sitk.GetArrayFromImage(sitk.ReadImage(str(other_file)))
    # Of what nobody looked at there is nothing to see, and it may be nearly everything.
    drawn = (label_map > 0) & (label_map != labels.ignore)
    if other_file is not None:
        drawn |= (other > 0) & (other != labels.ignore)
    column_mm, row_mm, _ = image.GetSpacing()
    view = _view(drawn, (row_mm, column_mm))
    chosen = _telling_slices(drawn, slices)
    low, high = _grey_range([(voxels[k][view], drawn[k][view]) for k in chosen], (row_mm, column_mm))
    sheet = Image.new("RGB", (TILE_PIXELS * len(chosen), TILE_PIXELS))
    written = ImageDraw.Draw(sheet)
    for position, k in enumerate(chosen):
        shown = np.clip((voxels[k][view].astype(np.float32) - low) / max(high - low, 1e-6), 0, 1)
        grey = (shown * 255).astype(np.uint8)
        tile = _tile(
            grey, label_map[k][view], labels, column_mm, row_mm, other[k][view] if len(other) else None
        )
        left = position * TILE_PIXELS
        sheet.paste(tile, (left, (TILE_PIXELS - tile.height) // 2))
        if numbers:
            font = ImageFont.load_default(NUMBER_PIXELS)
            written.text((left + 3, 1), str(numbers[k]), LIGHT, font, stroke_width=1, stroke_fill=DARK)
    stream = io.BytesIO()
    sheet.save(stream, "WEBP", quality=WEBP_QUALITY)
    return stream.getvalue()


def _view(drawn: NDArray[np.bool_], spacing_mm: tuple[float, float]) -> View:
    """Around all that is drawn, as wide as it is high, with a margin; everything where nothing is drawn."""
    found = [np.flatnonzero(drawn.any(axis=axes)) for axes in ((0, 2), (0, 1))]
    if not found[0].size:
        return slice(None), slice(None)
    extents_mm = [(where[-1] + 1 - where[0]) * mm for where, mm in zip(found, spacing_mm, strict=True)]
    half_mm = max(max(extents_mm) * (0.5 + MARGIN), LEAST_VIEW_MM / 2)
    rows, columns = (
        slice(
            max(0, int((where[0] + where[-1] + 1) / 2 - half_mm / mm)),
            int(np.ceil((where[0] + where[-1] + 1) / 2 + half_mm / mm)),
        )
        for where, mm in zip(found, spacing_mm, strict=True)
    )
    return rows, columns


def _grey_range(
    tiles: Sequence[tuple[NDArray[Any], NDArray[np.bool_]]], spacing_mm: tuple[float, float]
) -> tuple[float, float]:
    """What is black and what is white: the values of what is drawn, and as many again on either side.

    No further than those that lie around it in its plane; where nothing is drawn, of the whole slices.
    """
    within = [(voxels, drawn) for voxels, drawn in tiles if drawn.any()]
    near = [v[distance_transform_edt(~d, sampling=spacing_mm) <= GREY_OF_MM] for v, d in within]
    around = np.concatenate(near or [voxels.ravel() for voxels, _ in tiles])
    least, most = (float(value) for value in np.percentile(around, GREY_PERCENTILES))
    if not within:
        return least, most
    own = np.concatenate([voxels[drawn] for voxels, drawn in within])
    low, high = (float(value) for value in np.percentile(own, GREY_PERCENTILES))
    width = max(high - low, LEAST_SHARE_OF_GREY * (most - least))
    if low > most or high < least:  # such as a spot of metal: it is white, or black, on what is around it
        return least, most
    return max(least, low - width), min(most, high + width)


def _telling_slices(drawn: NDArray[np.bool_], wanted: Sequence[int]) -> list[int]:
    """The slices that are wanted, and others spread over the structures, or over the image without any."""
    chosen = [k for k in wanted if 0 <= k < drawn.shape[0]][: TILES // 2]
    filled = np.flatnonzero(drawn.any(axis=(1, 2)))
    candidates = filled if filled.size else np.arange(drawn.shape[0])
    candidates = np.setdiff1d(candidates, chosen)
    # From the first to the last, however few they are beside those that are wanted.
    positions = np.linspace(0, candidates.size - 1, min(TILES - len(chosen), candidates.size))
    return sorted([*chosen, *(int(candidates[round(p)]) for p in positions)])


def thumbnail(picture: bytes) -> bytes:
    """The middle tile of a montage, small."""
    sheet = Image.open(io.BytesIO(picture))
    tiles = sheet.width // TILE_PIXELS
    left = tiles // 2 * TILE_PIXELS
    tile = sheet.crop((left, 0, left + TILE_PIXELS, TILE_PIXELS)).resize((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
    stream = io.BytesIO()
    tile.save(stream, "WEBP", quality=WEBP_QUALITY)
    return stream.getvalue()


def _tile(
    grey: NDArray[np.uint8],
    label_map: NDArray[np.integer],
    labels: Labels,
    column_mm: float,
    row_mm: float,
    other: NDArray[np.integer] | None,
) -> Image.Image:
    rows, columns = grey.shape
    width_mm, height_mm = columns * column_mm, rows * row_mm
    scale = TILE_PIXELS / max(width_mm, height_mm)
    size = (max(1, round(height_mm * scale)), max(1, round(width_mm * scale)))
    # Lines are drawn at the tile's own size: of thin ones little is left when a picture is made smaller.
    colour = np.array(Image.fromarray(grey).resize(size[::-1], Image.Resampling.BOX).convert("RGB"))
    if other is not None:
        light = np.indices(size).sum(axis=0) // DASH_PIXELS % 2 == 0
        for _, mask in labels.masks(other):
            line = _outline(mask, size)
            colour[line & light], colour[line & ~light] = LIGHT, DARK
    for position, (_, mask) in enumerate(labels.masks(label_map)):
        colour[_outline(mask, size)] = rgb_of(position)
    return Image.fromarray(colour)


def _outline(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Of a mask brought to another size, in which a pixel counts if anything of the mask lies in it."""
    for axis, pixels in enumerate(size):
        begins = np.arange(pixels) * mask.shape[axis] // pixels
        mask = np.logical_or.reduceat(mask, begins, axis=axis)
    return np.asarray(mask & ~binary_erosion(mask, iterations=OUTLINE_PIXELS))
