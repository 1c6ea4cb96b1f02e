"""The first choices of a dataset are files that the program takes, written once and never over others."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.errors import ConfigError
from tasks.new_dataset import Beginning, folds_for, write
from tasks.settings.dataset import check_choices


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


@pytest.mark.parametrize(("patients", "folds"), [(0, 2), (3, 2), (5, 2), (6, 3), (9, 4), (10, 5), (500, 5)])
def test_a_fold_has_two_patients_at_least(patients: int, folds: int) -> None:
    assert folds_for(patients) == folds
