"""From a case's DICOM to an image and a label map on the same grid, exact to the voxel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from tasks.dicom import rtstruct, seg
from tasks.dicom.image import SeriesVolume, place
from tasks.dicom.reasons import Reason
from tasks.dicom.rois import match_rois
from tasks.errors import CaseRejected
from tasks.labels import Labels, MaskStrategy, MissingStructure, SeveralRois, count_voxels, matching

CONVERTER_VERSION = 3
"""Raised whenever the same input would give other voxels: stored conversions are made anew."""
LEAST_GAPS = 2
"""From so many on, and half of all steps, a structure was drawn on some slices only."""


@dataclass(frozen=True)
class LabelRules:
    """What a user chose of how ROIs become labels.

    Attributes
    ----------
    patterns
        Structure → patterns; the order gives the labels.
    strategy
        ``label_image``: two structures on one voxel are an error. ``priority``: the structure that
        stands later in the ROI file gets the voxel. ``regions``: every overlap is kept.
    several_rois
        Whether several ROIs of one structure are an error or are merged.
    missing
        What it means that a structure was not drawn. ``error``: the case is rejected. ``absent``: it
        is not there. ``unlabelled``: it may be anywhere that belongs to no other structure, so what
        would be background there gets the ignore label.
    not_annotated
        Patterns of what covers the part of an image at which nobody has looked: it gets the ignore
        label, whatever else lies there, and a structure that was not drawn in the rest is not there.
    """

    patterns: Mapping[str, Sequence[str]]
    strategy: MaskStrategy = "label_image"
    several_rois: SeveralRois = "error"
    missing: Mapping[str, MissingStructure] = field(default_factory=dict)
    not_annotated: Sequence[str] = ()


def label_map(volume: SeriesVolume, segmentation: Path, kind: str, rules: LabelRules) -> sitk.Image:
    """The label map of a segmentation on its image's grid.

    Parameters
    ----------
    volume
        The image.
    segmentation, kind
        A file, and whether it is ``RTSTRUCT`` or ``SEG``.
    rules
        Which ROI is which structure, and what to do about overlaps and gaps.

    Returns
    -------
    SimpleITK image with the integers of :class:`tasks.labels.Labels`, uint8 or, above 255, uint16.

    Raises
    ------
    CaseRejected
        With the code of what is wrong.
    """
    encoding = Labels(list(rules.patterns), rules.strategy)
    labels = np.zeros(volume.grid.shape, dtype=np.uint8 if encoding.ignore < 256 else np.uint16)
    drawn: list[str] = []
    hidden = unseen(volume, segmentation, kind, rules)
    for structure, mask in structure_masks(volume, segmentation, kind, rules):
        _paint(labels, structure, mask, encoding, rules.strategy)
        drawn.append(structure)
    kept = count_voxels(labels)
    for structure in drawn:
        if kept.keys().isdisjoint(encoding.values[structure]):
            raise CaseRejected(Reason.EMPTY_MASK, f"{structure!r} covers no voxel of its own")
    unknown = [s for s in rules.patterns if s not in drawn and rules.missing.get(s) == "unlabelled"]
    if unknown and not drawn:
        raise CaseRejected(Reason.MISSING_ROI, f"none of {', '.join(map(repr, unknown))} was drawn")
    if unknown:
        labels[labels == 0] = encoding.ignore
    if hidden is not None:
        if hidden.all():
            raise CaseRejected(Reason.EMPTY_MASK, "the whole image is marked as not annotated")
        labels[hidden] = encoding.ignore
    image = sitk.GetImageFromArray(labels)
    place(image, volume.grid)
    return image


def _paint(
    labels: NDArray[np.integer],
    structure: str,
    mask: NDArray[np.bool_],
    encoding: Labels,
    strategy: MaskStrategy,
) -> None:
    """Write a structure into the label map, in place."""
    position = encoding.structures.index(structure)
    if strategy == "regions":
        labels[mask] |= 1 << position
        return
    if strategy == "label_image":
        taken = labels[mask]
        shared = np.count_nonzero(taken)
        if shared:
            other = encoding.structures[int(taken[taken > 0][0]) - 1]
            raise CaseRejected(Reason.OVERLAP, f"{structure!r} and {other!r} share {shared} voxels")
    labels[mask] = position + 1


def structure_masks(
    volume: SeriesVolume, segmentation: Path, kind: str, rules: LabelRules
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Each structure that was drawn with its mask, (slices, rows, columns), one at a time.

    A voxel may lie in several. Raises :class:`CaseRejected` as :func:`label_map`.
    """
    names, drawn = _drawn(volume, segmentation, kind)
    missing = dict(rules.missing)
    hidden = unseen(volume, segmentation, kind, rules)
    if hidden is not None:
        may_be_elsewhere = [s for s in rules.patterns if missing.get(s, "error") == "error"]
        missing |= dict.fromkeys(may_be_elsewhere, "absent")
    for structure, positions in match_rois(names, rules.patterns, rules.several_rois, missing).items():
        if not positions:
            continue
        mask = np.zeros(volume.grid.shape, dtype=bool)
        for position in positions:
            mask |= drawn(position)
        if mask.any():
            _on_every_slice(structure, mask, hidden, volume.numbers)
            yield structure, mask
        elif missing.get(structure, "error") == "error":
            raise CaseRejected(Reason.EMPTY_MASK, f"{structure!r} covers no voxel")
        # Viewers keep an empty segment for what nobody drew.


