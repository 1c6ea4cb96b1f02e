"""Whose voxels were used, for ever: one scan may come under two identities. Append only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tasks.ledger.journal import Journal


@dataclass(frozen=True)
class Scans:
    """What any iteration was of.

    Attributes
    ----------
    patients
        Fingerprint of an image's voxels (:func:`tasks.ledger.images.fingerprint`) → the patient (keyed hash)
        under whom it was used first.
    images
        The id of each case and the key of its image.
    """

    patients: dict[str, str] = field(default_factory=dict)
    images: set[tuple[str, str]] = field(default_factory=set)


def load_scans(path: Path) -> Scans:
    """Read the file; nothing was used where there is none."""
    found = Scans()
    for entry in Journal(path).entries():
        for case_id, (image_key, fingerprint, patient) in entry["scans"].items():
            found.patients.setdefault(fingerprint, patient)
            found.images.add((case_id, image_key))
    return found


def note_scans(path: Path, snapshot: str, scans: Mapping[str, tuple[str, str, str]]) -> None:
    """Note the images of an iteration: case id → key of the image, fingerprint, patient."""
    if scans:
        Journal(path).append({"snapshot": snapshot, "scans": {k: list(v) for k, v in scans.items()}})
