"""Pictures of an image with what was segmented in it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image

from tasks.colours import rgb_of
from tasks.labels import Labels
from tasks.review.montage import TILE_PIXELS, _telling_slices, _tile, montage

LABELS = Labels(["a", "b", "c"], "label_image")


def test_a_montage_shows_the_structures_in_their_colours(files: tuple[Path, Path]) -> None:
    picture = Image.open(io.BytesIO(montage(*files, LABELS)))
    assert picture.size[1] == TILE_PIXELS
    pixels = np.asarray(picture.convert("RGB")).astype(int)
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


def shown(picture: bytes) -> NDArray[np.int_]:
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(int)


@pytest.mark.parametrize("pixels", [20, 512])
@pytest.mark.parametrize("share", [0.1, 0.4])
def test_an_outline_is_whole_whatever_the_size_of_the_image(pixels: int, share: float) -> None:
    """Those of 512 pixels are made smaller: of a thin line every third pixel would be left."""
    mask = np.zeros((pixels, pixels), dtype=np.uint8)
    first, last = pixels // 4, pixels // 4 + round(share * pixels)
    mask[first:last, first:last] = 1
    tile = np.asarray(_tile(np.zeros_like(mask), mask, LABELS, 0.9, 0.9, None))
    drawn = (tile == rgb_of(0)).all(axis=2)
    rows, columns = (np.flatnonzero(drawn.any(axis=axis)) for axis in (1, 0))
    assert rows.size == pytest.approx(share * TILE_PIXELS, abs=2)
    for edge in (drawn[rows[0]], drawn[rows[-1]], drawn[:, columns[0]], drawn[:, columns[-1]]):
        assert edge[rows[0] : rows[-1] + 1].all()
    assert not drawn[rows[0] + 3 : rows[-1] - 2, columns[0] + 3 : columns[-1] - 2].any()


@pytest.mark.parametrize("row", range(100, 104))
def test_a_single_voxel_is_seen_wherever_it_lies(row: int) -> None:
    mask = np.zeros((512, 512), dtype=np.uint8)
    mask[row, 2 * row] = 1
    tile = np.asarray(_tile(np.zeros_like(mask), mask, LABELS, 0.9, 0.9, None))
    assert (tile == rgb_of(0)).all(axis=2).sum() == 1


def test_a_picture_shows_the_part_in_which_something_is_drawn(tmp_path: Path) -> None:
    mask = np.zeros((2, 512, 512), dtype=np.uint8)
    mask[:, 400:420, 60:80] = 1
    for name, array in (("i", np.zeros_like(mask)), ("l", mask), ("n", np.zeros_like(mask))):
        sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / f"{name}.nii.gz"))
    pixels = shown(montage(tmp_path / "i.nii.gz", tmp_path / "l.nii.gz", LABELS))[:, :TILE_PIXELS]
    columns = np.flatnonzero((pixels[..., 0] - pixels[..., 2] > 60).any(axis=0))
    assert columns[-1] - columns[0] > 20, "20 mm of 512 would be 6 pixels"
    assert montage(tmp_path / "i.nii.gz", tmp_path / "n.nii.gz", LABELS), "where nothing is drawn, all of it"


def test_a_slice_bears_the_number_that_a_viewer_gives_it(files: tuple[Path, Path]) -> None:
    plain, numbered = (shown(montage(*files, LABELS, numbers=n)) for n in ((), range(101, 111)))
    differs = np.abs(plain - numbered).max(axis=2) > 60
    for position in range(plain.shape[1] // TILE_PIXELS):
        tile = differs[:, position * TILE_PIXELS : (position + 1) * TILE_PIXELS]
        assert tile[:20, :40].any()
        assert not tile[40:].any()


def test_what_nobody_looked_at_is_not_what_a_picture_is_about(tmp_path: Path) -> None:
    """Where a structure may be unlabelled all background is: the whole image would be shown."""
    label = np.full((60, 40, 40), LABELS.ignore, dtype=np.uint8)
    label[20:23, 10:20, 10:20] = 1
    for name, array in (("image", np.zeros_like(label)), ("label", label)):
        sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / f"{name}.nii.gz"))
    picture = shown(montage(tmp_path / "image.nii.gz", tmp_path / "label.nii.gz", LABELS))
    red = picture[..., 0] - picture[..., 2] > 80
    tiles = picture.shape[1] // TILE_PIXELS
    assert tiles == 3, "the slices that have it"
    assert all(tile.any() for tile in np.split(red, tiles, axis=1))


@pytest.mark.parametrize(
    ("wanted", "shown_slices"),
    [
        ((), [10, 18, 26, 33, 41, 49]),
        ((12, 13, 14, 15), [10, 12, 13, 14, 31, 49]),
        ((60,), [10, 20, 30, 39, 49, 60]),
        ((99, -1), [10, 18, 26, 33, 41, 49]),
    ],
)
def test_slices_reach_from_one_end_to_the_other_whatever_else_is_wanted(
    wanted: tuple[int, ...], shown_slices: list[int]
) -> None:
    """Of the folds' disputed ones three are shown; the rest is seen from the first slice to the last."""
    drawn = np.zeros((70, 4, 4), dtype=bool)
    drawn[10:50] = True
    assert _telling_slices(drawn, wanted) == shown_slices