def _on_every_slice(
    structure: str, mask: NDArray[np.bool_], hidden: NDArray[np.bool_] | None, numbers: Sequence[int]
) -> None:
    """Planning systems contour every second slice and interpolate doses: the others would be background.

    A gap is one where the same pixels are drawn before and after it, and said to be seen between. One by
    itself is left alone: where gaps are few something hollow may have been drawn.
    """

    def is_gap(k: int, n: int) -> bool:
        both = mask[k] & mask[n]
        return bool(np.any(both if hidden is None else both & ~hidden[k + 1 : n].all(axis=0)))

    drawn = np.flatnonzero(mask.any(axis=(1, 2))).tolist()
    steps = list(pairwise(drawn))
    gaps = [(k, n) for k, n in steps if n - k > 1 and is_gap(k, n)]
    if len(gaps) < LEAST_GAPS or 2 * len(gaps) < len(steps):
        return
    called = numbers or range(1, mask.shape[0] + 1)
    k, n = gaps[0]
    raise CaseRejected(
        Reason.SLICES_SKIPPED,
        f"{structure!r} is drawn on {len(drawn)} slices with {len(gaps)} gaps, such as between the slices "
        f"{called[k]} and {called[n]}",
    )


def unseen(
    volume: SeriesVolume, segmentation: Path, kind: str, rules: LabelRules
) -> NDArray[np.bool_] | None:
    """The part of the image at which nobody has looked, (slices, rows, columns); None: there is none."""
    if not rules.not_annotated:
        return None
    names, drawn = _drawn(volume, segmentation, kind)
    chosen = set(matching(names, rules.not_annotated))
    if not chosen:
        return None
    hidden = np.zeros(volume.grid.shape, dtype=bool)
    for position, name in enumerate(names):
        if name in chosen:
            hidden |= drawn(position)
    return hidden if hidden.any() else None


def _drawn(
    volume: SeriesVolume, segmentation: Path, kind: str
) -> tuple[list[str], Callable[[int], NDArray[np.bool_]]]:
    """The names of what was drawn, and a function that gives the mask at a position."""
    grid = volume.grid
    if kind == "SEG":
        read = seg.SegObject(segmentation, grid.spacing_mm[2])
        _same_frame(read.frame_of_reference_uid, volume, "the SEG")
        names = [segment.name for segment in read.segments]
        return names, lambda position: read.mask(read.segments[position], grid)
    # A ROI that was named but never drawn is no candidate: "nobody drew it" is the message.
    rois = [roi for roi in rtstruct.read_rois(segmentation) if roi.drawn]

    def mask(position: int) -> NDArray[np.bool_]:
        roi = rois[position]
        _same_frame(roi.frame_of_reference_uid, volume, f"ROI {roi.name!r}")
        return rtstruct.rasterise(roi, grid, volume.instances, volume.numbers)

    return [roi.name for roi in rois], mask


def _same_frame(frame_of_reference_uid: str, volume: SeriesVolume, what: str) -> None:
    """Coordinates of one frame mean nothing in another, however well they seem to fit."""
    named = frame_of_reference_uid and volume.frame_of_reference_uid
    if named and frame_of_reference_uid != volume.frame_of_reference_uid:
        raise CaseRejected(Reason.OTHER_FRAME, f"{what} lies in {frame_of_reference_uid}")
