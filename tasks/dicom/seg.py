"""Read DICOM SEG (PS3.3 A.51, C.8.20.2) through highdicom."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from tasks.dicom.bits import close_gaps
from tasks.dicom.damage import damage_rejects
from tasks.dicom.geometry import EVEN_SLICES, GANTRY_TILT_VOXELS, Grid
from tasks.dicom.headers import read_dataset
from tasks.dicom.reasons import Reason
from tasks.errors import CaseRejected

if TYPE_CHECKING:
    from highdicom import Volume

SAME_GRID_VOXELS = 0.1
"""How far a SEG's voxel centres may lie from the image's over the whole volume, in voxels: spacings and
cosines are rounded, and hundreds of voxels add that up. Far below half a voxel, nothing changes place.
Along the slices, each of which may lie :data:`EVEN_SLICES` off its place, that much more."""
SAME_PLANE_MM = 0.05
"""Positions of one plane may differ so much by rounding."""
LEAST_TILT = 1e-3
"""What highdicom allows by itself."""
WIDE_BITS = 16
"""Of a label map with more than 255 segments (PS3.3 C.8.20.2); of no other kind."""
NO_STEP = 0.75
"""What is said of a step is none below this share of the image's."""


@dataclass(frozen=True)
class Segment:
    """A segment of a SEG: its number and label."""

    number: int
    name: str


class SegObject:
    """A SEG that was read: its segments, and their masks on an image's grid.

    Parameters
    ----------
    step_mm
        From slice to slice of the image: that of a SEG which says none.

    Raises
    ------
    CaseRejected
        ``UNREADABLE_SEGMENTATION`` where the file is damaged or highdicom cannot take it.
    """

    def __init__(self, path: Path, step_mm: float | None = None) -> None:
        from highdicom.seg import Segmentation  # late: a fifth of a second, which contours do not need

        with damage_rejects(Reason.UNREADABLE_SEGMENTATION, "the SEG cannot be read"):
            dataset = read_dataset(path, pixels=True)
            _index_frames(dataset)
            close_gaps(dataset)
            if step_mm is not None:
                _say_steps(dataset, step_mm)
            self._seg = Segmentation.from_dataset(dataset, copy=False)
            self._whole: Volume | None = None
            self.frame_of_reference_uid = str(self._seg.get("FrameOfReferenceUID") or "")
            self.segments = [
                Segment(n, str(self._seg.get_segment_description(n).segment_label).strip())
                for n in self._seg.segment_numbers
            ]

    def mask(self, segment: Segment, grid: Grid) -> NDArray[np.bool_]:
        """The mask of a segment on a grid, shape (slices, rows, columns).

        Flipped, permuted and cropped SEGs are brought onto the grid; nothing is resampled.

        Raises
        ------
        CaseRejected
            ``OTHER_GRID`` where the voxels are not the image's or some lie outside it, ``NOT_BINARY``
            for probabilities, ``UNREADABLE_SEGMENTATION`` for damaged frames.
        """
        unread = f"segment {segment.name!r} cannot be read"
        with damage_rejects(Reason.UNREADABLE_SEGMENTATION, unread):
            values, affine = self._values(segment, grid)
        for plane in values:  # one after the other, to save memory
            between = plane[(plane != 0) & (plane != 1)]
            if between.size:
                raise CaseRejected(
                    Reason.NOT_BINARY,
                    f"segment {segment.name!r} has values between 0 and 1, such as {float(between[0]):.3f}",
                )
        return _onto(values.astype(bool), affine, grid, segment.name)

    def _values(self, segment: Segment, grid: Grid) -> tuple[NDArray[np.number], NDArray[np.float64]]:
        """What is said of a segment, (slices, rows, columns), from 0 to 1, and where that lies."""
        if self._seg.BitsAllocated == WIDE_BITS:
            # highdicom reads single segments of it into 8 bits: the 257th would be the first as well.
            self._whole = self._whole or self._volume(grid, None, combine_segments=True)
            return np.asarray(self._whole.array) == segment.number, np.asarray(self._whole.affine)
        volume = self._volume(grid, [segment.number], combine_segments=False)
        return np.asarray(volume.array)[..., 0], np.asarray(volume.affine)

    def _volume(self, grid: Grid, numbers: list[int] | None, *, combine_segments: bool) -> Volume:
        return self._seg.get_volume(
            segment_numbers=numbers,
            combine_segments=combine_segments,
            # Else it is as wide as the last segment that is described, and what is beyond wraps into it.
            dtype=np.uint16 if combine_segments else None,
            allow_missing_positions=True,
            rescale_fractional=True,
            rtol=EVEN_SLICES,
            perpendicular_tol=_tilt_of_jitter(grid),
        )


def _tilt_of_jitter(grid: Grid) -> float:
    """By how much the cosine of the stack's direction may fall short of 1 where slices lie a bit sideways.

    From one slice to the next an image may go sideways as far as :data:`GANTRY_TILT_VOXELS` each way.
    """
    sideways_mm = 2 * GANTRY_TILT_VOXELS * min(grid.spacing_mm[:2])
    return max(LEAST_TILT, 1 - grid.spacing_mm[2] / float(np.hypot(grid.spacing_mm[2], sideways_mm)))


