"""Read RTSTRUCT (PS3.3 A.19, C.8.8.5 and C.8.8.6) into masks, to the voxel.

Contours belong to a ROI by ReferencedROINumber, never by their place in the sequence. Vertices stay
sub-voxel. Contours of one ROI on one slice are combined by exclusive or, so that a contour inside
another is a hole; a voxel is inside if its centre is, the edge included
(:func:`skimage.draw.polygon`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from skimage.draw import polygon

from tasks.dicom.geometry import Grid
from tasks.dicom.reasons import Reason
from tasks.errors import CaseRejected

CLOSED_TYPES = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
OFF_SLICE = 0.25
"""Largest distance of a vertex from its slice, in slice spacings: what a slice's own position may be
off (:data:`tasks.dicom.geometry.EVEN_SLICES`) and its rounding. Further off it belongs to no slice."""
OUTSIDE_VOXELS = 1.0
"""How far a vertex may lie beyond the centres of the outermost voxels: half a voxel to their edge,
and half for drawing tools that close a contour just outside the image."""


LEAST_AREA_VOXELS = 1e-3
"""A contour around less is a point or a line: the outline of one voxel encloses 0.1 pixels."""


@dataclass(frozen=True)
class Roi:
    """A region of interest: contours (n, 3) in patient coordinates, mm."""

    number: int
    name: str
    contours: tuple[NDArray[np.float64], ...]
    types: tuple[str, ...]
    frame_of_reference_uid: str = ""


def read_rois(path: Path) -> list[Roi]:
    """All ROIs of an RTSTRUCT, those without a contour included.

    Raises
    ------
    CaseRejected
        ``UNREADABLE_SEGMENTATION`` where the object contradicts itself or is damaged.
    """
    try:
        dataset = pydicom.dcmread(path, force=True)
        items = {int(item.ROINumber): item for item in dataset.get("StructureSetROISequence") or []}
        if len(items) != len(dataset.get("StructureSetROISequence") or []):
            raise CaseRejected(Reason.UNREADABLE_SEGMENTATION, "two ROIs have one ROI number")
        contours = _contours_by_number(dataset)
    except CaseRejected:
        raise
    except Exception as error:  # pydicom raises many kinds on damaged input
        raise CaseRejected(
            Reason.UNREADABLE_SEGMENTATION, f"the RTSTRUCT cannot be read ({type(error).__name__})"
        ) from None
    strangers = sorted(set(contours) - set(items))
    if strangers:
        raise CaseRejected(Reason.UNREADABLE_SEGMENTATION, f"contours of unknown ROIs {strangers}")
    return [_roi(number, item, contours.get(number, [])) for number, item in items.items()]


def _roi(number: int, item: Dataset, contours: list[tuple[NDArray[np.float64], str]]) -> Roi:
    return Roi(
        number,
        str(item.get("ROIName") or "").strip(),
        tuple(points for points, _ in contours),
        tuple(geometric_type for _, geometric_type in contours),
        str(item.get("ReferencedFrameOfReferenceUID") or ""),
    )


def _contours_by_number(dataset: Dataset) -> dict[int, list[tuple[NDArray[np.float64], str]]]:
    found: dict[int, list[tuple[NDArray[np.float64], str]]] = {}
    for item in dataset.get("ROIContourSequence") or []:
        number = int(item.ReferencedROINumber)
        if number in found:
            raise CaseRejected(Reason.UNREADABLE_SEGMENTATION, f"ROI {number} has its contours in two places")
        contours = found.setdefault(number, [])
        for contour in item.get("ContourSequence") or []:
            values = _coordinates(contour)
            if values.size == 0 or values.size % 3 or not np.all(np.isfinite(values)):
                raise CaseRejected(
                    Reason.UNREADABLE_SEGMENTATION, "a contour's points are no triples of numbers"
                )
            if int(contour.get("NumberOfContourPoints") or values.size // 3) != values.size // 3:
                raise CaseRejected(
                    Reason.UNREADABLE_SEGMENTATION,
                    f"a contour of ROI {number} says {contour.NumberOfContourPoints} points "
                    f"and has {values.size // 3}",
                )
            contours.append((values.reshape(-1, 3), str(contour.get("ContourGeometricType") or "")))
    return found


def _coordinates(contour: Dataset) -> NDArray[np.float64]:
    """ContourData as numbers. pydicom makes an object of each, which takes longer than to draw them."""
    element: object = contour.get_item("ContourData")
    if isinstance(element, RawDataElement) and isinstance(element.value, bytes):
        text = element.value.decode("ascii").rstrip("\0 ")
        return np.array(text.split("\\"), dtype=np.float64)
    return np.array(contour.ContourData, dtype=np.float64)


def rasterise(roi: Roi, grid: Grid) -> NDArray[np.bool_]:
    """The mask of a ROI on a grid.

    Returns
    -------
    Boolean array (slices, rows, columns).

    Raises
    ------
    CaseRejected
        ``CONTOUR_TYPE``, ``CONTOUR_OFF_SLICE``, ``CONTOUR_OUTSIDE``, ``CONTOUR_DEGENERATE`` or
        ``CONTOURS_OVERLAP``, with the ROI's name.
    """
    mask = np.zeros(grid.shape, dtype=bool)
    drawn: dict[int, list[NDArray[np.bool_]]] = {}
    for points_mm, geometric_type in zip(roi.contours, roi.types, strict=True):
        if geometric_type not in CLOSED_TYPES:
            raise CaseRejected(Reason.CONTOUR_TYPE, f"ROI {roi.name!r} has {geometric_type} contours")
        index = grid.to_index(points_mm)
        k = _slice_of(roi, index, grid)
        if _area(index) < LEAST_AREA_VOXELS:
            raise CaseRejected(
                Reason.CONTOUR_DEGENERATE,
                f"ROI {roi.name!r} has a contour of {len(index)} points without area, slice {k + 1}",
            )
        inside = np.zeros(grid.shape[1:], dtype=bool)
        inside[polygon(index[:, 1], index[:, 0], inside.shape)] = True
        if geometric_type == "CLOSED_PLANAR":
            _nested_or_apart(roi, inside, drawn.setdefault(k, []), k)
        mask[k] ^= inside
    return mask


def _area(index: NDArray[np.float64]) -> float:
    """The area that a contour encloses, in pixels (the shoelace formula)."""
    x, y = index[:, 0], index[:, 1]
    return abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2


def _nested_or_apart(roi: Roi, inside: NDArray[np.bool_], others: list[NDArray[np.bool_]], k: int) -> None:
    """Exclusive or is right for a hole; of contours that cross or repeat it would delete what was drawn."""
    for other in others:
        common = inside & other
        if common.any() and (
            np.array_equal(inside, other)
            or not (np.array_equal(common, inside) or np.array_equal(common, other))
        ):
            raise CaseRejected(
                Reason.CONTOURS_OVERLAP, f"ROI {roi.name!r} has contours that overlap, slice {k + 1}"
            )
    others.append(inside)


def _slice_of(roi: Roi, index: NDArray[np.float64], grid: Grid) -> int:
    k = int(np.rint(index[0, 2]))
    distance = float(np.abs(index[:, 2] - k).max())
    if distance > OFF_SLICE:
        raise CaseRejected(
            Reason.CONTOUR_OFF_SLICE,
            f"ROI {roi.name!r} has a contour {distance:.2f} slice spacings from slice {k + 1}",
        )
    slices, rows, columns = grid.shape
    low = index[:, :2].min(axis=0)
    beyond = index[:, :2].max(axis=0) - np.array([columns - 1, rows - 1])
    if not 0 <= k < slices or low.min() < -OUTSIDE_VOXELS or beyond.max() > OUTSIDE_VOXELS:
        raise CaseRejected(
            Reason.CONTOUR_OUTSIDE, f"ROI {roi.name!r} has a contour outside the image, slice {k + 1}"
        )
    return k
