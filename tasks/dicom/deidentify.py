"""Take a patient out of a DICOM file: what is not on the list of what stays is removed (PS3.15 E.1).

An allow-list, unlike a list of what to remove, is safe against attributes that nobody thought of.
UIDs and the PatientID become keyed pseudonyms, so that what belongs together stays together.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import pydicom
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset

from tasks.dicom.bits import DCMJS, is_by_dcmjs
from tasks.dicom.headers import IMAGE_KINDS, KIND_OF_SOP_CLASS, identity_of
from tasks.dicom.names import Names
from tasks.dicom.predicted import MANUFACTURER, TELLS_PREDICTIONS, says_it_is_predicted
from tasks.dicom.reasons import Reason
from tasks.dicom.written import as_bytes
from tasks.errors import CaseRejected, ConfigError

STANDARD_UIDS = "1.2.840.10008."
"""UIDs of the standard (PS3.6 A) name classes and codes, never a patient."""
METHOD = "IterSeg: allow-list, keyed UIDs"
TYPED_BY_PEOPLE = frozenset(
    tag_for_keyword(keyword)
    for keyword in (
        *("ROIName", "ROIDescription", "ROIObservationLabel", "ROIGenerationDescription"),
        *("StructureSetLabel", "StructureSetName", "StructureSetDescription"),
        *("SegmentLabel", "SegmentDescription", "SegmentAlgorithmName", "TrackingID"),
        *("ContentLabel", "ContentDescription", "ImageComments", "FrameComments"),
        *("StudyDescription", "SeriesDescription", "ProtocolName"),
    )
)
"""Text in which a patient may be named. Attributes that a machine fills are not searched: a Mrs. Heart
would lose every scan whose BodyPartExamined is HEART."""


class Pseudonymiser(Protocol):
    """Keyed stand-ins; :class:`tasks.ledger.pseudonyms.Pseudonyms` is one."""

    def uid(self, uid: str) -> str:
        """The UID that stands for a UID."""

    def patient_id(self, identity: str) -> str:
        """The PatientID that stands for an identity."""


@dataclass(frozen=True)
class Deidentification:
    """How to de-identify.

    Attributes
    ----------
    keep, empty
        Tags that stay as they are, and tags that are there but empty.
    replace
        Tag → the text that it gets.
    """

    keep: frozenset[int]
    empty: frozenset[int]
    replace: Mapping[int, str]

    @classmethod
    def of(cls, keep: Sequence[str], empty: Sequence[str], replace: Mapping[str, str]) -> Deidentification:
        """From the keywords of a recipe; raises :class:`ConfigError` for one that DICOM has not."""
        return cls(
            frozenset(map(_tag, (*keep, *TELLS_PREDICTIONS))),
            frozenset(map(_tag, empty)),
            {_tag(keyword): text for keyword, text in replace.items()},
        )


def deidentify(
    content: bytes,
    rules: Deidentification,
    pseudonyms: Pseudonymiser,
    known_uid: Callable[[str], bool] = lambda _: False,
) -> bytes:
    """A file without its patient.

    Parameters
    ----------
    content
        A DICOM file, which :func:`tasks.dicom.headers.parse` has taken.
    rules
        What stays.
    pseudonyms
        Keyed stand-ins for PatientID and UIDs.
    known_uid
        UIDs that stay: those of data that came in with their identity before, so that references to
        them still lead there.

    Returns
    -------
    The same input under the same key gives the same bytes.

    Raises
    ------
    CaseRejected
        ``BURNED_IN`` or ``IDENTITY_LEFT`` where the patient would still be in it, ``UNREADABLE``.
    """
    try:
        source = pydicom.dcmread(io.BytesIO(content), force=True)
        if str(source.get("BurnedInAnnotation") or "").upper() == "YES":
            raise CaseRejected(Reason.BURNED_IN, "BurnedInAnnotation is YES")
        if _is_no_slice(source):
            raise CaseRejected(
                Reason.BURNED_IN, "it has no position: a capture of a screen, on which a name may stand"
            )
        names = Names.of(source)
        walk = _Walk(rules, lambda uid: uid if known_uid(uid) else pseudonyms.uid(uid), names)
        target = walk.copy(source)
        stand_in = pseudonyms.patient_id(identity_of(source))
        target.PatientID = target.PatientName = stand_in
        target.PatientIdentityRemoved = "YES"
        target.DeidentificationMethod = METHOD
        if says_it_is_predicted(source):
            target.Manufacturer = MANUFACTURER  # whatever the recipe keeps: it is never taken for a label
        if is_by_dcmjs(source):  # likewise: it says where the bits of a frame begin
            for keyword, value in DCMJS.items():
                setattr(target, keyword, value)
        for tag in rules.empty:
            if tag not in target and tag in source:
                target.add_new(tag, dictionary_VR(tag), "")
        return as_bytes(target, source)
    except CaseRejected:
        raise
    except Exception as error:  # damaged elements fail anywhere inside pydicom
        raise CaseRejected(
            Reason.UNREADABLE, f"it cannot be de-identified ({type(error).__name__})"
        ) from None


def has_lost_its_identity(content: bytes) -> bool:
    """Whether :func:`deidentify` has made a file."""
    return METHOD.encode() in content


def _is_no_slice(source: Dataset) -> bool:
    """Whether an image of one frame says nothing of where it lies, as the protocol pages of scanners do."""
    single = "Rows" in source and "PerFrameFunctionalGroupsSequence" not in source
    # By either: what is taken for an image goes by its class, and a capture may only say so by its modality.
    kinds = (KIND_OF_SOP_CLASS.get(source.get("SOPClassUID", "")), source.get("Modality"))
    return single and any(kind in IMAGE_KINDS for kind in kinds) and not source.get("ImagePositionPatient")


class _Walk:
    def __init__(self, rules: Deidentification, new_uid: Callable[[str], str], names: Names) -> None:
        self._rules, self._new_uid, self._names = rules, new_uid, names

    def copy(self, source: Dataset) -> Dataset:
        """The part of a dataset that stays, at every depth."""
        target = Dataset()
        for tag in source.keys():  # noqa: SIM118 - iterating a Dataset would convert every element
            if tag in self._rules.replace:
                target.add_new(tag, dictionary_VR(tag), self._rules.replace[tag])
            elif tag in self._rules.empty:
                target.add_new(tag, dictionary_VR(tag), "")
            elif tag in self._rules.keep:
                self._keep(source, target, tag)
        return target

    def _keep(self, source: Dataset, target: Dataset, tag: int) -> None:
        # By the standard: a PACS that does not know an element writes it as UN, whatever is in it.
        vr = dictionary_VR(tag)
        if vr == "SQ":
            target.add_new(tag, "SQ", [self.copy(item) for item in source[tag].value or []])
        elif vr == "UI":
            target.add_new(tag, "UI", self._uids(source[tag].value))
        elif tag in TYPED_BY_PEOPLE and self._names.are_in(source[tag].value):
            keyword = source[tag].keyword
            raise CaseRejected(Reason.IDENTITY_LEFT, f"{keyword} quotes the patient's name or ID")
        else:
            # As it is, bytes and all: nothing is decoded that need not be.
            target[tag] = source.get_item(tag)

    def _uids(self, value: object) -> str | list[str]:
        if value is None or isinstance(value, str):
            return self._uid(str(value or ""))
        assert isinstance(value, Sequence)
        return [self._uid(str(one)) for one in value]

    def _uid(self, uid: str) -> str:
        return uid if not uid or uid.startswith(STANDARD_UIDS) else self._new_uid(uid)


def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise ConfigError(f"deidentification.yaml: DICOM has no attribute {keyword!r}")
    return tag