def _index_frames(dataset: Dataset) -> None:
    """Give frames their place among the dimensions (PS3.3 C.7.6.17) where a writer left it out.

    OHIF saves label maps without FrameContentSequence, others index by position alone, and
    highdicom cannot do without. The index says nothing that a frame's position and segment do not: these
    stay as they are.
    """
    groups = dataset.PerFrameFunctionalGroupsSequence
    by_segment = dataset.SegmentationType != "LABELMAP"
    segment_number = tag_for_keyword("ReferencedSegmentNumber")
    dimensions = [item.get("DimensionIndexPointer") for item in dataset.get("DimensionIndexSequence") or []]
    told = not by_segment or segment_number in dimensions
    if told and all("FrameContentSequence" in group for group in groups):
        return
    pointers = [("ImagePositionPatient", "PlanePositionSequence")]
    if by_segment:
        pointers.insert(0, ("ReferencedSegmentNumber", "SegmentIdentificationSequence"))
    dataset.DimensionIndexSequence = DicomSequence(_dimension(*pointer) for pointer in pointers)
    positions = [tuple(group.PlanePositionSequence[0].ImagePositionPatient) for group in groups]
    rank = {position: n for n, position in enumerate(sorted(set(positions)), start=1)}
    for group, position in zip(groups, positions, strict=True):
        content = Dataset()
        number = [group.SegmentIdentificationSequence[0].ReferencedSegmentNumber] if by_segment else []
        content.DimensionIndexValues = [*number, rank[position]]
        group.FrameContentSequence = DicomSequence([content])


def _say_steps(dataset: Dataset, step_mm: float) -> None:
    """Say the image's step (SpacingBetweenSlices) where what a writer says, or leaves out, is not so.

    highdicom takes 1 mm where a segment has one plane, and believes a gap of 0 or 0.5 mm that was copied of
    an MR, or the thickness of slices that overlap. Where planes are closer than the image's they are of
    another grid, which is told by what they say; where two are a step of the image apart, they are of its.
    """
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    groups = list(dataset.PerFrameFunctionalGroupsSequence)
    planes = [g.PlanePositionSequence[0].ImagePositionPatient for g in groups if "PlanePositionSequence" in g]
    turned = next((g for g in (shared, *groups) if g.get("PlaneOrientationSequence")), None)
    if turned is None or not planes:
        return
    directions = np.array(turned.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float)
    places_mm = np.array(planes, dtype=float) @ np.cross(directions[:3], directions[3:])
    steps_mm = np.diff(np.unique(np.round(places_mm, 2)))
    steps_mm = steps_mm[steps_mm > SAME_PLANE_MM]
    if np.any(steps_mm < NO_STEP * step_mm):
        return
    neighbours = np.any(np.abs(steps_mm - step_mm) <= EVEN_SLICES * step_mm)
    for group in (shared, *groups):
        for item in group.get("PixelMeasuresSequence") or []:
            if neighbours or abs(float(item.get("SpacingBetweenSlices") or 0)) < NO_STEP * step_mm:
                item.SpacingBetweenSlices = step_mm


def _dimension(keyword: str, group: str) -> Dataset:
    item = Dataset()
    item.DimensionIndexPointer = tag_for_keyword(keyword)
    item.FunctionalGroupPointer = tag_for_keyword(group)
    return item


def _onto(values: NDArray[np.bool_], affine: NDArray[np.float64], grid: Grid, name: str) -> NDArray[np.bool_]:
    """Put voxels where they belong; highdicom's affine maps (slice, row, column) to the patient."""
    if not values.any():
        return np.zeros(grid.shape, dtype=bool)
    corners = np.array([[0, 0, 0], *np.eye(3, dtype=int)])
    at = grid.to_index(corners @ affine[:3, :3].T + affine[:3, 3])[:, ::-1]
    steps = np.rint(at[1:] - at[0]).astype(int)
    extent = np.array(values.shape)
    if abs(round(float(np.linalg.det(steps)))) != 1 or np.abs(steps).sum() != 3:
        sizes = np.round(np.linalg.norm(affine[:3, :3], axis=0), 3).tolist()
        raise CaseRejected(
            Reason.OTHER_GRID,
            f"segment {name!r} has other voxels than the image: {sizes} mm (slice, row, column), the image "
            f"{np.round(grid.spacing_mm[::-1], 3).tolist()}",
        )
    # A step that is off by little puts the far end of the volume off by much.
    drift = np.abs((at[1:] - at[0] - steps) * (extent - 1)[:, None]).sum(axis=0)
    start = np.rint(at[0]).astype(int)
    if np.any(drift + np.abs(at[0] - start) > SAME_GRID_VOXELS + np.array([EVEN_SLICES, 0, 0])):
        off = np.round(np.abs(at[0] - start) + drift, 3).tolist()
        raise CaseRejected(
            Reason.OTHER_GRID, f"segment {name!r} lies {off} voxels between the image's (slice, row, column)"
        )
    return _moved(values, steps, start, grid, name)


def _moved(
    values: NDArray[np.bool_], steps: NDArray[np.int_], start: NDArray[np.int_], grid: Grid, name: str
) -> NDArray[np.bool_]:
    """Turn, flip and crop an array onto a grid; ``steps`` are the grid's steps along its axes."""
    axes = np.abs(steps).argmax(axis=0)  # of the grid's axes → the array's
    signs = steps.sum(axis=0)
    turned = np.flip(values.transpose(axes), tuple(np.flatnonzero(signs < 0)))
    first = np.where(signs < 0, start - np.array(turned.shape) + 1, start)
    inside = [
        slice(max(0, -f), max(0, min(n, size - f)))
        for f, n, size in zip(first, turned.shape, grid.shape, strict=True)
    ]
    kept = turned[tuple(inside)]
    lost = np.count_nonzero(values) - np.count_nonzero(kept)
    if lost:
        raise CaseRejected(Reason.OTHER_GRID, f"segment {name!r} has {lost} voxels outside the image")
    mask = np.zeros(grid.shape, dtype=bool)
    to = tuple(slice(max(0, f), max(0, f) + n) for f, n in zip(first, kept.shape, strict=True))
    mask[to] = kept
    return mask
