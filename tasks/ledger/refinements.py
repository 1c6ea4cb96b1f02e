"""What became of predictions: which came back, edited or not, and which were declared right. Append only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from tasks.ledger.case_book import load_cases
from tasks.ledger.journal import Journal, now
from tasks.ledger.paths import DatasetPaths

Kind = Literal["edited", "unedited", "new", "unsettled"]
Evidence = Literal["instance", "predecessor", "series", "tracking", "overlap", ""]


@dataclass(frozen=True)
class Refinement:
    """A segmentation of an image for which a prediction had been handed out.

    Attributes
    ----------
    case_id
        Of the image.
    kind
        ``edited`` or ``unedited``: a prediction that came back. ``new``: drawn by somebody by themselves.
        ``unsettled``: nobody could tell yet; it is looked at again by the next ingest.
    evidence
        By what it was known for one of our predictions, see :mod:`tasks.refine`.
    prediction, model
        SOPInstanceUID of what was handed out, and the model that predicted it.
    declared
        Whether a person has said that it is right as it is.
    arrived
        The snapshot that brought it.
    effort
        Structure → :class:`tasks.review.effort.Effort`; empty where the prediction is gone.
    """

    case_id: str
    kind: Kind
    evidence: Evidence
    prediction: str | None
    model: str | None
    declared: bool
    arrived: str
    effort: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def is_a_persons(self) -> bool:
        """A prediction that comes back as it went is nobody's work, unless somebody stands for it."""
        return self.kind in ("edited", "new") or self.declared


def load_refinements(path: Path) -> dict[str, Refinement]:
    """Keyed stand-in of a segmentation's SOPInstanceUID → what it is."""
    entries = Journal(path).entries()
    return {uid: Refinement(**row) for entry in entries for uid, row in entry["segmentations"].items()}


def note_refinements(path: Path, found: Mapping[str, Refinement]) -> None:
    """Write down what was recognised."""
    if found:
        Journal(path).append({"segmentations": {uid: asdict(row) for uid, row in found.items()}})


def drawn_over(paths: DatasetPaths, model_id: str, labels: Mapping[str, str]) -> set[str]:
    """Of these cases (case id → key of its label) those whose label began as a prediction of a model."""
    noted, booked = load_refinements(paths.refinements), load_cases(paths.cases)
    came_back = {uid for uid, row in noted.items() if row.model == model_id and row.kind != "new"}
    return {
        case_id
        for case_id, label in labels.items()
        if any(row["label"] == label and row["segmentation"] in came_back for row in booked.get(case_id, []))
    }


def load_acceptances(path: Path) -> set[str]:
    """SOPInstanceUIDs of predictions that a person has declared to be right."""
    return {uid for entry in Journal(path).entries() for uid in entry["predictions"]}


def note_acceptances(path: Path, predictions: Iterable[str]) -> None:
    """Write down that a person has declared these predictions to be right."""
    new = sorted(set(predictions) - load_acceptances(path))
    if new:
        Journal(path).append({"at": now(), "predictions": new})
