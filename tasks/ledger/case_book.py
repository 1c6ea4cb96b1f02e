"""Every case that was ever used: its image, its label, who drew it, when it came. Append only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tasks.ledger.journal import Journal


@dataclass(frozen=True)
class BookedCase:
    """A case as it stood at a snapshot.

    Attributes
    ----------
    patient
        Keyed hash.
    image, label
        Keys of the store; no label: nobody has segmented it.
    segmentation
        The keyed stand-in for the SOPInstanceUID of the segmentation that counts.
    drawn_by
        Keyed hash of the first author that the segmentation names: the same hand, the same hash.
    arrived
        The snapshot that brought the segmentation; without one, the image.
    """

    patient: str
    image: str
    label: str | None
    segmentation: str | None
    drawn_by: str | None
    arrived: str


def book_cases(path: Path, snapshot: str, cases: Mapping[str, BookedCase]) -> None:
    """Write down the cases that are new or changed."""
    known = {case_id: history[-1] for case_id, history in load_cases(path).items()}
    rows = {case_id: asdict(case) for case_id, case in sorted(cases.items())}
    changed = {
        case_id: row
        for case_id, row in rows.items()
        if row != {key: value for key, value in known.get(case_id, {}).items() if key != "snapshot"}
    }
    if changed:
        Journal(path).append({"snapshot": snapshot, "cases": changed})


def load_cases(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Case id → what it was, oldest first, each with the ``snapshot`` at which it was noted."""
    cases: dict[str, list[dict[str, Any]]] = {}
    for entry in Journal(path).entries():
        for case_id, row in entry["cases"].items():
            cases.setdefault(case_id, []).append({**row, "snapshot": entry["snapshot"]})
    return cases
