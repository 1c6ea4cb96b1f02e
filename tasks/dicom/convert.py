"""From a case's DICOM to an image and a label map on the same grid, exact to the voxel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from tasks.dicom import rtstruct, seg
from tasks.dicom.image import SeriesVolume, place
from tasks.dicom.reasons import Reason
from tasks.dicom.rois import SeveralRois, match_rois
from tasks.errors import CaseRejected

CONVERTER_VERSION = 1
"""Raised whenever the same input would give other voxels: stored conversions are made anew."""

MaskStrategy = Literal["label_image", "priority"]


def label_map(
    volume: SeriesVolume,
    segmentation: Path,
    kind: str,
    patterns: Mapping[str, Sequence[str]],
    strategy: MaskStrategy = "label_image",
    several_rois: SeveralRois = "error",
) -> sitk.Image:
    """The label map of a segmentation on its image's grid.

    Parameters
    ----------
    volume
        The image.
    segmentation, kind
        A file, and whether it is ``RTSTRUCT`` or ``SEG``.
    patterns
        Structure → patterns; the order gives the labels 1, 2, …
    strategy
        ``label_image``: two structures on one voxel are an error. ``priority``: the structure that
        stands first in the ROI file keeps the voxel.

    Returns
    -------
    SimpleITK image, uint8, 0 is background.

    Raises
    ------
    CaseRejected
        With the code of what is wrong.
    """
    masks = structure_masks(volume, segmentation, kind, patterns, several_rois)
    labels = np.zeros(volume.grid.shape, dtype=np.uint8)
    for value, (structure, mask) in enumerate(masks.items(), start=1):
        taken = mask & (labels > 0)
        if taken.any() and strategy == "label_image":
            other = list(masks)[int(labels[taken][0]) - 1]
            raise CaseRejected(Reason.OVERLAP, f"{structure!r} and {other!r} share {int(taken.sum())} voxels")
        labels[mask & ~taken] = value
        if not (labels == value).any():
            raise CaseRejected(Reason.EMPTY_MASK, f"{structure!r} covers no voxel of its own")
    image = sitk.GetImageFromArray(labels)
    place(image, volume.grid)
    return image


def structure_masks(
    volume: SeriesVolume,
    segmentation: Path,
    kind: str,
    patterns: Mapping[str, Sequence[str]],
    several_rois: SeveralRois = "error",
) -> dict[str, NDArray[np.bool_]]:
    """The mask of each structure, before any voxel has to choose: (slices, rows, columns)."""
    grid = volume.grid
    names, drawn = _drawn(volume, segmentation, kind)
    masks: dict[str, NDArray[np.bool_]] = {}
    for structure, positions in match_rois(names, patterns, several_rois).items():
        mask = np.zeros(grid.shape, dtype=bool)
        for position in positions:
            mask |= drawn(position)
        if not mask.any():
            raise CaseRejected(Reason.EMPTY_MASK, f"{structure!r} covers no voxel")
        masks[structure] = mask
    return masks


def _drawn(
    volume: SeriesVolume, segmentation: Path, kind: str
) -> tuple[list[str], Callable[[int], NDArray[np.bool_]]]:
    """The names of what was drawn, and a function that gives the mask at a position."""
    grid = volume.grid
    if kind == "SEG":
        read = seg.SegObject(segmentation)
        _same_frame(read.frame_of_reference_uid, volume, "the SEG")
        names = [segment.name for segment in read.segments]
        return names, lambda position: read.mask(read.segments[position], grid)
    # A ROI that was named but never drawn is no candidate: "nobody drew it" is the message.
    rois = [roi for roi in rtstruct.read_rois(segmentation) if roi.contours]

    def mask(position: int) -> NDArray[np.bool_]:
        roi = rois[position]
        _same_frame(roi.frame_of_reference_uid, volume, f"ROI {roi.name!r}")
        return rtstruct.rasterise(roi, grid)

    return [roi.name for roi in rois], mask


def _same_frame(frame_of_reference_uid: str, volume: SeriesVolume, what: str) -> None:
    """Coordinates of one frame mean nothing in another, however well they seem to fit."""
    named = frame_of_reference_uid and volume.frame_of_reference_uid
    if named and frame_of_reference_uid != volume.frame_of_reference_uid:
        raise CaseRejected(Reason.OTHER_FRAME, f"{what} lies in {frame_of_reference_uid}")
