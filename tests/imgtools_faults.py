"""Deliveries that med-imagetools 2.16 turns into wrong masks in silence, and how each has to end."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_factory import Series, ball, edit, shapes, write_rois, write_segments, write_series
from numpy.typing import NDArray

SHAPE = (6, 20, 24)
LEFT, RIGHT = ball(SHAPE, (3, 8, 6), 3), ball(SHAPE, (3, 10, 17), 4)
BOTH = LEFT + 2 * RIGHT.astype(np.uint8)
PATTERNS = {"Left": "left", "Right": "right"}


@dataclass
class Ends:
    """How the image's series ends, and what else is said; ``labels``: of what is done."""

    state: str = "done"
    reason: str | None = None
    labels: NDArray[Any] = field(default_factory=lambda: BOTH)
    segmentations: list[str] = field(default_factory=list)
    files: dict[str, int] = field(default_factory=dict)


def drawn(folder: Path, **options: Any) -> Series:
    series = write_series(folder / "ct", SHAPE, **options)
    write_rois(folder / "rt", series, {"left": LEFT, "right": RIGHT})
    return series


def swapped_contours(folder: Path) -> Ends:
    drawn(folder)
    edit(folder / "rt", lambda ds: ds.ROIContourSequence.reverse())
    return Ends()


def a_hole_as_a_second_contour(folder: Path) -> Ends:
    series = drawn(folder)
    donut = shapes(SHAPE)["donut"]
    outer, inner = ndimage_filled(donut), ndimage_filled(donut) & ~donut
    write_rois(folder / "rt", series, {"left": outer, "hole": inner, "right": np.zeros(SHAPE, bool)})

    def merge(ds: Any) -> None:
        by_number = {item.ReferencedROINumber: item for item in ds.ROIContourSequence}
        numbers = {str(item.ROIName): item.ROINumber for item in ds.StructureSetROISequence}
        left, hole = by_number[numbers["left"]], by_number[numbers["hole"]]
        left.ContourSequence = [*left.ContourSequence, *hole.ContourSequence]
        ds.ROIContourSequence = [left]

    edit(folder / "rt", merge)
    return Ends(labels=donut.astype(np.uint8))


def a_keyholed_hole(folder: Path) -> Ends:
    series = write_series(folder / "ct", SHAPE)
    donut, corner = shapes(SHAPE)["donut"], np.zeros(SHAPE, bool)
    corner[0, :2, :2] = True
    write_rois(folder / "rt", series, {"left": donut, "right": corner})
    return Ends(labels=(donut + 2 * corner).astype(np.uint8))


def vertices_between_voxels(folder: Path) -> Ends:
    """Rounded, half-voxel contours move by 0.37 voxels."""
    series = drawn(folder)
    corners = [(4.5, 4.5, 2), (9.5, 4.5, 2), (9.5, 9.5, 2), (4.5, 9.5, 2)]

    def draw(ds: Any) -> None:
        (left,) = (i for i in ds.ROIContourSequence if i.ReferencedROINumber == 1)
        left.ContourSequence = left.ContourSequence[:1]
        contour = left.ContourSequence[0]
        del contour.ContourImageSequence
        points = series.grid.to_patient(np.array(corners)).ravel()
        contour.ContourData, contour.NumberOfContourPoints = [f"{v:.4f}" for v in points], 4

    edit(folder / "rt", draw)
    labels = np.where(RIGHT, 2, 0).astype(np.uint8)
    labels[2, 5:10, 5:10] = 1
    return Ends(labels=labels)


def a_segmentation_object(folder: Path) -> Ends:
    """Of real SEGs it loses voxels on every slice."""
    series = write_series(folder / "ct", SHAPE)
    write_segments(folder / "seg", series, BOTH.astype(int), ["left", "right"])
    return Ends()


