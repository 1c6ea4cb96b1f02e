"""Where a patient belongs, for ever: to a fold, or to the test set. Append only.

Who is in the test set is settled when a patient is first seen, labelled or not, so that nobody ever
draws a test case over a prediction. A fold is given with the first label. Neither changes again: what
validates a model was never trained on by its ancestors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from tasks.errors import ConfigError, UserDataError
from tasks.ledger.journal import Journal

TEST = "test"
TRAINING = "training"
"""Not in the test set, and in no fold yet."""


@dataclass(frozen=True)
class PatientTable:
    """Patient (keyed hash) → ``"test"``, the number of a fold, or ``"training"`` without a label yet."""

    folds: int
    place: dict[str, str | int]

    @property
    def test(self) -> set[str]:
        """The patients of the test set."""
        return {patient for patient, place in self.place.items() if place == TEST}


def load_patients(path: Path) -> PatientTable | None:
    """Read the table; None where no patient has been seen."""
    entries = Journal(path).entries()
    if not entries:
        return None
    place: dict[str, str | int] = {}
    for entry in entries:
        place |= entry["patients"]
    return PatientTable(entries[0]["folds"], place)


def places_of_patients(path: Path) -> dict[str, str | int]:
    """Patient (keyed hash) → fold or ``"test"``; empty where no patient has been seen."""
    table = load_patients(path)
    return table.place if table else {}


def extend_patients(
    path: Path,
    labelled: Iterable[str],
    folds: int,
    test_share: float,
    withdrawn: Collection[str] = (),
    *,
    unlabelled: Iterable[str] = (),
    snapshot: str = "",
    every_fold: bool = True,
) -> PatientTable:
    """Give every patient that is new a place, and keep all others where they are.

    New patients are taken in the order of their keyed hash, which is random and cannot be steered. Of
    those that come with a label and of those that come without one the same share, rounded, is put
    into the test set; of the rest the labelled ones go to the smallest fold. Patients that have been
    withdrawn keep their place, which nobody else gets, and do not count for the balance.

    Parameters
    ----------
    labelled, unlabelled
        The patients (keyed hash) of the dataset with a case that is labelled, and the others.
    snapshot
        What the new ones came with; it stands in the record.
    every_fold
        Whether each fold must have a patient, as for a training.

    Raises
    ------
    ConfigError
        Where the number of folds differs from that of the first time.
    UserDataError
        Where a fold would have no patient to validate on.
    """
    known = load_patients(path)
    if known is not None and known.folds != folds:
        raise ConfigError(
            f"this dataset was divided into {known.folds} folds when it was first seen, and "
            f"`folds` is {folds} now. Folds stay for ever: set it back"
        )
    before = dict(known.place) if known else {}
    drawn = set(labelled)
    place = _with_new_ones(before, drawn, set(unlabelled) - drawn, folds, test_share, set(withdrawn))
    present = {patient: p for patient, p in place.items() if patient not in withdrawn and p != TRAINING}
    if every_fold and len({p for p in present.values() if p != TEST}) < folds:
        raise UserDataError(
            f"{folds} folds need a patient each beside the test set, and there are "
            f"{len(drawn & present.keys())} labelled patients, "
            f"{sum(present[p] == TEST for p in drawn & present.keys())} of them in "
            "the test set. Label more patients, or set fewer `folds`"
        )
    changed = {patient: p for patient, p in place.items() if before.get(patient) != p}
    if changed:
        Journal(path).append({"snapshot": snapshot, "folds": folds, "patients": changed})
    return PatientTable(folds, place)


def _with_new_ones(
    before: dict[str, str | int],
    labelled: set[str],
    unlabelled: set[str],
    folds: int,
    test_share: float,
    withdrawn: set[str],
) -> dict[str, str | int]:
    place = dict(before)
    for group in (labelled, unlabelled):
        # Whoever was first seen without a label and has one now keeps what was settled then.
        known = group & before.keys() - withdrawn
        in_test, size = sum(place[p] == TEST for p in known), len(known)
        for patient in sorted(group - before.keys()):
            to_test = in_test < round(test_share * (size + 1))
            place[patient] = TEST if to_test else TRAINING
            size, in_test = size + 1, in_test + to_test
    sizes = Counter(p for patient, p in place.items() if isinstance(p, int) and patient not in withdrawn)
    for patient in sorted(labelled):
        if place[patient] == TRAINING:
            place[patient] = min(range(folds), key=lambda fold: (sizes[fold], fold))
            sizes[int(place[patient])] += 1
    return place
