"""The first choices of a dataset are files that the program takes, written once and never over others."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from flows.words_at_the_start import LEAST_PATIENTS
from tasks.errors import ConfigError
from tasks.ledger.patients import extend_patients
from tasks.new_dataset import LEAST_PATIENTS_A_FOLD, Beginning, folds_for, write
from tasks.settings.dataset import DatasetSettings, check_choices


def test_what_is_written_is_what_was_chosen(tmp_path: Path) -> None:
    structures = {"Lung: left": r"lung[ _.-]*l(eft)?|#1", "GTV": "yes"}
    chosen = Beginning("MR", structures, folds=3, merge=True, absences={"GTV": "absent"})
    write(tmp_path / "config", "D", chosen)
    rois, settings = check_choices(tmp_path / "config", "D")
    assert {name: patterns[0] for name, patterns in rois.root.items()} == structures
    kinds = ["MR", "RTSTRUCT", "SEG"]  # whichever was seen: the viewer may save the other one
    assert (settings.modalities, settings.folds, settings.several_rois) == (kinds, 3, "merge")
    assert settings.missing_structures == {"GTV": "absent"}


@pytest.mark.parametrize("existing", ["roi_D.yaml", "dataset_D.yaml"])
def test_what_came_into_being_meanwhile_stays(tmp_path: Path, existing: str) -> None:
    (tmp_path / existing).write_text("GTV: mine\n")
    with pytest.raises(ConfigError, match="exists; edit it"):
        write(tmp_path, "D", Beginning("CT", {"GTV": "GTV"}))
    assert [path.name for path in tmp_path.iterdir()] == [existing]


@pytest.mark.parametrize(
    ("patients", "folds"), [(0, 2), (4, 2), (5, 2), (7, 3), (8, 3), (10, 4), (12, 5), (500, 5)]
)
def test_a_fold_has_two_patients_at_least(patients: int, folds: int) -> None:
    assert folds_for(patients) == folds


@pytest.mark.parametrize("patients", range(LEAST_PATIENTS, 40))
def test_that_is_so_when_the_test_set_has_had_its_share(tmp_path: Path, patients: int) -> None:
    settings, folds = DatasetSettings(), folds_for(patients)
    names = {f"p{number}" for number in range(patients)}
    table = extend_patients(tmp_path / "patients.jsonl", names, folds, settings.test_share)
    sizes = Counter(table.place.values())
    assert min(sizes[fold] for fold in range(folds)) >= LEAST_PATIENTS_A_FOLD


def test_with_less_than_what_init_asks_for_a_fold_has_one_patient(tmp_path: Path) -> None:
    few = LEAST_PATIENTS - 1
    names = {f"p{number}" for number in range(few)}
    table = extend_patients(tmp_path / "patients.jsonl", names, folds_for(few), DatasetSettings().test_share)
    sizes = Counter(table.place.values())
    assert min(sizes[fold] for fold in range(folds_for(few))) < LEAST_PATIENTS_A_FOLD
