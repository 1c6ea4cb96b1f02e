"""Which structures a lab's ROI names stand for, and the patterns that would find them."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from tasks.labels import matching

SEPARATORS = re.compile(r"[\s_.\-]+")
BETWEEN = "[ _.-]*"
"""What people put between the words of a name, or leave out."""


@dataclass(frozen=True)
class Proposal:
    """A structure, the pattern of its ROI names, and what the pattern matches in what was looked at."""

    structure: str
    pattern: str
    matches: dict[str, int]
    """Name of a ROI → number of segmentations that have it."""
    found_in: int
    """Segmentations that have one of them."""
    several_in: int
    """Segmentations that have more than one: `several_rois` says what to do, or the pattern gets narrower."""


def propose(drawn: Sequence[Sequence[str]]) -> list[Proposal]:
    """Group the names of all segmentations to structures, the most frequent first.

    Names are one structure where they differ in case and separators alone ("Lung_L", "lung l"), and where
    they differ in a number at their end and no segmentation has two of them ("GTV1" here, "GTV" there):
    where one has both, they are two structures that somebody told apart.

    Parameters
    ----------
    drawn
        The names in each segmentation.
    """
    spellings: dict[str, Counter[str]] = defaultdict(Counter)
    for names in drawn:
        for name in set(names):
            spellings[_key(name)][name] += 1
    spellings.pop("", None)
    groups = [_group(keys, spellings) for keys in _numbered_alike(spellings, drawn)]
    found = [described(structure, pattern, drawn) for structure, pattern in groups]
    return sorted(found, key=lambda proposal: (-proposal.found_in, proposal.structure.lower()))


def described(structure: str, pattern: str, drawn: Sequence[Sequence[str]]) -> Proposal:
    """What a pattern would match in the names of each segmentation."""
    hits = [set(matching(names, [pattern])) for names in drawn]
    return Proposal(
        structure,
        pattern,
        dict(Counter(name for names in hits for name in names).most_common()),
        sum(bool(names) for names in hits),
        sum(len(names) > 1 for names in hits),
    )


def _key(name: str) -> str:
    return SEPARATORS.sub("", name).lower()


def _without_number(key: str) -> str:
    return re.sub(r"\d+$", "", key)


def _numbered_alike(
    spellings: dict[str, Counter[str]], drawn: Sequence[Sequence[str]]
) -> list[tuple[str, ...]]:
    """The keys that are one structure."""
    families: dict[str, list[str]] = defaultdict(list)
    for key in spellings:
        families[_without_number(key) or key].append(key)
    together = [{_key(name) for name in names} for names in drawn]
    found: list[tuple[str, ...]] = []
    for family in families.values():
        apart = any(len(keys & set(family)) > 1 for keys in together)
        found += [(key,) for key in family] if apart else [tuple(family)]
    return found


def _group(keys: Sequence[str], spellings: dict[str, Counter[str]]) -> tuple[str, str]:
    """The name of a structure, and a pattern that finds its names and nobody else's."""
    own: Counter[str] = sum((spellings[key] for key in keys), Counter())
    usual = min(own, key=lambda name: (-own[name], name))
    words = [re.escape(word) for word in SEPARATORS.split(usual.strip()) if word]
    number = len(keys) > 1
    if number:
        words[-1] = re.sub(r"\d+$", "", words[-1])
        words = [word for word in words if word]
    pattern = BETWEEN.join(words) + (f"{BETWEEN}\\d*" if number else "")
    if set(matching(list(own), [pattern])) != set(own):  # spaces before or behind, and the like
        pattern = "|".join(re.escape(name) for name in sorted(own))
    structure = re.sub(r"[\s_.\-]*\d+$", "", usual) if number else usual
    return _as_a_name(structure), pattern


def _as_a_name(text: str) -> str:
    """A structure's name is a DICOM LO too: 64 characters without a backslash."""
    return text.strip().replace("\\", "_")[:64].strip()
