"""What a SEG or RTSTRUCT takes over from the image that it belongs to."""

from __future__ import annotations

from pathlib import Path

from pydicom.dataset import Dataset

from tasks.dicom.headers import read_dataset
from tasks.dicom.reasons import Reason
from tasks.errors import CaseRejected

CHARACTERS = "ISO_IR 192"
"""UTF-8, whatever the image is written in: names of structures need not be of its alphabet."""
TYPE_2_ATTRIBUTES = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
    "Modality",
)
"""Of patient and study (PS3.3 C.7.1.1, C.7.2.1): may be empty, and exporters leave them out."""
SHORT = ("StudyID", "AccessionNumber")
SH_CHARACTERS = 16
"""Of a short string (PS3.5 6.2)."""


def inherited_header(file: Path) -> Dataset:
    """An image's header as its objects take it over: type 2 attributes there, if empty, text as UTF-8.

    Raises
    ------
    CaseRejected
        ``NO_FRAME_OF_REFERENCE``: nothing could refer to it.
    """
    source = read_dataset(file)
    if not source.get("FrameOfReferenceUID"):
        raise CaseRejected(Reason.NO_FRAME_OF_REFERENCE, f"{source.get('SOPInstanceUID')} names none")
    source.decode()
    source.SpecificCharacterSet = CHARACTERS
    for keyword in TYPE_2_ATTRIBUTES:
        if keyword not in source:
            setattr(source, keyword, "")
    return _cut_to_fit(source)


def _cut_to_fit(source: Dataset) -> Dataset:
    """Cut numbers of the study that are longer than DICOM lets them be; returns the same dataset.

    Scanners and exporters write them, and every object that takes them over would be invalid. Names and
    PatientID stay: an object must be found to be of its image's patient.
    """
    for keyword in SHORT:
        value = source.get(keyword)
        if isinstance(value, str) and len(value) > SH_CHARACTERS:
            setattr(source, keyword, value[:SH_CHARACTERS])
    return source
