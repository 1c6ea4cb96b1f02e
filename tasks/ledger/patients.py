"""Where a patient belongs, for ever: to a fold, or to the test set. Append only.

Who is in the test set is settled when a patient is first seen, labelled or not, so that nobody ever
draws a test case over a prediction. A fold is given with the first label. Neither changes again: what
validates a model was never trained on by its ancestors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tasks.errors import ConfigError, UserDataError
from tasks.ledger.journal import Journal

TEST = "test"
TRAINING = "training"
"""Not in the test set, and in no fold yet."""
Came = Literal["labelled", "unlabelled", "shown"]
"""How a patient was first seen; ``shown``: from outside the dataset, only to be predicted."""


@dataclass(frozen=True)
class PatientTable:
    """Patient (keyed hash) → ``"test"``, the number of a fold, or ``"training"`` without a label yet."""

    folds: int
    place: dict[str, str | int]
    came: dict[str, Came] = field(default_factory=dict)
    """Patient → how they came; not of those of the test set whom an earlier IterSeg has placed."""

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
    came: dict[str, Came] = {}
    for entry in entries:
        for patient in entry["patients"].keys() - place.keys():
            # Earlier entries do not say it: who has got a fold at once had a label.
            at_once: Came = "unlabelled" if entry["patients"][patient] == TRAINING else "labelled"
            if patient in (said := entry.get("came", {})):
                came[patient] = said[patient]
            elif entry["patients"][patient] != TEST:
                came[patient] = at_once
        place |= entry["patients"]
    return PatientTable(entries[0]["folds"], place, came)


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
    shown: bool = False,
    whole: Collection[str] = (),
) -> PatientTable:
    """Give every patient that is new a place, and keep all others where they are.

    Those of one delivery are taken in the order of their keyed hash, which is random. Of all who came with
    a label and of all who came without one the same share, rounded, is put into the test set: how they
    came counts, and not what has been drawn since, or who was corrected would drive others into it. Of the
    rest the labelled ones go to the smallest fold, the ``whole`` ones first, so that these are spread as
    evenly. Patients that have been withdrawn keep their place, which nobody else gets, and do not count for
    the balance.

    Parameters
    ----------
    labelled, unlabelled
        The patients (keyed hash) of the dataset with a case that is labelled, and the others.
    snapshot
        What the new ones came with; it stands in the record.
    every_fold
        Whether each fold must have a patient, as for a training.
    shown
        Whether the new ones are only shown, from outside the dataset: none of them is put into the test set,
        and none counts for its share.
    whole
        Those with a label in which background is known, where not every label knows it.

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
    came, new = dict(known.came) if known else {}, (drawn | set(unlabelled)) - before.keys()
    how: dict[str, Came] = {p: "shown" if shown else "labelled" if p in drawn else "unlabelled" for p in new}
    groups = (("labelled", drawn), ("unlabelled", set(unlabelled) - drawn))
    counted = {
        name: {p for p in before if came.get(p, name if p in group else "") == name} - set(withdrawn)
        for name, group in groups
    }
    share = 0.0 if shown else test_share
    place = _to_test_or_training(before, dict(groups), counted, share)
    _give_folds(place, drawn, folds, set(withdrawn), set(whole))
    present = {patient: p for patient, p in place.items() if patient not in withdrawn and p != TRAINING}
    if every_fold and len({p for p in present.values() if p != TEST}) < folds:
        raise UserDataError(
            f"{folds} folds need a patient each beside the test set, and there are "
            f"{len(drawn & present.keys())} labelled patients, "
            f"{sum(present[p] == TEST for p in drawn & present.keys())} of them in "
            f"the test set. Label more patients{', or set fewer `folds`' if known is None else ''}"
        )
    changed = {patient: p for patient, p in place.items() if before.get(patient) != p}
    if changed:
        Journal(path).append({"snapshot": snapshot, "folds": folds, "patients": changed, "came": how})
    return PatientTable(folds, place, came | how)


def _to_test_or_training(
    before: dict[str, str | int],
    groups: Mapping[str, set[str]],
    counted: Mapping[str, set[str]],
    test_share: float,
) -> dict[str, str | int]:
    place = dict(before)
    for name, group in groups.items():
        in_test, size = sum(place[p] == TEST for p in counted[name]), len(counted[name])
        # Whoever was first seen without a label and has one now keeps what was settled then.
        for patient in sorted(group - before.keys()):
            to_test = in_test < round(test_share * (size + 1))
            place[patient] = TEST if to_test else TRAINING
            size, in_test = size + 1, in_test + to_test
    return place


def _give_folds(
    place: dict[str, str | int], labelled: set[str], folds: int, withdrawn: set[str], whole: set[str]
) -> None:
    present = {p: fold for p, fold in place.items() if isinstance(fold, int) and p not in withdrawn}
    sizes = Counter(present.values())
    wholes = Counter(fold for patient, fold in present.items() if patient in whole)
    for patient in sorted(labelled, key=lambda one: (one not in whole, one)):
        if place[patient] == TRAINING:
            # Of two folds of one size the other one is left to whoever comes next.
            sign = 1 if patient in whole else -1
            fold = min(range(folds), key=lambda fold: (sizes[fold], sign * wholes[fold], fold))
            place[patient] = fold
            sizes[fold] += 1
            wholes[fold] += patient in whole
