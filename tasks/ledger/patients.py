"""Which fold a patient belongs to, for ever. Append only.

A patient goes to one fold or to the test set when first seen, and stays, so that what validates a
model was never trained on by its ancestors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from tasks.errors import ConfigError, UserDataError
from tasks.ledger.files import read_json, write_json

TEST = "test"


@dataclass(frozen=True)
class PatientTable:
    """Patient (keyed hash) → ``"test"`` or the number of a fold."""

    folds: int
    place: dict[str, str | int]


def load_patients(path: Path) -> PatientTable | None:
    """Read the table; None where no patient has been seen."""
    if not path.is_file():
        return None
    content = read_json(path)
    return PatientTable(content["folds"], content["patients"])


def extend_patients(
    path: Path,
    patients: Iterable[str],
    folds: int,
    test_share: float,
    withdrawn: Collection[str] = (),
) -> PatientTable:
    """Give every patient that is new a place, and keep all others where they are.

    New patients are taken in the order of their keyed hash, which is random and cannot be steered.
    The test set is filled to its share, rounded; the rest goes to the smallest fold. Patients that have
    been withdrawn keep their place, which nobody else gets, and do not count for the balance.

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
    place = dict(known.place) if known else {}
    new = sorted(set(patients) - set(place))
    present = {patient: p for patient, p in place.items() if patient not in withdrawn}
    for patient in new:
        in_test = sum(p == TEST for p in present.values())
        sizes = Counter(p for p in present.values() if p != TEST)
        smallest = min(range(folds), key=lambda fold: (sizes[fold], fold))
        to_test = in_test < round(test_share * (len(present) + 1))
        place[patient] = present[patient] = TEST if to_test else smallest
    filled = {p for p in present.values() if p != TEST}
    if len(filled) < folds:
        raise UserDataError(
            f"{folds} folds need a patient each beside the test set, and there are "
            f"{len(present)} labelled patients, {sum(p == TEST for p in present.values())} of them in "
            "the test set. Label more patients, or set fewer `folds`"
        )
    if new:
        write_json(path, {"version": 1, "folds": folds, "patients": place})
    return PatientTable(folds, place)
