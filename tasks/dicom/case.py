"""A case: an image series and the segmentation that counts for it, or why none does."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Literal, NamedTuple

from tasks.dicom.headers import Header
from tasks.dicom.reasons import Reason

CaseState = Literal["pending", "done", "rejected", "ignored"]
"""``pending``: it is labelled, and not converted yet."""
CASE_ID_BYTES = 8
"""64 bits: a collision is unlikely (1e-10) below 60,000 series."""


class DicomFile(NamedTuple):
    """A file that a snapshot took."""

    location: str | Path
    sha256: str
    header: Header
    arrival: int
    """The position of its snapshot among all: larger is later."""
    day: date = date.min
    """The date of its snapshot; one date may have several."""
    sealed: int | None = None
    """The position of its snapshot among all in the order in which they were sealed, if that is another
    one: a folder that was filled by hand may bear an earlier day."""

    @property
    def came(self) -> int:
        """When it was there to be looked at: larger is later."""
        return self.arrival if self.sealed is None else self.sealed

    @property
    def path(self) -> Path:
        """Where it lies; made when it is asked for: a dataset has hundreds of thousands of slices."""
        return Path(self.location)


@dataclass
class Case:
    """An image series with its segmentation, or why it has none that can be used."""

    case_id: str
    series_instance_uid: str
    kind: str
    patient: str
    files: list[DicomFile]
    segmentation: DicomFile | None = None
    state: CaseState = "ignored"
    reason: str | None = Reason.UNLABELLED.value
    detail: str = ""

    def settle(self, state: CaseState, reason: str | None, detail: str = "") -> None:
        """Say what became of the case."""
        self.state, self.reason, self.detail = state, reason, detail


@dataclass
class Assembly:
    """All series of a dataset: the images, and the segmentations that did not become a label."""

    images: list[Case] = field(default_factory=list)
    segmentations: list[Case] = field(default_factory=list)

    def set_aside(self, file: DicomFile, state: CaseState, reason: Reason, detail: str) -> None:
        """Add the row of a segmentation that does not count."""
        header = file.header
        # Several objects may share a series; the instance tells them apart.
        case = Case(
            case_id_of(header.sop_instance_uid),
            header.series_instance_uid,
            header.kind,
            header.patient,
            [file],
        )
        case.settle(state, reason.value, f"{header.kind} {header.sop_instance_uid}: {detail}")
        self.segmentations.append(case)


def case_id_of(series_instance_uid: str) -> str:
    """The id of a case: 16 hex digits made from the image's SeriesInstanceUID."""
    digest = hashlib.blake2b(series_instance_uid.encode(), digest_size=CASE_ID_BYTES)
    return f"case{digest.hexdigest()}"


def case_ids_of(series_instance_uid: str, stand_in: Callable[[str], str]) -> tuple[str, str]:
    """The ids of a case: as its image came, and under the keyed UID that stands for the image's.

    Who was withdrawn from a de-identified dataset is out also when the scan is shown in the clear.
    """
    return case_id_of(series_instance_uid), case_id_of(stand_in(series_instance_uid))