def ndimage_filled(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    from scipy.ndimage import binary_fill_holes

    return np.stack([binary_fill_holes(plane) for plane in mask])


def two_rois_of_one_name(folder: Path) -> Ends:
    drawn(folder)
    edit(folder / "rt", lambda ds: setattr(ds.StructureSetROISequence[1], "ROIName", "left"))
    return Ends("rejected", "duplicate-roi")


def two_segments_of_one_label(folder: Path) -> Ends:
    series = write_series(folder / "ct", SHAPE)
    write_segments(folder / "seg", series, BOTH.astype(int), ["left", "right"])
    edit(folder / "seg", lambda ds: setattr(ds.SegmentSequence[1], "SegmentLabel", "left"))
    return Ends("rejected", "duplicate-roi")


def two_structure_sets_of_one_image(folder: Path) -> Ends:
    series = drawn(folder)
    write_rois(folder / "rt2", series, {"left": LEFT, "right": RIGHT}, name="another")
    return Ends("rejected", "several-segmentations")


def _change(function: Callable[[int, Any], None], reason: str) -> Callable[[Path], Ends]:
    def make(folder: Path) -> Ends:
        drawn(folder)
        write_series(folder / "ct", SHAPE, change=function)
        return Ends("rejected", reason)

    return make


def tilt(k: int, ds: Any) -> None:
    ds.ImagePositionPatient[1] = float(ds.ImagePositionPatient[1]) + 0.4 * k


def _two_phases(k: int, ds: Any) -> None:
    ds.ImagePositionPatient[2] = -80.0 + 2.5 * (k // 2)
    ds.AcquisitionNumber = k % 2


def _uneven(k: int, ds: Any) -> None:
    ds.ImagePositionPatient[2] = -80.0 + 2.5 * k + (1.0 if k > 3 else 0)


def a_missing_slice(folder: Path) -> Ends:
    series = drawn(folder)
    series.files[2].unlink()
    return Ends("rejected", "uneven-slices")


def flipped_frames(folder: Path) -> Ends:
    """The frames of a SEG stand in whatever order; each says where it lies."""
    series = write_series(folder / "ct", SHAPE)
    write_segments(folder / "seg", series, BOTH.astype(int), ["left", "right"])

    def flip(ds: Any) -> None:
        pixels = np.unpackbits(np.frombuffer(ds.PixelData, np.uint8), bitorder="little")
        count = int(ds.NumberOfFrames)
        frames = pixels[: count * SHAPE[1] * SHAPE[2]].reshape(count, -1)
        ds.PixelData = np.packbits(frames[::-1].ravel(), bitorder="little").tobytes()
        ds.PixelData += b"\0" * (len(ds.PixelData) % 2)
        ds.PerFrameFunctionalGroupsSequence = list(ds.PerFrameFunctionalGroupsSequence)[::-1]

    edit(folder / "seg", flip)
    return Ends()


def duplicated_slices(folder: Path) -> Ends:
    """The same slice under a UID of its own, as some archives make it."""
    series = drawn(folder)
    shutil.copy(series.files[0], folder / "again")
    edit(folder / "again", lambda ds: setattr(ds, "SOPInstanceUID", "1.2.3.4"))
    return Ends("rejected", "duplicate-position")


def the_same_file_twice(folder: Path) -> Ends:
    series = drawn(folder)
    shutil.copy(series.files[0], folder / "again")
    return Ends(files={"duplicate": 1})


def a_reference_to_nothing(folder: Path) -> Ends:
    drawn(folder)
    shutil.rmtree(folder / "ct")
    write_series(folder / "ct", SHAPE, name="another")
    return Ends("ignored", "unlabelled", segmentations=["reference-absent"])


def no_reference(folder: Path) -> Ends:
    drawn(folder)

    def forget(ds: Any) -> None:
        del ds.ReferencedFrameOfReferenceSequence
        ds.pop("FrameOfReferenceUID", None)
        for roi in ds.ROIContourSequence:
            for contour in roi.ContourSequence:
                del contour.ContourImageSequence

    edit(folder / "rt", forget)
    return Ends("ignored", "unlabelled", segmentations=["reference-absent"])


def rubbish_beside_it(folder: Path) -> Ends:
    drawn(folder)
    (folder / "empty.dcm").write_bytes(b"")
    (folder / "text.dcm").write_text("hello")
    (folder / "._slice.dcm").write_bytes(b"\x00\x05\x16\x07" * 40)
    return Ends(files={"rejected": 3})


def a_file_without_modality(folder: Path) -> Ends:
    series = drawn(folder)
    edit(series.files[0], lambda ds: delattr(ds, "Modality"))
    return Ends()


def names_without_suffix(folder: Path) -> Ends:
    series = drawn(folder)
    for number, file in enumerate(series.files):
        file.rename(folder / f"IM{number}.{number}")
    return Ends()


def a_patient_who_climbs(folder: Path) -> Ends:
    drawn(folder, patient="../../../x")
    return Ends()


def a_patient_with_a_slash(folder: Path) -> Ends:
    drawn(folder, patient="a/b")
    return Ends()


FAULTS = [
    swapped_contours,
    a_hole_as_a_second_contour,
    a_keyholed_hole,
    vertices_between_voxels,
    a_segmentation_object,
    two_rois_of_one_name,
    two_segments_of_one_label,
    two_structure_sets_of_one_image,
    pytest.param(_change(tilt, "gantry-tilt"), id="gantry_tilt"),
    pytest.param(_change(_two_phases, "duplicate-position"), id="two_phases"),
    pytest.param(_change(_uneven, "uneven-slices"), id="uneven_spacing"),
    a_missing_slice,
    flipped_frames,
    duplicated_slices,
    the_same_file_twice,
    a_reference_to_nothing,
    no_reference,
    rubbish_beside_it,
    a_file_without_modality,
    names_without_suffix,
    a_patient_who_climbs,
    a_patient_with_a_slash,
]
