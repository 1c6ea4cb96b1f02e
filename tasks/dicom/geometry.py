"""The voxel grid of a series, taken from its headers and never invented."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from tasks.dicom.reasons import Reason
from tasks.errors import CaseRejected

SAME_DIRECTION = 1e-3
"""Largest difference of a direction cosine: scanners round them to 4 to 6 decimals."""
SAME_PIXEL_SPACING = 1e-4
"""Largest relative difference of pixel spacings within a series: they are copied, not measured."""
DISTINCT_POSITIONS_MM = 0.01
"""Slices closer than this lie at one place: no scanner reconstructs a hundredth of a millimetre."""
EVEN_SLICES = 0.2
"""Largest distance of a slice from its place on an even grid, and of a gap from the others, in slice
spacings. Some exporters round positions to 0.1 mm, at 0.625 mm up to 0.16 spacings; beside a missing slice
the gap is a whole spacing wider."""
GANTRY_TILT_VOXELS = 0.1
"""Largest sideways drift over the whole stack, in pixels: below it no voxel centre changes voxel."""

PHASES = ("AcquisitionNumber", "TemporalPositionIdentifier", "EchoTime", "TriggerTime", "AcquisitionTime")
"""What differs between two volumes that share a series."""
VOLUMES = ("AcquisitionNumber", "TemporalPositionIdentifier", "EchoTime")
"""Of these, what may not alternate within one volume. Times may: slices are acquired in turns."""
SHOWN_VALUES = 4


@dataclass(frozen=True)
class Grid:
    """A regular voxel grid.

    Attributes
    ----------
    shape
        (slices, rows, columns), the shape of an array on this grid.
    affine
        4 × 4; (column, row, slice, 1) → patient (x, y, z, 1) in mm, LPS. Its third column is the
        measured step from slice to slice.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distances of voxel centres along column, row and slice index."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    @property
    def origin_mm(self) -> tuple[float, float, float]:
        """The centre of the first voxel, patient frame."""
        x, y, z = self.affine[:3, 3]
        return float(x), float(y), float(z)

    @property
    def direction(self) -> tuple[float, ...]:
        """Nine direction cosines, row by row, orthonormal, as SimpleITK wants them."""
        columns = self.affine[:3, :3] / np.asarray(self.spacing_mm)
        x, y = columns[:, 0], columns[:, 1]
        return tuple(np.column_stack([x, y, np.cross(x, y)]).ravel().tolist())

    def require(self, masks: Mapping[str, NDArray[np.bool_]]) -> None:
        """Raise ValueError where a mask, (slices, rows, columns), has another shape, or there is none."""
        if not masks:
            raise ValueError("there is no mask")
        for name, mask in masks.items():
            if mask.shape != self.shape:
                raise ValueError(f"the mask of {name!r} has shape {mask.shape}, the image {self.shape}")

    def to_index(self, points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Patient coordinates (n, 3) in mm to sub-voxel (column, row, slice)."""
        offset = np.asarray(points_mm, dtype=np.float64) - self.affine[:3, 3]
        return np.asarray(np.linalg.solve(self.affine[:3, :3], offset.T).T)

    def to_patient(self, index: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sub-voxel (column, row, slice), shape (n, 3), to patient coordinates in mm."""
        return np.asarray(np.asarray(index) @ self.affine[:3, :3].T + self.affine[:3, 3])


def grid_of(slices: Sequence[Dataset]) -> tuple[Grid, list[int]]:
    """The grid of single-frame slices and the order that sorts them along it.

    Parameters
    ----------
    slices
        Headers in any order.

    Returns
    -------
    grid, order
        ``order[k]`` is the position in ``slices`` of the k-th slice along the normal.

    Raises
    ------
    CaseRejected
        Where the slices do not make one even, rectangular grid (PS3.3 C.7.6.2).
    """
    if len(slices) < 2:
        raise CaseRejected(Reason.SINGLE_SLICE, f"the series has {len(slices)} slice")
    orientation, pixel_spacing_mm, (rows, columns) = _common_plane(slices)
    row_axis, column_axis, normal = _axes(orientation)
    positions = np.array([_vector(s, "ImagePositionPatient", 3) for s in slices])
    order = np.argsort(positions @ normal, kind="stable")
    positions = positions[order]
    origin, step = _line_through(positions)
    _evenly_spaced(
        positions @ normal, float(origin @ normal), float(step @ normal), [slices[k] for k in order]
    )
    _no_tilt(positions - origin, normal, pixel_spacing_mm)
    _one_volume([slices[k] for k in order])
    affine = np.eye(4)
    affine[:3, 0] = row_axis * pixel_spacing_mm[1]
    affine[:3, 1] = column_axis * pixel_spacing_mm[0]
    affine[:3, 2] = step
    affine[:3, 3] = origin
    return Grid((len(slices), rows, columns), affine), order.tolist()


def _common_plane(
    slices: Sequence[Dataset],
) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[int, int]]:
    orientations = np.array([_vector(s, "ImageOrientationPatient", 6) for s in slices])
    spacings = np.array([_vector(s, "PixelSpacing", 2) for s in slices])
    sizes = np.array([(int(s.get("Rows") or 0), int(s.get("Columns") or 0)) for s in slices])
    if np.any(spacings <= 0) or np.any(sizes <= 0):
        raise CaseRejected(Reason.NO_GEOMETRY, "a pixel spacing or an image size is not positive")
    _same(slices, sizes.astype(float), "sizes in pixels", 0.0)
    _same(slices, orientations, "orientations", SAME_DIRECTION)
    _same(slices, spacings / np.median(spacings, axis=0), "relative pixel spacings", SAME_PIXEL_SPACING)
    return (
        np.asarray(np.median(orientations, axis=0)),
        np.asarray(np.median(spacings, axis=0)),
        (int(sizes[0, 0]), int(sizes[0, 1])),
    )


