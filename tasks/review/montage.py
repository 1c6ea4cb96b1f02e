"""One picture of a case: its image in grey with the structures outlined."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_erosion

from tasks.labels import Labels

TILES = 6
TILE_PIXELS = 160
THUMBNAIL_PIXELS = 72
WEBP_QUALITY = 70
GREY_PERCENTILES = (1.0, 99.0)
COLOURS = (
    (230, 60, 50),
    (50, 150, 230),
    (110, 190, 40),
    (240, 180, 30),
    (200, 80, 200),
    (40, 200, 190),
    (150, 110, 70),
    (120, 120, 140),
)


OTHER_COLOUR = (255, 255, 255)


def montage(
    image_file: Path,
    label_file: Path,
    labels: Labels,
    other_file: Path | None = None,
    slices: Sequence[int] = (),
) -> bytes:
    """Slices through the structures side by side, as WebP.

    Parameters
    ----------
    image_file, label_file
        NIfTI on one grid.
    labels
        Which integers are which structure.
    other_file
        A second label map on the same grid, such as a prediction: outlined in white.
    slices
        That must be among them, such as those on which folds disagree.
    """
    image = sitk.ReadImage(str(image_file))
    voxels = sitk.GetArrayFromImage(image)
    label_map = sitk.GetArrayFromImage(sitk.ReadImage(str(label_file)))
    other = label_map[:0] if other_file is None else sitk.GetArrayFromImage(sitk.ReadImage(str(other_file)))
    drawn = label_map > 0 if other_file is None else (label_map > 0) | (other > 0)
    low, high = np.percentile(voxels, GREY_PERCENTILES)
    grey = np.clip((voxels.astype(np.float32) - low) / max(float(high - low), 1e-6), 0, 1) * 255
    dx, dy, _ = image.GetSpacing()
    tiles = [
        _tile(grey[k].astype(np.uint8), label_map[k], labels, dx, dy, other[k] if len(other) else None)
        for k in _telling_slices(drawn, slices)
    ]
    sheet = Image.new("RGB", (TILE_PIXELS * len(tiles), TILE_PIXELS))
    for position, tile in enumerate(tiles):
        sheet.paste(tile, (position * TILE_PIXELS, (TILE_PIXELS - tile.height) // 2))
    stream = io.BytesIO()
    sheet.save(stream, "WEBP", quality=WEBP_QUALITY)
    return stream.getvalue()


def _telling_slices(drawn: NDArray[np.bool_], wanted: Sequence[int]) -> list[int]:
    """The slices that are wanted, and others spread over the structures, or over the image without any."""
    chosen = [k for k in wanted if 0 <= k < drawn.shape[0]][: TILES // 2]
    filled = np.flatnonzero(drawn.any(axis=(1, 2)))
    candidates = filled if filled.size else np.arange(drawn.shape[0])
    positions = np.linspace(0, candidates.size - 1, min(TILES, candidates.size))
    spread = [int(candidates[round(p)]) for p in positions]
    return sorted([*chosen, *[k for k in spread if k not in chosen][: TILES - len(chosen)]])


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
    dx: float,
    dy: float,
    other: NDArray[np.integer] | None,
) -> Image.Image:
    colour = np.repeat(grey[..., np.newaxis], 3, axis=2)
    if other is not None:
        for _, mask in labels.masks(other):
            colour[mask & ~binary_erosion(mask)] = OTHER_COLOUR
    for position, (_, mask) in enumerate(labels.masks(label_map)):
        colour[mask & ~binary_erosion(mask)] = COLOURS[position % len(COLOURS)]
    rows, columns = grey.shape
    width_mm, height_mm = columns * dx, rows * dy
    scale = TILE_PIXELS / max(width_mm, height_mm)
    size = (max(1, round(width_mm * scale)), max(1, round(height_mm * scale)))
    return Image.fromarray(colour).resize(size, Image.Resampling.NEAREST)
