"""What one file says of itself, read without its pixels."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.pixels.utils import get_expected_length
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    LegacyConvertedEnhancedCTImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    MediaStorageDirectoryStorage,
    MRImageStorage,
    RTStructureSetStorage,
    SegmentationStorage,
)

from tasks.dicom.bits import padded_bytes
from tasks.dicom.predicted import says_it_is_predicted
from tasks.dicom.reasons import Reason
from tasks.dicom.references import frame_of_structure_set, references_of
from tasks.dicom.structure import check_structure
from tasks.errors import CaseRejected

DICOM_SUFFIXES = (".dcm", ".ima")
"""Who is called so is meant to be DICOM, and is not passed over in silence."""
LABEL_MAP_SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"
"""PS3.4 B.5; pydicom 3.0 has no name for it yet."""

Kind = Literal["CT", "MR", "RTSTRUCT", "SEG"]

# SOPClassUID tells what an object is; Modality lies (OHIF writes "SEG" on an RTSTRUCT).
KIND_OF_SOP_CLASS: dict[str, Kind] = {
    CTImageStorage: "CT",
    EnhancedCTImageStorage: "CT",
    LegacyConvertedEnhancedCTImageStorage: "CT",
    MRImageStorage: "MR",
    EnhancedMRImageStorage: "MR",
    LegacyConvertedEnhancedMRImageStorage: "MR",
    RTStructureSetStorage: "RTSTRUCT",
    SegmentationStorage: "SEG",
    LABEL_MAP_SEGMENTATION_STORAGE: "SEG",
}
IMAGE_KINDS = ("CT", "MR")
UID = re.compile(r"(?=.{1,64}$)[0-9]+(\.[0-9]+)*")
AUTHORSHIP = (
    "OperatorsName",
    "ReviewerName",
    "StructureSetLabel",
    "StructureSetName",
    "ContentCreatorName",
    "ContentLabel",
    "SeriesDescription",
)
"""What tells whose segmentation it is, for `segmentation_precedence`."""


class Header(NamedTuple):
    """The part of a file's header that decides where it belongs.

    ``patient`` is a keyed hash, never the PatientID. ``referenced_*`` and ``authors`` are empty for
    images; ``authors`` may name a person, and therefore stays in the raw data. ``predicted``: by an IterSeg,
    as the object itself says, and nobody approved it.
    """

    kind: Kind
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str
    frame_of_reference_uid: str
    patient: str
    referenced_series: Sequence[str] = ()
    referenced_instances: Sequence[str] = ()
    authors: Sequence[str] = ()
    localizer: bool = False
    predicted: bool = False

    def as_json(self) -> dict[str, Any]:
        """Plain content for the manifest; empty fields are left out."""
        return {key: value for key, value in self._asdict().items() if value}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Header:
        """The reverse of :meth:`as_json`."""
        given = content.get  # by position: a dataset has hundreds of thousands
        return cls(
            content["kind"],
            content["sop_instance_uid"],
            content["series_instance_uid"],
            given("study_instance_uid", ""),
            given("frame_of_reference_uid", ""),
            content["patient"],
            given("referenced_series", ()),
            given("referenced_instances", ()),
            given("authors", ()),
            given("localizer", False),
            given("predicted", False),
        )


def read_header(path: Path, hash_patient: Callable[[str], str]) -> Header:
    """Read what a file is, to which series it belongs and to what it refers.

    Parameters
    ----------
    path
        Any file.
    hash_patient
        Turns an identity into the keyed hash that may leave the raw data.

    Raises
    ------
    CaseRejected
        With ``NO_DICOM``, ``UNREADABLE``, ``OTHER_KIND`` or ``BAD_UID``.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CaseRejected(Reason.UNREADABLE, str(error.strerror)) from None
    return header_of(content, path.suffix, hash_patient)


def read_dataset(path: Path, *, pixels: bool = False) -> Dataset:
    """The elements of a file that :func:`parse` has taken.

    Forced as there, since old exports leave the preamble out; such a file gets the transfer syntax in which
    it was found to be written.
    """
    dataset = pydicom.dcmread(path, stop_before_pixels=not pixels, force=True)
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little_endian = dataset.original_encoding
        plain = ExplicitVRLittleEndian if little_endian else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else plain
    return dataset


def header_of(content: bytes, suffix: str, hash_patient: Callable[[str], str]) -> Header:
    """As :func:`read_header`, of a file that was read; ``suffix`` tells what it claims to be."""
    dataset = parse(content, suffix)
    return describe(dataset, hash_patient)


def parse(content: bytes, suffix: str) -> Dataset:
    """The elements of a file up to its pixels, of a kind that IterSeg uses, checked to be whole.

    Raises
    ------
    CaseRejected
        With ``NO_DICOM``, ``UNREADABLE`` or ``OTHER_KIND``.
    """
    dataset = _read(content, suffix)
    try:
        _kind_of(dataset)
    except CaseRejected:
        raise
    except Exception as error:  # a damaged header fails anywhere inside pydicom
        raise _damaged(error) from None
    pixel_bytes = check_structure(content)
    if pixel_bytes is not None:
        _check_pixel_bytes(dataset, pixel_bytes)
    return dataset


