"""Iterations: what was prepared from which cases, and where each patient stood."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from tasks.errors import UserDataError
from tasks.labels import Labels, MaskStrategy
from tasks.ledger.dated import DatedName, dated_folders
from tasks.ledger.files import read_json
from tasks.ledger.iteration_paths import IterationPaths
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.patients import TEST

Contender = Literal["fold", "control"]
"""A fold that starts warm from the parent, or from scratch where there is none; one that races it."""


@dataclass(frozen=True)
class Iteration:
    """A prepared iteration, as ``iteration.json`` keeps it.

    ``cases`` have ``case_id``, ``patient`` (keyed hash), ``place`` (a fold or ``"test"``),
    ``image_key`` and ``label_key``. ``digest`` is of everything that decides what is learned.
    ``partial``: label maps may hold the ignore label. ``ledger`` has the digest at which each journal of
    the ledger stood, ``code`` what preprocessed the cases besides the plans, ``choices`` the ROI patterns
    and the dataset's settings as they were: with the raw data all that its labels follow from.
    """

    name: str
    digest: str
    parent: str | None
    modality: str
    structures: list[str]
    configuration: str
    plans_name: str
    preparation: str
    folds: int
    cases: list[dict[str, Any]]
    mask_strategy: MaskStrategy = "label_image"
    partial: bool = False
    lineage: int = 1
    ledger: dict[str, str | None] = field(default_factory=dict)
    code: str = ""
    choices: dict[str, Any] = field(default_factory=dict)

    @property
    def labels(self) -> Labels:
        """Which integers are which structure."""
        return Labels(self.structures, self.mask_strategy)

    def fold_of_cases(self, fold: int) -> list[dict[str, Any]]:
        """The validation cases of a fold."""
        return [case for case in self.cases if case["place"] == fold]

    def training_cases(self) -> list[dict[str, Any]]:
        """All cases outside the test set."""
        return [case for case in self.cases if case["place"] != TEST]

    def test_cases(self) -> list[dict[str, Any]]:
        """The held-out cases."""
        return [case for case in self.cases if case["place"] == TEST]


def load_iteration(at: IterationPaths) -> Iteration | None:
    """Read the record of an iteration; None where it was never finished."""
    if not at.record.is_file():
        return None
    content = read_json(at.record)
    content.pop("version")
    return Iteration(**content)


def load_iterations(paths: DatasetPaths) -> dict[DatedName, Iteration]:
    """Every iteration that was finished, the oldest first."""
    folders = dated_folders(paths.procdata, paths.dataset_id).items()
    found = ((name, load_iteration(IterationPaths(folder))) for name, folder in folders)
    return {name: iteration for name, iteration in found if iteration is not None}


def newest_iteration(
    paths: DatasetPaths, day: str | None = None, name: str | None = None, lineage: int | None = None
) -> Iteration:
    """The newest prepared iteration, the newest of a day or of a lineage, or the one of a name.

    Raises
    ------
    UserDataError
        Where there is none.
    """
    found = [
        iteration
        for dated, iteration in load_iterations(paths).items()
        if (day is None or str(dated.day) == day) and (name is None or str(dated) == name)
        if lineage in (None, iteration.lineage)
    ]
    if not found:
        wanted = f" {name}" if name else f" of {day}" if day else ""
        raise UserDataError(
            f"{paths.dataset_id} has no prepared iteration{wanted}. Run `iterseg prepare {paths.dataset_id}`"
        )
    return found[-1]
