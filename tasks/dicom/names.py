"""Find a patient's names in what people typed, however they are written there."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Sequence
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset

from tasks.errors import is_of_the_disk

LEAST_LETTERS = 4
"""Shorter parts of a name are words by chance, for which no file is refused."""
FOUND_ANYWHERE = 6
"""Letters of a name that is found within words, too: by chance it is in none."""
IDENTIFYING = ("PatientID", "PatientName", "OtherPatientIDs", "OtherPatientNames", "PatientBirthName")
BETWEEN_NAMES = re.compile(r"[\^=\\\s,]+")
BETWEEN_GROUPS = re.compile(r"[=\\]")
"""Between one name in letters, in ideographs and as it is spoken (PS3.5 6.2.1), and between several names."""
IDEOGRAPHS = re.compile("[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uac00-\ud7af]")
"""Of Chinese, Japanese and Korean, of which two are a name, and nothing stands between words."""
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
LETTER = re.compile(rf"(?P<together>{'|'.join(WRITTEN_TOGETHER)}){ACCENTS}|(?P<letter>.){ACCENTS}", re.DOTALL)


class Names:
    """What would give a patient away: IDs, and the parts of names."""

    def __init__(self, names: Collection[str]) -> None:
        longest_first = sorted(names, key=len, reverse=True)
        written = "|".join(map(_as_people_write_it, longest_first))
        self._pattern = re.compile(written, re.IGNORECASE) if names else None

    @classmethod
    def of(cls, dataset: Dataset) -> Names:
        """Those of an object's patient that are no words by chance."""
        return cls(_names(dataset, LEAST_LETTERS))

    def are_in(self, value: object) -> bool:
        """Whether an element's value quotes one."""
        return self._pattern is not None and self._pattern.search(_decomposed(_text(value))) is not None

    def removed_from(self, text: str) -> str:
        """The text without them."""
        if self._pattern is None:
            return text
        return unicodedata.normalize("NFC", self._pattern.sub("[removed]", _decomposed(text)))


def without_identity(text: str, files: Sequence[Path]) -> str:
    """A message in which no name or ID of the patient of these files stands, however short it is."""
    names: set[str] = set()
    for file in files:
        try:
            header = pydicom.dcmread(file, specific_tags=[*IDENTIFYING, OTHER_IDS], force=True)
            names |= set(_names(header, 1))
        except Exception as error:  # a damaged file tells nothing, and has said nothing
            if is_of_the_disk(error):
                return "it cannot be told without the patient's name now"
    return Names(names).removed_from(text)


def _decomposed(text: str) -> str:
    return unicodedata.normalize("NFD", text)


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
        if len("".join(components[:2])) < _found_anywhere(name):
            whole = rf"(?<![^\W\d_]){whole}(?![^\W\d_])"
        return f"{whole}|{_letters(name)}"
    if len(name) >= _found_anywhere(name):
        return _letters(name)
    if len(name) < LEAST_LETTERS:
        return rf"(?<![^\W_]){_letters(name)}(?![^\W_])"
    before, after = (r"\d" if end.isdigit() else r"[^\W\d_]" for end in (name[0], name[-1]))
    return rf"(?<!{before}){_letters(name)}(?!{after})"


def _found_anywhere(name: str) -> int:
    return 2 if IDEOGRAPHS.search(name) else FOUND_ANYWHERE


def _letters(name: str) -> str:
    """A pattern for a name with its accents and without, as MUELLER, Müller and Muller are."""

    def otherwise(found: re.Match[str]) -> str:
        together, letter = found.group("together", "letter")
        if together:
            return WRITTEN_TOGETHER[together] + ACCENTS  # the e of Noël, which is no ö
        plain = f"[{letter}{ALSO[letter]}]" if letter in ALSO else re.escape(letter)
        return f"{plain}{ACCENTS}"

    return LETTER.sub(otherwise, _decomposed(name).casefold())


def _names(source: Dataset, least: int) -> list[str]:
    """IDs and parts of names of so many letters or more."""
    texts = [_text(source.get(keyword)) for keyword in IDENTIFYING]
    texts += [_text(item.get("PatientID")) for item in source.get(OTHER_IDS) or []]
    composed = [unicodedata.normalize("NFC", text) for text in texts]  # its letters are counted
    parts = {part for text in composed for group in BETWEEN_GROUPS.split(text) for part in _parts(group)}
    return sorted(
        part for part in parts if len(part) >= (min(2, least) if IDEOGRAPHS.search(part) else least)
    )


def _parts(text: str) -> set[str]:
    return {text.strip(), *BETWEEN_NAMES.split(text)} - {""}


def _text(value: object) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, Sequence):
        return "\\".join(str(one) for one in value)
    return str(value)
