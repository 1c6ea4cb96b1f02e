"""What people have said of images that wait for them: who takes them, and what is to be left. Append only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from tasks.ledger.journal import Journal, now


@dataclass(frozen=True)
class Mark:
    """What is said of an image.

    Attributes
    ----------
    assigned
        Who is to correct it.
    locked
        Somebody is at it: it stays on top, and no newer prediction is sent meanwhile.
    flagged
        To be looked at by somebody else.
    skipped
        Not worth anybody's time: at the end of the list.
    """

    assigned: str = ""
    locked: bool = False
    flagged: bool = False
    skipped: bool = False


def load_marks(path: Path) -> dict[str, Mark]:
    """Case id → what was said of it last."""
    entries = Journal(path).entries()
    return {case_id: Mark(**mark) for entry in entries for case_id, mark in entry["marks"].items()}


def note_marks(path: Path, marks: Mapping[str, Mark]) -> None:
    """Write down what is new."""
    known = load_marks(path)
    new = {case_id: asdict(mark) for case_id, mark in marks.items() if mark != known.get(case_id, Mark())}
    if new:
        Journal(path).append({"at": now(), "marks": new})