def _same(slices: Sequence[Dataset], values: NDArray[np.float64], what: str, tolerance: float) -> None:
    """Refuse slices that differ from most, and name the first of them."""
    odd = np.flatnonzero(np.any(np.abs(values - np.median(values, axis=0)) > tolerance, axis=1))
    if odd.size:
        k = int(odd[0])
        raise CaseRejected(
            Reason.MIXED_GEOMETRY,
            f"{odd.size} of {len(slices)} slices have other {what}, the first {_uid(slices[k])} with "
            f"{np.round(values[k], 4).tolist()}, most with {np.round(np.median(values, axis=0), 4).tolist()}",
        )


def _uid(header: Dataset) -> str:
    return str(header.get("SOPInstanceUID") or "?")


def _vector(dataset: Dataset, keyword: str, length: int) -> NDArray[np.float64]:
    try:
        values = np.array([float(v) for v in dataset[keyword].value], dtype=np.float64)
    except (KeyError, TypeError, ValueError):
        raise CaseRejected(
            Reason.NO_GEOMETRY, f"{keyword} of {_uid(dataset)} is missing or no number"
        ) from None
    if values.shape != (length,) or not np.all(np.isfinite(values)):
        raise CaseRejected(
            Reason.NO_GEOMETRY, f"{keyword} of {_uid(dataset)} has {values.size} values, not {length}"
        )
    return values


def _axes(
    orientation: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Orthonormal axes from rounded direction cosines; refuses cosines that are no axes."""
    x, y = orientation[:3], orientation[3:]
    lengths = np.linalg.norm(x), np.linalg.norm(y)
    if abs(lengths[0] - 1) > SAME_DIRECTION or abs(lengths[1] - 1) > SAME_DIRECTION:
        cosines = np.round(orientation, 6).tolist()
        raise CaseRejected(Reason.NO_GEOMETRY, f"ImageOrientationPatient holds no unit vectors: {cosines}")
    if abs(float(x @ y)) > SAME_DIRECTION:
        cosines = np.round(orientation, 6).tolist()
        raise CaseRejected(Reason.NO_GEOMETRY, f"ImageOrientationPatient is not at right angles: {cosines}")
    x = x / lengths[0]
    y = y - (y @ x) * x
    y = y / np.linalg.norm(y)
    return x, y, np.cross(x, y)


def _line_through(positions: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Origin and step of sorted slices, so that no single position that is off moves the others.

    Theil's incomplete method (1950): the median of the steps between slices half a stack apart.
    """
    count, half = len(positions), (len(positions) + 1) // 2
    step = np.median((positions[half:] - positions[: count - half]) / half, axis=0)
    origin = np.median(positions - np.outer(np.arange(count), step), axis=0)
    return np.asarray(origin), np.asarray(step)


def _evenly_spaced(
    along_mm: NDArray[np.float64], first_mm: float, spacing_mm: float, slices: Sequence[Dataset]
) -> None:
    gaps_mm = np.diff(along_mm)
    close = np.flatnonzero(gaps_mm < DISTINCT_POSITIONS_MM)
    if close.size:
        k = int(close[0])
        raise CaseRejected(
            Reason.DUPLICATE_POSITION,
            f"{close.size} slices lie where another lies, the first at {along_mm[k]:.2f} mm: "
            f"{_uid(slices[k])} and {_uid(slices[k + 1])}{_phases(slices)}",
        )
    displaced = np.abs(along_mm - first_mm - spacing_mm * np.arange(len(along_mm)))
    uneven = np.abs(gaps_mm - spacing_mm)
    if max(displaced.max(), uneven.max()) > EVEN_SLICES * spacing_mm:
        k = int(np.argmax(gaps_mm))
        raise CaseRejected(
            Reason.UNEVEN_SLICES,
            f"distances of slices run from {gaps_mm.min():.3f} to {gaps_mm.max():.3f} mm, the widest from "
            f"{along_mm[k]:.2f} mm ({_uid(slices[k])}) to {along_mm[k + 1]:.2f} mm ({_uid(slices[k + 1])})",
        )


def _phases(slices: Sequence[Dataset]) -> str:
    """What tells the volumes of a series apart that holds several."""
    for keyword in PHASES:
        values = {str(value) for s in slices if (value := s.get(keyword)) not in (None, "")}
        if 1 < len(values) <= len(slices) // 2:
            return f"; {keyword} has the values {', '.join(sorted(values)[:SHOWN_VALUES])}"
    return ""


def _one_volume(slices: Sequence[Dataset]) -> None:
    """Two volumes whose slices lie between each other's make an even grid, and no volume."""
    for keyword in VOLUMES:
        values = [str(s.get(keyword) or "") for s in slices]
        changes = sum(a != b for a, b in itertools.pairwise(values))
        if 1 < len(set(values)) <= len(slices) // 2 and changes > len(slices) // 2:
            raise CaseRejected(
                Reason.DUPLICATE_POSITION,
                f"{keyword} alternates between {', '.join(sorted(set(values))[:SHOWN_VALUES])} from slice to "
                "slice: the slices of two volumes lie between each other",
            )


def _no_tilt(
    offset: NDArray[np.float64], normal: NDArray[np.float64], pixel_spacing_mm: NDArray[np.float64]
) -> None:
    sideways = np.linalg.norm(offset - np.outer(offset @ normal, normal), axis=1)
    if float(sideways.max()) > GANTRY_TILT_VOXELS * float(pixel_spacing_mm.min()):
        raise CaseRejected(
            Reason.GANTRY_TILT, f"the stack is sheared by {sideways.max():.2f} mm over its length"
        )
