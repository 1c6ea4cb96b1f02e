"""Take a patient out of a DICOM file: what is not on the list of what stays is removed (PS3.15 E.1).

An allow-list, unlike a list of what to remove, is safe against attributes that nobody thought of.
UIDs and the PatientID become keyed pseudonyms, so that what belongs together stays together.
"""

from __future__ import annotations

import io
import re
import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pydicom
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset

from tasks.dicom.damage import is_of_the_disk
from tasks.dicom.headers import identity_of
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
LEAST_LETTERS = 4
"""Shorter parts of a name are words by chance, for which no file is refused."""
FOUND_ANYWHERE = 6
"""Letters of a name that is found within words, too: by chance it is in none."""
IDENTIFYING = ("PatientID", "PatientName", "OtherPatientIDs", "OtherPatientNames", "PatientBirthName")
BETWEEN_NAMES = re.compile(r"[\^=\\\s,]+")
OTHER_IDS = "OtherPatientIDsSequence"
ACCENTS = r"[\u0300-\u036f]*"
"""What stands after a letter in a text that is decomposed (Unicode NFD)."""
ALSO = {"l": "ł", "ł": "l", "d": "đ", "đ": "d", "o": "ø"}
"""Letters whose strokes are no accents to Unicode."""


def _written_together() -> dict[str, str]:
    """What one system writes as a letter with dots, another as two letters, a third as the plain letter."""
    found = {"ss": "(?:ss|ß|ẞ)", "aa": "(?:aa|a\u030a)", "a\u030a": f"(?:aa|a{ACCENTS})"}
    for letter, joined in (("a", "æ"), ("o", "œø"), ("u", "")):
        or_joined = "".join(f"|{one}" for one in joined)
        found[f"{letter}e"] = f"(?:{letter}e|{letter}\u0308{or_joined})"
        found |= dict.fromkeys([f"{letter}\u0308", *joined], f"(?:{letter}e|{letter}{ACCENTS}{or_joined})")
    return found


WRITTEN_TOGETHER = _written_together()
LETTER = re.compile(rf"(?P<together>{'|'.join(WRITTEN_TOGETHER)})|(?P<letter>.){ACCENTS}", re.DOTALL)


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
            frozenset(map(_tag, keep)),
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
        names = _names(source)
        walk = _Walk(rules, lambda uid: uid if known_uid(uid) else pseudonyms.uid(uid), names)
        target = walk.copy(source)
        stand_in = pseudonyms.patient_id(identity_of(source))
        target.PatientID = target.PatientName = stand_in
        target.PatientIdentityRemoved = "YES"
        target.DeidentificationMethod = METHOD
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


def without_identity(text: str, files: Sequence[Path]) -> str:
    """A message in which no name or ID of the patient of these files stands, however short it is."""
    names: set[str] = set()
    for file in files:
        try:
            header = pydicom.dcmread(file, specific_tags=[*IDENTIFYING, OTHER_IDS], force=True)
            names |= set(_names(header, least=1))
        except Exception as error:  # a damaged file tells nothing, and has said nothing
            if is_of_the_disk(error):
                return "it cannot be told without the patient's name now"
    if not names:
        return text
    return unicodedata.normalize("NFC", _pattern(names).sub("[removed]", _decomposed(text)))


def _decomposed(text: str) -> str:
    return unicodedata.normalize("NFD", text)


def _pattern(names: Collection[str]) -> re.Pattern[str]:
    """What finds names in a text that is :func:`_decomposed`."""
    longest_first = sorted(names, key=len, reverse=True)
    return re.compile("|".join(map(_as_people_write_it, longest_first)), re.IGNORECASE)


def _as_people_write_it(name: str) -> str:
    """A pattern for ``GTV_Mueller``, ``mueller2`` and ``PAT12345_1`` too, and not for Li in Liver.

    A whole name is found in either order, whatever stands between its parts, which may be short; where it is
    short itself, as a word of its own. A long part is found anywhere, a shorter one where no letter goes on
    from a letter and no digit from a digit; a single letter or digit, where it is a word by itself.
    """
    components = [part for part in BETWEEN_NAMES.split(name) if part]
    if len(components) > 1:
        family, given = map(_letters, components[:2])
        whole = rf"(?:{family}[\W_]{{0,3}}{given}|{given}[\W_]{{0,3}}{family})"
        if len("".join(components[:2])) < FOUND_ANYWHERE:
            whole = rf"(?<![^\W\d_]){whole}(?![^\W\d_])"
        return f"{whole}|{_letters(name)}"
    if len(name) >= FOUND_ANYWHERE:
        return _letters(name)
    if len(name) < LEAST_LETTERS:
        return rf"(?<![^\W_]){_letters(name)}(?![^\W_])"
    before, after = (r"\d" if end.isdigit() else r"[^\W\d_]" for end in (name[0], name[-1]))
    return rf"(?<!{before}){_letters(name)}(?!{after})"


def _letters(name: str) -> str:
    """A pattern for a name with its accents and without, as MUELLER, Müller and Muller are."""

    def otherwise(found: re.Match[str]) -> str:
        together, letter = found.group("together", "letter")
        if together:
            return WRITTEN_TOGETHER[together]
        plain = f"[{letter}{ALSO[letter]}]" if letter in ALSO else re.escape(letter)
        return f"{plain}{ACCENTS}"

    return LETTER.sub(otherwise, _decomposed(name).casefold())


class _Walk:
    def __init__(self, rules: Deidentification, new_uid: Callable[[str], str], names: Sequence[str]) -> None:
        self._rules, self._new_uid = rules, new_uid
        self._name = _pattern(names)
        self._names = names

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
        elif (
            tag in TYPED_BY_PEOPLE
            and self._names
            and self._name.search(_decomposed(_text(source[tag].value)))
        ):
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


def _names(source: Dataset, least: int = LEAST_LETTERS) -> list[str]:
    """What would give the patient away: IDs, and the parts of names."""
    texts = [_text(source.get(keyword)) for keyword in IDENTIFYING]
    texts += [_text(item.get("PatientID")) for item in source.get(OTHER_IDS) or []]
    composed = [unicodedata.normalize("NFC", text) for text in texts]  # its letters are counted
    return sorted({part for text in composed for part in _parts(text) if len(part) >= least})


def _parts(text: str) -> set[str]:
    return {text.strip(), *BETWEEN_NAMES.split(text)}


def _text(value: object) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, Sequence):
        return "\\".join(str(one) for one in value)
    return str(value)


def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise ConfigError(f"deidentification.yaml: DICOM has no attribute {keyword!r}")
    return tag