def _check_pixel_bytes(dataset: Dataset, pixel_bytes: int) -> None:
    """Readers cut off what is too much: with another number of columns every row is another."""
    try:
        needed = int(get_expected_length(dataset, unit="bytes"))
        padded = padded_bytes(dataset)
    except Exception:  # of sizes that are missing or no numbers pydicom raises many kinds, and warns
        raise CaseRejected(Reason.UNREADABLE, "it does not say how large its image is") from None
    if pixel_bytes not in (needed + needed % 2, padded):
        raise CaseRejected(
            Reason.UNREADABLE,
            f"it has {pixel_bytes} bytes of pixels, and {needed} by its rows, columns and frames",
        )


def describe(dataset: Dataset, hash_patient: Callable[[str], str]) -> Header:
    """The header of what :func:`parse` gave; raises ``BAD_UID`` and ``UNREADABLE``."""
    kind = _kind_of(dataset)
    try:
        uids = {
            "sop_instance_uid": _uid(dataset, "SOPInstanceUID"),
            "series_instance_uid": _uid(dataset, "SeriesInstanceUID"),
            "study_instance_uid": _uid(dataset, "StudyInstanceUID"),
            "frame_of_reference_uid": frame_of_structure_set(dataset),
        }
        series, instances = references_of(dataset, kind)
        patient = hash_patient(identity_of(dataset))
        authors = [] if kind in IMAGE_KINDS else _authors(dataset)
        localizer = kind in IMAGE_KINDS and _is_localizer(dataset)
        predicted = kind not in IMAGE_KINDS and says_it_is_predicted(dataset)
    except CaseRejected:
        raise
    except Exception as error:  # see parse
        raise _damaged(error) from None
    return Header(
        kind,
        patient=patient,
        referenced_series=series,
        referenced_instances=instances,
        authors=authors,
        localizer=localizer,
        predicted=predicted,
        **uids,
    )


def _damaged(error: Exception) -> CaseRejected:
    return CaseRejected(Reason.UNREADABLE, f"its header is damaged ({type(error).__name__})")


def _read(content: bytes, suffix: str) -> Dataset:
    try:
        return pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True)
    except InvalidDicomError:
        return _read_without_preamble(content, suffix)
    except Exception as error:  # pydicom raises many kinds on damaged input
        raise CaseRejected(Reason.UNREADABLE, f"it cannot be read ({type(error).__name__})") from None


def _read_without_preamble(content: bytes, suffix: str) -> Dataset:
    """Old exports leave the preamble out; anything else that is no DICOM ends here too."""
    try:
        dataset = pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True, force=True)
        if str(dataset.get("SOPClassUID", "")) in KIND_OF_SOP_CLASS:
            return dataset
    except Exception:  # noqa: S110 - forced parsing of arbitrary bytes may raise anything
        pass
    if suffix.lower() in DICOM_SUFFIXES:
        raise CaseRejected(Reason.UNREADABLE, "it is named like DICOM but holds none")
    raise CaseRejected(Reason.NO_DICOM, "it is no DICOM file")


def _is_localizer(dataset: Dataset) -> bool:
    """The third value of ImageType says so (PS3.3 C.8.2.1.1.1, C.8.3.1.1.1)."""
    value = dataset.get("ImageType")
    values = [value] if isinstance(value, str) else list(value or [])
    return any(str(part).strip().upper() in ("LOCALIZER", "SCOUT") for part in values[2:])


def _kind_of(dataset: Dataset) -> Kind:
    meta = getattr(dataset, "file_meta", None)
    sop_class = str(dataset.get("SOPClassUID") or getattr(meta, "MediaStorageSOPClassUID", ""))
    if sop_class in KIND_OF_SOP_CLASS:
        return KIND_OF_SOP_CLASS[sop_class]
    if sop_class == MediaStorageDirectoryStorage:
        raise CaseRejected(Reason.OTHER_KIND, "a DICOMDIR")
    if not sop_class:
        raise CaseRejected(Reason.UNREADABLE, "it names no SOP class")
    raise CaseRejected(Reason.OTHER_KIND, f"SOP class {sop_class}")


def _uid(dataset: Dataset, keyword: str) -> str:
    value = str(dataset.get(keyword) or "")
    if not UID.fullmatch(value):
        raise CaseRejected(Reason.BAD_UID, f"{keyword} is missing or malformed")
    return value


def identity_of(dataset: Dataset) -> str:
    """What tells patients apart: PatientID; without one, the study stands for the patient."""
    patient_id = str(dataset.get("PatientID") or "").strip()
    return identity_with(patient_id) if patient_id else identity_of_study(dataset.get("StudyInstanceUID"))


def identity_of_study(study_instance_uid: object) -> str:
    """What tells a patient apart of whom no file names the PatientID."""
    return f"study:{study_instance_uid}"


def identity_in(content: bytes) -> str | None:
    """As :func:`identity_of`, of a file of any kind, or of none; None where it has no PatientID."""
    try:
        dataset = pydicom.dcmread(io.BytesIO(content), specific_tags=["PatientID"], stop_before_pixels=True)
        return identity_of(dataset) if dataset.get("PatientID") else None
    except Exception:  # of what is damaged, or no DICOM at all, pydicom raises many kinds
        return None


def identity_with(patient_id: str) -> str:
    """What tells a patient apart who has a PatientID."""
    return f"patient:{patient_id.strip()}"


def _authors(dataset: Dataset) -> list[str]:
    values = (str(dataset.get(keyword) or "").strip() for keyword in AUTHORSHIP)
    return list(dict.fromkeys(value for value in values if value))
