"""What a SEG or RTSTRUCT takes over from the image that it belongs to."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.valuerep import DA, TM

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
DATES, TIMES = ("PatientBirthDate", "StudyDate"), ("StudyTime",)
TM_CHARACTERS = 13
"""Without the blanks behind it: ``HHMMSS.FFFFFF`` (PS3.5 6.2)."""
MOMENTS = ("Study", "Series", "Acquisition", "Content")
SEXES = ("M", "F", "O")
"""PS3.3 C.7.1.1."""


def inherited_header(file: Path) -> Dataset:
    """An image's header as its objects take it over: type 2 attributes there, if empty, text as UTF-8.

    What DICOM does not allow of them, such as a sex of ``U``, is left empty: highdicom refuses it, and for
    the sake of a birth date nobody should go without a prediction.

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
        value = source.get(keyword, "")
        # Each has one value: a backslash makes two of it.
        setattr(source, keyword, value[0] if isinstance(value, MultiValue) and value else value)
    return _as_dicom_allows(source)


def latest_moment(header: Dataset) -> datetime | None:
    """The latest of the moments that an image names, in its own time; None where it names no date."""
    found = []
    for part in MOMENTS:
        date, time = (str(header.get(f"{part}{half}") or "") for half in ("Date", "Time"))
        if date and _is_valid(DA, date):
            at = TM(time) if time and _is_valid(TM, time) else None
            found.append(datetime.combine(DA(date), at or datetime.min.time()))
    return max(found, default=None)


def _as_dicom_allows(source: Dataset) -> Dataset:
    """Make values of patient and study valid, or empty; returns the same dataset.

    Scanners, exporters and anonymisers write others, and every object that takes them over would be invalid.
    Names and PatientID stay: an object must be found to be of its image's patient.
    """
    for keyword in SHORT:
        setattr(source, keyword, str(source.get(keyword) or "")[:SH_CHARACTERS])
    sex = str(source.PatientSex or "").strip().upper()
    source.PatientSex = sex if sex in SEXES else ""
    for keyword in DATES:  # with dots, and times with colons, before DICOM 3
        text = str(source.get(keyword) or "").strip().replace(".", "")
        setattr(source, keyword, text if _is_valid(DA, text) else "")
    for keyword in TIMES:
        text = str(source.get(keyword) or "").strip().replace(":", "")[:TM_CHARACTERS]
        setattr(source, keyword, text if _is_valid(TM, text) else "")
    return source


def _is_valid(kind: type[DA | TM], text: str) -> bool:
    try:
        kind(text)
    except ValueError:
        return False
    return True
