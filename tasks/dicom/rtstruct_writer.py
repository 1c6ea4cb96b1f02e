"""Write RTSTRUCT (PS3.3 A.19) of masks, so that every reader takes the same masks back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydicom.charset import default_encoding
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import Tag
from pydicom.uid import UID, ImplicitVRLittleEndian, RTStructureSetStorage

from tasks.colours import rgb_of
from tasks.dicom.contours import outlines
from tasks.dicom.frames import Frame, frames_of
from tasks.dicom.geometry import grid_of
from tasks.dicom.inherited import CHARACTERS, inherited_header
from tasks.dicom.predicted import MANUFACTURER

PATIENT_AND_STUDY = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
)
"""Copied from the image: a structure set belongs to its patient and study."""

CONTOUR_DATA = Tag("ContourData")
DECIMALS = 7
"""Of a coordinate in mm: a ten-thousandth of a micron; up to 999,999 mm it then fits into a DS."""


@dataclass(frozen=True)
class StructureSetIdentity:
    """UIDs and names of a structure set."""

    series_instance_uid: str
    sop_instance_uid: str
    label: str
    written: datetime
    series_number: int | None = None
    generation: Literal["AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"] = "MANUAL"
    """(3006,0036). What is AUTOMATIC and by IterSeg is a prediction, and becomes nobody's label."""
    description: str = ""
    """Of the series and the structure set, up to 64 characters; ``label`` has room for 16."""


def write_rtstruct(
    path: Path,
    image_files: Sequence[Path],
    masks: Mapping[str, NDArray[np.bool_]],
    identity: StructureSetIdentity,
) -> None:
    """Write masks as an RTSTRUCT that refers to the image series.

    Parameters
    ----------
    path
        The file to write; its folder exists.
    image_files
        The files of the image series, in any order.
    masks
        ROI name → (slices, rows, columns) on the series' grid, slices along its normal.
    identity
        UIDs and names; they must differ from those of any other object.

    Raises
    ------
    CaseRejected
        Where the series' files make no grid, or name no frame of reference.
    ValueError
        Where there is no mask, or one has another shape than the image.
    """
    found = frames_of(image_files)
    grid, order = grid_of([frame.header for frame in found])
    grid.require(masks)
    slices = [found[position] for position in order]
    source = inherited_header(slices[0].path)
    dataset = _frame(path, source, slices, identity)
    dataset.StructureSetROISequence = DicomSequence()
    dataset.ROIContourSequence = DicomSequence()
    dataset.RTROIObservationsSequence = DicomSequence()
    for number, (name, mask) in enumerate(masks.items(), start=1):
        _add_roi(dataset, number, name, identity)
        roi = Dataset()
        roi.ReferencedROINumber = number
        roi.ROIDisplayColor = list(rgb_of(number - 1))
        if mask.any():  # the sequence may be absent, but not be empty (PS3.3 C.8.8.6)
            roi.ContourSequence = DicomSequence(
                _contour(grid.to_patient(_index(ring, k)), slices[k])
                for k in np.flatnonzero(mask.any(axis=(1, 2))).tolist()
                for ring in outlines(mask[k])
            )
        dataset.ROIContourSequence.append(roi)
    dataset.save_as(path, enforce_file_format=True)


