"""Pictures of an image with what was segmented in it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from PIL import Image

from tasks.labels import Labels
from tasks.review.montage import TILE_PIXELS, montage

LABELS = Labels(["a", "b", "c"], "label_image")


def test_a_montage_shows_the_structures_in_their_colours(files: tuple[Path, Path]) -> None:
    picture = Image.open(io.BytesIO(montage(*files, LABELS))).convert("RGB")
    assert picture.format is None or picture.size[1] == TILE_PIXELS
    pixels = np.asarray(picture).astype(int)
    red = (pixels[..., 0] - pixels[..., 2] > 80).sum()
    blue = (pixels[..., 2] - pixels[..., 0] > 80).sum()
    assert red > 100
    assert blue > 100


def test_a_second_label_map_is_outlined_in_white(files: tuple[Path, Path], tmp_path: Path) -> None:
    image, label = files
    moved = sitk.GetImageFromArray(np.roll(sitk.GetArrayFromImage(sitk.ReadImage(str(label))), 6, axis=2))
    moved.CopyInformation(sitk.ReadImage(str(label)))
    sitk.WriteImage(moved, str(tmp_path / "p.nii.gz"))

    def white(picture: bytes) -> int:
        pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(int)
        return int((pixels.min(axis=2) > 245).sum())

    assert (
        white(montage(image, label, LABELS, tmp_path / "p.nii.gz"))
        > white(montage(image, label, LABELS)) + 100
    )
