"""Who is kept back to be tested on, before anything is predicted."""

from __future__ import annotations

from pathlib import Path

from tasks.keep_test_set import patients_of_test_set
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.patients import TEST, TRAINING, extend_patients
from tasks.settings.dataset import DatasetSettings

SETTINGS = DatasetSettings(folds=2, test_share=0.5)
PATIENTS = [f"{n:02}" for n in range(10)]


def test_of_those_who_are_seen_for_the_first_time_a_share_is_kept_back(home: Path) -> None:
    test = patients_of_test_set.fn("D", PATIENTS, SETTINGS, from_outside=False)
    assert len(test) == 5
    assert patients_of_test_set.fn("D", PATIENTS, SETTINGS, from_outside=False) == test


def test_whoever_was_predicted_from_outside_is_never_tested_on(home: Path) -> None:
    """Their corrections may come back, drawn over a prediction."""
    assert patients_of_test_set.fn("D", PATIENTS, SETTINGS, from_outside=True) == set()
    table = extend_patients(DatasetPaths.of("D").patients, PATIENTS, 2, 0.5)
    assert {TEST, TRAINING}.isdisjoint(table.place.values())


def test_a_test_patient_is_not_predicted_from_outside_either(home: Path) -> None:
    table = extend_patients(DatasetPaths.of("D").patients, PATIENTS, 2, 0.5)
    test = patients_of_test_set.fn("D", PATIENTS[:3], SETTINGS, from_outside=True)
    assert test == table.test