def test_a_single_slice_is_shown_once() -> None:
    drawn = np.zeros((5, 4, 4), dtype=bool)
    drawn[2] = True
    assert _telling_slices(drawn, (2,)) == [2]


@pytest.mark.parametrize("air", [-1000, -3024])
@pytest.mark.parametrize("what", ["organ", "lesion", "voxel"])
def test_a_lesion_is_told_from_the_organ_around_it(tmp_path: Path, air: int, what: str) -> None:
    """Of a whole CT most is air, between which and bone 30 HU are nothing."""
    organ, lesion, voxel = np.zeros((3, 3, 200, 200), dtype=bool)
    organ[:, 60:140, 60:140] = True
    lesion[:, 95:105, 95:105] = True
    voxel[:, 99, 99] = True
    image = np.where(organ, 60, air).astype(np.int16)
    image[lesion] = 30
    image += np.random.default_rng(0).normal(0, 5, image.shape).astype(np.int16)
    drawn = {"organ": organ, "lesion": lesion, "voxel": voxel}[what]
    for name, array in (("i", image), ("l", drawn.astype(np.uint8))):
        sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / f"{name}.nii.gz"))
    sheet = Image.open(io.BytesIO(montage(tmp_path / "i.nii.gz", tmp_path / "l.nii.gz", LABELS)))
    green = np.asarray(sheet.convert("RGB")).astype(int)[:TILE_PIXELS, :TILE_PIXELS, 1]
    middle, side = slice(TILE_PIXELS // 2 - 4, TILE_PIXELS // 2 + 4), slice(TILE_PIXELS // 2 + 18, -50)
    around, seen = green[middle, side].mean(), green[middle, middle].mean()
    assert around - seen > 20, "of 255 grey levels"


@pytest.mark.parametrize("spot", [-900, 50, 3000])
def test_around_a_spot_beyond_all_others_tissue_is_seen(tmp_path: Path, spot: int) -> None:
    """A marker of metal, a bubble, a cyst of one value: smaller than a hundredth of what lies around it."""
    image = np.random.default_rng(0).normal(50, 20, (3, 200, 200)).astype(np.int16)
    drawn = np.zeros(image.shape, dtype=np.uint8)
    drawn[:, 99:101, 99:101] = 1
    image[drawn > 0] = spot
    for name, array in (("i", image), ("l", drawn)):
        sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / f"{name}.nii.gz"))
    sheet = Image.open(io.BytesIO(montage(tmp_path / "i.nii.gz", tmp_path / "l.nii.gz", LABELS)))
    green = np.asarray(sheet.convert("RGB")).astype(int)[: TILE_PIXELS // 3, :TILE_PIXELS, 1]
    assert 40 < np.median(green) < 250
    assert len(np.unique(green)) > 12
