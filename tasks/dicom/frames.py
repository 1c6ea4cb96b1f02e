"""Frames: the slices of a series, whether each is a file or all lie in one multi-frame object.

A multi-frame object (PS3.3 A.38, A.36) keeps what differs between frames in its functional groups
(C.7.6.16); here each frame becomes a small header with the attributes of a single-frame slice, so
that one rule judges both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import (
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
)

from tasks.dicom.damage import damage_rejects
from tasks.dicom.geometry import PHASES
from tasks.dicom.headers import KIND_OF_SOP_CLASS
from tasks.dicom.reasons import Reason
from tasks.errors import CaseRejected

MULTI_FRAME_CLASSES = frozenset(
    {
        EnhancedCTImageStorage,
        EnhancedMRImageStorage,
        LegacyConvertedEnhancedCTImageStorage,
        LegacyConvertedEnhancedMRImageStorage,
    }
)
OF_THE_INSTANCE = (
    "SOPClassUID",
    "SOPInstanceUID",
    "InstanceNumber",
    "FrameOfReferenceUID",
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
)
OF_THE_SLICE = (
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "PixelSpacing",
    "RescaleSlope",
    "RescaleIntercept",
)
GROUPS = {
    "ImageOrientationPatient": ("PlaneOrientationSequence", "ImageOrientationPatient"),
    "ImagePositionPatient": ("PlanePositionSequence", "ImagePositionPatient"),
    "PixelSpacing": ("PixelMeasuresSequence", "PixelSpacing"),
    "RescaleSlope": ("PixelValueTransformationSequence", "RescaleSlope"),
    "RescaleIntercept": ("PixelValueTransformationSequence", "RescaleIntercept"),
    "TemporalPositionIdentifier": ("FrameContentSequence", "TemporalPositionIndex"),
    "EchoTime": ("MREchoSequence", "EffectiveEchoTime"),
}
"""Where a frame has what a slice has under this name (PS3.3 C.7.6.16.2, C.8.13.5.4). Not the acquisition: one
volume may be acquired in packages that lie between each other."""


@dataclass(frozen=True)
class Frame:
    """A slice: its file, its number in a multi-frame file (from 0), and what a slice's header says."""

    path: Path
    number: int | None
    header: Dataset


def frames_of(files: Sequence[Path]) -> list[Frame]:
    """All frames of the files of a series.

    Raises
    ------
    CaseRejected
        ``UNREADABLE``, ``NOT_GRAYSCALE`` or ``NO_GEOMETRY``.
    """
    return [frame for file in files for frame in _frames_of_file(file)]


def is_multi_frame(frames: Sequence[Frame]) -> bool:
    """Whether any of the frames lies in a multi-frame file."""
    return any(frame.number is not None for frame in frames)


def _frames_of_file(path: Path) -> list[Frame]:
    wanted = [*OF_THE_INSTANCE, *OF_THE_SLICE, *PHASES, "NumberOfFrames"]
    groups = ["SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"]
    with damage_rejects(Reason.UNREADABLE, "a slice cannot be read"):
        dataset = pydicom.dcmread(path, specific_tags=[*wanted, *groups], stop_before_pixels=True, force=True)
        sop_class = str(dataset.get("SOPClassUID"))
        _grayscale(dataset, multi_frame=sop_class in MULTI_FRAME_CLASSES)
        if sop_class in MULTI_FRAME_CLASSES:
            return _multi_frame(path, dataset)
    if sop_class not in KIND_OF_SOP_CLASS:
        uid = dataset.get("SOPInstanceUID")
        raise CaseRejected(Reason.UNREADABLE, f"{uid} names no known SOP class: {sop_class}")
    return [Frame(path, None, dataset)]


def _grayscale(dataset: Dataset, *, multi_frame: bool) -> None:
    samples, frames = int(dataset.get("SamplesPerPixel") or 1), int(dataset.get("NumberOfFrames") or 1)
    photometric = str(dataset.get("PhotometricInterpretation") or "none")
    if samples != 1 or (frames != 1 and not multi_frame) or photometric != "MONOCHROME2":
        # GDCM inverts MONOCHROME1 and maps palettes: the values would not be those of the file.
        raise CaseRejected(
            Reason.NOT_GRAYSCALE,
            f"{dataset.get('SOPInstanceUID')}: {photometric}, {samples} samples a pixel, {frames} frames",
        )


def _multi_frame(path: Path, dataset: Dataset) -> list[Frame]:
    shared = next(iter(dataset.get("SharedFunctionalGroupsSequence") or [Dataset()]))
    per_frame = list(dataset.get("PerFrameFunctionalGroupsSequence") or [])
    count = int(dataset.get("NumberOfFrames") or 0)
    if len(per_frame) != count:
        raise CaseRejected(
            Reason.NO_GEOMETRY, f"{dataset.SOPInstanceUID} says {count} frames and describes {len(per_frame)}"
        )
    return [Frame(path, n, _frame_header(dataset, shared, group)) for n, group in enumerate(per_frame)]


def _frame_header(dataset: Dataset, shared: Dataset, group: Dataset) -> Dataset:
    header = Dataset()
    for keyword in OF_THE_INSTANCE:
        if keyword in dataset:
            header[keyword] = dataset[keyword]
    for keyword, (sequence, of_the_frame) in GROUPS.items():
        items = group.get(sequence) or shared.get(sequence) or []
        if items and of_the_frame in items[0]:
            setattr(header, keyword, items[0][of_the_frame].value)
    return header
