"""Read RTSTRUCT (PS3.3 A.19, C.8.8.5 and C.8.8.6) into masks, to the voxel.

Contours belong to a ROI by ReferencedROINumber, never by their place in the sequence. Vertices stay
sub-voxel. Contours of one ROI on one slice are combined by exclusive or, so that a contour inside
another is a hole; a voxel is inside if its centre is, the edge included
(:mod:`tasks.dicom.fill`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from skimage.measure import points_in_poly

from tasks.dicom.damage import damage_rejects
from tasks.dicom.fill import area_of, filled
from tasks.dicom.geometry import Grid
from tasks.dicom.headers import read_dataset
from tasks.dicom.reasons import Reason
from tasks.dicom.references import frame_of_structure_set
from tasks.errors import CaseRejected

CLOSED_TYPES = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
OFF_SLICE = 0.25
"""Largest distance of a vertex from its slice, in slice spacings: what a slice's own position may be
off (:data:`tasks.dicom.geometry.EVEN_SLICES`) and its rounding. Further off it belongs to no slice."""
OUTSIDE_VOXELS = 1.0
"""How far a vertex may lie beyond the centres of the outermost voxels: half a voxel to their edge,
and half for drawing tools that close a contour just outside the image."""


TOUCHING_VOXELS = 0.01
"""A vertex of a hole may lie so far outside its contour, in pixels: rounding of DS values."""
THICK_VOXELS = 1.0
"""A contour that is thicker than a pixel on average has a pixel's centre inside."""
LEAST_AREA_VOXELS = 1e-3
"""A contour around less is a point or a line: the outline of one voxel encloses 0.1 pixels."""


@dataclass(frozen=True)
class Roi:
    """A region of interest: contours (n, 3) in patient coordinates, mm."""

    name: str
    contours: tuple[NDArray[np.float64], ...]
    types: tuple[str, ...]
    frame_of_reference_uid: str = ""
    images: tuple[frozenset[str], ...] = ()
    """Of each contour the SOPInstanceUIDs of the slices that it says it was drawn on."""
    damage: str = ""
    """What is wrong with its contours, of which it has none then; it costs who asks for this ROI."""

    @property
    def drawn(self) -> bool:
        """Whether somebody drew it, readable or not."""
        return bool(self.contours or self.damage)


def read_rois(path: Path) -> list[Roi]:
    """All ROIs of an RTSTRUCT, those without a contour included, and those whose contours are damaged.

    Planning systems leave contours without a point in what nobody asks for, such as a couch.

    Raises
    ------
    CaseRejected
        ``UNREADABLE_SEGMENTATION`` where the object contradicts itself or is damaged as a whole.
    """
    with damage_rejects(Reason.UNREADABLE_SEGMENTATION, "the RTSTRUCT cannot be read"):
        dataset = read_dataset(path)
        items = {int(item.ROINumber): item for item in dataset.get("StructureSetROISequence") or []}
        if len(items) != len(dataset.get("StructureSetROISequence") or []):
            raise CaseRejected(Reason.UNREADABLE_SEGMENTATION, "two ROIs have one ROI number")
        contours = _contours_by_number(dataset)
        frame = frame_of_structure_set(dataset)
    strangers = sorted(set(contours) - set(items))
    if strangers:
        raise CaseRejected(Reason.UNREADABLE_SEGMENTATION, f"contours of unknown ROIs {strangers}")
    return [_roi(item, contours.get(number, []), frame) for number, item in items.items()]


_Contour = tuple[NDArray[np.float64], str, frozenset[str]]


def _roi(item: Dataset, contours: list[_Contour] | CaseRejected, frame: str) -> Roi:
    damage, readable = (contours.detail, []) if isinstance(contours, CaseRejected) else ("", contours)
    return Roi(
        str(item.get("ROIName") or "").strip(),
        tuple(points for points, _, _ in readable),
        tuple(geometric_type for _, geometric_type, _ in readable),
        str(item.get("ReferencedFrameOfReferenceUID") or frame),
        tuple(images for _, _, images in readable),
        damage,
    )


