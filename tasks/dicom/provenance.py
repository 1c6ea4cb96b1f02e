"""What an object says of where it comes from, as far as viewers leave it in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from tasks.dicom.headers import read_dataset
from tasks.dicom.predicted import is_approved

PREDECESSORS = ("PredecessorDocumentsSequence", "PredecessorStructureSetSequence")
"""(0040,A360), which OHIF writes, and (3006,0018)."""


@dataclass(frozen=True)
class Provenance:
    """The traces that an object carries of another one.

    Attributes
    ----------
    predecessors
        SOPInstanceUIDs of what it says it was made from.
    tracking
        TrackingUIDs of its segments.
    approved
        Whether a person has set its ApprovalStatus (300E,0002) to APPROVED.
    """

    sop_instance_uid: str
    series_instance_uid: str
    predecessors: frozenset[str]
    tracking: frozenset[str]
    approved: bool


def provenance_of(path: Path) -> Provenance:
    """Read the traces; the file is one that :func:`tasks.dicom.headers.parse` has taken."""
    dataset = read_dataset(path)
    segments = dataset.get("SegmentSequence") or []
    return Provenance(
        str(dataset.SOPInstanceUID),
        str(dataset.SeriesInstanceUID),
        frozenset(_referenced(dataset, PREDECESSORS)),
        frozenset(str(item.TrackingUID) for item in segments if item.get("TrackingUID")),
        is_approved(dataset),
    )


def _referenced(dataset: Dataset, keywords: tuple[str, ...]) -> Iterator[str]:
    for keyword in keywords:
        for item in dataset.get(keyword) or []:
            yield from _instances(item)


def _instances(item: Dataset) -> Iterator[str]:
    """Every instance that is referred to, at whatever depth."""
    for element in item:
        value: Any = element.value
        if element.keyword == "ReferencedSOPInstanceUID":
            yield str(value)
        elif element.VR == "SQ":
            for inner in value:
                yield from _instances(inner)