def _index(ring: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    return np.column_stack([ring[:, 1], ring[:, 0], np.full(len(ring), k)])


def _frame(
    path: Path, source: Dataset, slices: Sequence[Frame], identity: StructureSetIdentity
) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = RTStructureSetStorage
    meta.MediaStorageSOPInstanceUID = UID(identity.sop_instance_uid)
    # An explicit DS ends at 64 kB (PS3.5 7.1.2), some 1,300 points: an outline of a body has more.
    meta.TransferSyntaxUID = ImplicitVRLittleEndian
    dataset = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SpecificCharacterSet = CHARACTERS
    dataset.SOPClassUID = RTStructureSetStorage
    dataset.SOPInstanceUID = UID(identity.sop_instance_uid)
    for keyword in PATIENT_AND_STUDY:
        # Type 2 attributes (PS3.5 7.4) must be there, if empty.
        setattr(dataset, keyword, source.get(keyword, "") if source.get(keyword) is not None else "")
    dataset.Modality = "RTSTRUCT"
    dataset.SeriesInstanceUID = identity.series_instance_uid
    dataset.SeriesNumber = identity.series_number
    dataset.OperatorsName = ""
    dataset.Manufacturer = MANUFACTURER
    dataset.InstanceNumber = 1
    dataset.StructureSetLabel = identity.label[:16]
    if identity.description:
        dataset.SeriesDescription = dataset.StructureSetName = identity.description[:64]
    dataset.StructureSetDate = identity.written.strftime("%Y%m%d")
    dataset.StructureSetTime = identity.written.strftime("%H%M%S")
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = (
        dataset.StructureSetDate,
        dataset.StructureSetTime,
    )
    dataset.ApprovalStatus = "UNAPPROVED"
    dataset.ReferencedFrameOfReferenceSequence = DicomSequence([_frame_of_reference(source, slices)])
    return dataset


def _frame_of_reference(source: Dataset, slices: Sequence[Frame]) -> Dataset:
    series = Dataset()
    series.SeriesInstanceUID = source.SeriesInstanceUID
    series.ContourImageSequence = DicomSequence(_instance(item) for item in slices)
    study = Dataset()
    # (3006,0012) refers to the study by the retired study management class, as PS3.3 C.8.8.5 allows.
    study.ReferencedSOPClassUID = "1.2.840.10008.3.1.2.3.1"
    study.ReferencedSOPInstanceUID = source.StudyInstanceUID
    study.RTReferencedSeriesSequence = DicomSequence([series])
    frame = Dataset()
    frame.FrameOfReferenceUID = source.FrameOfReferenceUID
    frame.RTReferencedStudySequence = DicomSequence([study])
    return frame


def _instance(source: Frame) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = source.header.SOPClassUID
    item.ReferencedSOPInstanceUID = source.header.SOPInstanceUID
    if source.number is not None:
        item.ReferencedFrameNumber = source.number + 1
    return item


def _add_roi(dataset: Dataset, number: int, name: str, identity: StructureSetIdentity) -> None:
    roi = Dataset()
    roi.ROINumber = number
    roi.ReferencedFrameOfReferenceUID = dataset.FrameOfReferenceUID
    roi.ROIName = name
    roi.ROIGenerationAlgorithm = identity.generation
    dataset.StructureSetROISequence.append(roi)
    observation = Dataset()
    observation.ObservationNumber = number
    observation.ReferencedROINumber = number
    observation.RTROIInterpretedType = ""
    observation.ROIInterpreter = ""
    dataset.RTROIObservationsSequence.append(observation)


def _contour(points_mm: NDArray[np.float64], source: Frame) -> Dataset:
    item = Dataset()
    item.ContourImageSequence = DicomSequence([_instance(source)])
    item.ContourGeometricType = "CLOSED_PLANAR"
    item.NumberOfContourPoints = len(points_mm)
    text = _decimals(points_mm)
    item[CONTOUR_DATA] = RawDataElement(CONTOUR_DATA, "DS", len(text), text, 0, True, True)
    # As if it had been read so: else pydicom makes numbers of the text to write them as text again.
    item.set_original_encoding(True, True, default_encoding)
    return item


def _decimals(points_mm: NDArray[np.float64]) -> bytes:
    """Coordinates as DS, which holds 16 characters (PS3.5 6.2): more would be cut or refused by readers.

    As text at once: a value at a time pydicom takes 5 s for an outline of a million.
    """
    text = "\\".join(map(repr, points_mm.round(DECIMALS).ravel().tolist()))
    return (text + " " * (len(text) % 2)).encode("ascii")