def _contours_by_number(dataset: Dataset) -> dict[int, list[_Contour] | CaseRejected]:
    found: dict[int, list[_Contour] | CaseRejected] = {}
    for item in dataset.get("ROIContourSequence") or []:
        number = int(item.ReferencedROINumber)
        if number in found:
            raise CaseRejected(Reason.UNREADABLE_SEGMENTATION, f"ROI {number} has its contours in two places")
        try:
            with damage_rejects(Reason.UNREADABLE_SEGMENTATION, f"ROI {number} cannot be read"):
                found[number] = [_contour(c, number) for c in item.get("ContourSequence") or []]
        except CaseRejected as error:
            found[number] = error
    return found


def _contour(contour: Dataset, number: int) -> _Contour:
    values = _coordinates(contour)
    if values.size == 0 or values.size % 3 or not np.all(np.isfinite(values)):
        raise CaseRejected(
            Reason.UNREADABLE_SEGMENTATION,
            f"a contour of ROI {number} has {values.size} coordinates, no triples of numbers",
        )
    points = values.size // 3
    if int(contour.get("NumberOfContourPoints") or points) != points:
        raise CaseRejected(
            Reason.UNREADABLE_SEGMENTATION,
            f"a contour of ROI {number} says {contour.NumberOfContourPoints} points and has {points}",
        )
    images = frozenset(
        str(image.get("ReferencedSOPInstanceUID") or "")
        for image in contour.get("ContourImageSequence") or []
    )
    return values.reshape(-1, 3), str(contour.get("ContourGeometricType") or ""), images


def _coordinates(contour: Dataset) -> NDArray[np.float64]:
    """ContourData as numbers. pydicom makes an object of each, which takes longer than to draw them."""
    element: object = contour.get_item("ContourData")
    if isinstance(element, RawDataElement) and isinstance(element.value, bytes):
        text = element.value.decode("ascii").rstrip("\0 ")
        return np.array(text.split("\\"), dtype=np.float64)
    return np.array(contour.ContourData, dtype=np.float64)


def rasterise(
    roi: Roi, grid: Grid, instances: Sequence[str] = (), numbers: Sequence[int] = ()
) -> NDArray[np.bool_]:
    """The mask of a ROI on a grid.

    Parameters
    ----------
    instances
        SOPInstanceUID of each slice, to hold what a contour says of its slice against where it lies.
    numbers
        What viewers call each slice, for messages; without them its place from 1.

    Returns
    -------
    Boolean array (slices, rows, columns).

    Raises
    ------
    CaseRejected
        ``CONTOUR_TYPE``, ``CONTOUR_OFF_SLICE``, ``CONTOUR_OUTSIDE``, ``CONTOUR_DEGENERATE`` or
        ``CONTOURS_OVERLAP``, with the ROI's name; ``UNREADABLE_SEGMENTATION`` of one that is damaged.
    """
    if roi.damage:
        raise CaseRejected(Reason.UNREADABLE_SEGMENTATION, roi.damage)
    mask = np.zeros(grid.shape, dtype=bool)
    called = numbers or range(1, grid.shape[0] + 1)
    drawn: dict[int, list[_Drawn]] = {}
    named = roi.images or (frozenset(),) * len(roi.contours)
    for points_mm, geometric_type, images in zip(roi.contours, roi.types, named, strict=True):
        if geometric_type not in CLOSED_TYPES:
            raise CaseRejected(Reason.CONTOUR_TYPE, f"ROI {roi.name!r} has {geometric_type} contours")
        index = grid.to_index(points_mm)
        k = _slice_of(roi, index, grid, called)
        _on_the_slice_it_names(roi, k, images, instances, called)
        if area_of(index[:, :2]) < LEAST_AREA_VOXELS:
            raise CaseRejected(
                Reason.CONTOUR_DEGENERATE,
                f"ROI {roi.name!r} has a contour of {len(index)} points without area, slice {called[k]}",
            )
        inside = filled(index[:, 1], index[:, 0], grid.shape[1:])
        if not inside.any() and _thickness(index) > THICK_VOXELS:
            raise CaseRejected(
                Reason.CONTOUR_DEGENERATE,
                f"ROI {roi.name!r} has a contour that runs around its area several times, slice {called[k]}",
            )
        if geometric_type == "CLOSED_PLANAR":
            _nested_or_apart(roi, _Drawn(index[:, :2], inside), drawn.setdefault(k, []), called[k])
        mask[k] ^= inside
    return mask


