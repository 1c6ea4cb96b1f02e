"""A record for people: a number for each structure, given once and never to another name.

It decides no label. Within a lineage a structure's label is its place in the ROI file, since nnU-Net asks for
labels without gaps. A later lineage may have other structures in another order; here one sees which of them
are the same, and a name that was dropped keeps its number.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tasks.ledger.journal import Journal


def load_registry(path: Path) -> dict[str, int]:
    """Structure → its number, of everything that was ever trained."""
    return {name: number for entry in Journal(path).entries() for name, number in entry["labels"].items()}


def register(path: Path, structures: Iterable[str], lineage: int) -> dict[str, int]:
    """Give each structure that is new the next number; returns the whole registry."""
    known = load_registry(path)
    new = {
        name: number
        for number, name in enumerate(
            (name for name in structures if name not in known), start=max(known.values(), default=0) + 1
        )
    }
    if new:
        Journal(path).append({"lineage": lineage, "labels": new})
    return known | new
