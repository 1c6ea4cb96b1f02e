"""Folders that are called after a day and a dataset: snapshots and iterations."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import total_ordering
from pathlib import Path

_DATED = re.compile(r"(\d{4}-\d{2}-\d{2})(?:\.(\d+))?__(.+)")
_LIKE_A_DATE = re.compile(r"(?:19|20)\d\d([-_. ]?)(?:0\d|1[0-2])\1(?:[0-2]\d|3[01])(?!\d)")


@total_ordering
@dataclass(frozen=True)
class DatedName:
    """``<YYYY-MM-DD>__<dataset_id>``; the second of a day is ``<YYYY-MM-DD>.2__<dataset_id>``."""

    day: date
    number: int
    dataset_id: str

    @classmethod
    def parse(cls, name: str, dataset_id: str) -> DatedName | None:
        """Read a folder's name; None where it is not one of this dataset's."""
        match = _DATED.fullmatch(name)
        if match is None or match[3] != dataset_id:
            return None
        try:
            found = cls(date.fromisoformat(match[1]), int(match[2] or 1), dataset_id)
        except ValueError:
            return None
        return found if str(found) == name else None  # 2026-11-23.1 would be another folder of one name

    def __str__(self) -> str:
        return f"{self.short}__{self.dataset_id}"

    @property
    def short(self) -> str:
        """The name without the dataset: ``2026-11-23`` or ``2026-11-23.2``."""
        return f"{self.day}.{self.number}" if self.number > 1 else f"{self.day}"

    def __lt__(self, other: DatedName) -> bool:
        return (self.day, self.number) < (other.day, other.number)

    def first_free(self, is_taken: Callable[[DatedName], bool]) -> DatedName:
        """The name itself, or the next of its day that is not taken."""
        name = self
        while is_taken(name):
            name = DatedName(name.day, name.number + 1, name.dataset_id)
        return name


def misnamed_folders(parent: Path, dataset_id: str) -> int:
    """How many folders are meant to be dated and are not called as :class:`DatedName` has it."""
    there = [p.name for p in parent.iterdir() if p.is_dir()] if parent.is_dir() else []
    meant = [n for n in there if _LIKE_A_DATE.match(n) or n.endswith(f"__{dataset_id}")]
    return sum(DatedName.parse(name, dataset_id) is None for name in meant)


def dated_folders(parent: Path, dataset_id: str) -> dict[DatedName, Path]:
    """The dated folders of a dataset below ``parent``, oldest first."""
    if not parent.is_dir():
        return {}
    named = {DatedName.parse(p.name, dataset_id): p for p in parent.iterdir() if p.is_dir()}
    return {name: named[name] for name in sorted(n for n in named if n is not None)}