def _thickness(index: NDArray[np.float64]) -> float:
    """How thick a contour's area is, in pixels: a strip's area over its length."""
    steps = np.linalg.norm(np.roll(index[:, :2], -1, axis=0) - index[:, :2], axis=1)
    return area_of(index[:, :2]) / max(float(steps.sum()) / 2, LEAST_AREA_VOXELS)


@dataclass(frozen=True)
class _Drawn:
    """A contour on a slice: its vertices (column, row), and the voxels inside."""

    vertices: NDArray[np.float64]
    inside: NDArray[np.bool_]

    def lies_in(self, other: _Drawn) -> bool:
        """Whether it is a hole of another: no voxel and no vertex of it lies outside."""
        if np.any(self.inside & ~other.inside) or np.array_equal(self.inside, other.inside):
            return False
        outside = self.vertices[~points_in_poly(self.vertices, other.vertices)]
        return not outside.size or _distance(outside, other.vertices) <= TOUCHING_VOXELS


def _distance(points: NDArray[np.float64], ring: NDArray[np.float64]) -> float:
    """The largest distance of points from the edges of a closed ring."""
    start, edge = ring, np.roll(ring, -1, axis=0) - ring
    length = np.maximum((edge**2).sum(axis=1), np.finfo(float).tiny)
    offset = points[:, None, :] - start
    share = np.clip((offset * edge).sum(axis=2) / length, 0, 1)
    return float(np.linalg.norm(offset - share[..., None] * edge, axis=2).min(axis=1).max())


def _nested_or_apart(roi: Roi, contour: _Drawn, others: list[_Drawn], number: int) -> None:
    """Exclusive or is right for a hole; of contours that cross or repeat it would delete what was drawn."""
    for other in others:
        if np.any(contour.inside & other.inside) and not (contour.lies_in(other) or other.lies_in(contour)):
            raise CaseRejected(
                Reason.CONTOURS_OVERLAP, f"ROI {roi.name!r} has contours that overlap, slice {number}"
            )
    others.append(contour)


def _on_the_slice_it_names(
    roi: Roi, k: int, images: frozenset[str], instances: Sequence[str], called: Sequence[int]
) -> None:
    """Coordinates that lie on another slice than the one that is named: one of both is wrong."""
    named = [n for n, uid in enumerate(instances) if uid in images]
    if named and k not in named:
        raise CaseRejected(
            Reason.CONTOUR_OFF_SLICE,
            f"ROI {roi.name!r} has a contour on slice {called[k]} that says it was drawn on slice "
            f"{called[named[0]]} ({instances[named[0]]})",
        )


def _slice_of(roi: Roi, index: NDArray[np.float64], grid: Grid, called: Sequence[int]) -> int:
    """The place of the slice on which a contour lies, from 0."""
    k = int(np.rint(index[0, 2]))
    distance = float(np.abs(index[:, 2] - k).max())
    if distance > OFF_SLICE:
        raise CaseRejected(
            Reason.CONTOUR_OFF_SLICE,
            f"ROI {roi.name!r} has a contour {distance:.2f} slice spacings from {_where(k, called)}",
        )
    slices, rows, columns = grid.shape
    low = index[:, :2].min(axis=0)
    beyond = index[:, :2].max(axis=0) - np.array([columns - 1, rows - 1])
    if not 0 <= k < slices or low.min() < -OUTSIDE_VOXELS or beyond.max() > OUTSIDE_VOXELS:
        far = max(-float(low.min()), float(beyond.max()), 0.0)
        raise CaseRejected(
            Reason.CONTOUR_OUTSIDE,
            f"ROI {roi.name!r} has a contour outside the image: on {_where(k, called)}, {far:.1f} pixels "
            "beyond its outermost centres",
        )
    return k


def _where(k: int, called: Sequence[int]) -> str:
    """The slice at a place, which may be beyond the image."""
    if 0 <= k < len(called):
        return f"slice {called[k]}"
    beyond, end = (-k, called[0]) if k < 0 else (k - len(called) + 1, called[-1])
    return f"no slice, {beyond} beyond slice {end} at its end"
