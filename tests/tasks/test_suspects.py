"""Pictures of labels to look at again are made once, and only while they are of today."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_factory import write_series
from predicted_lab import a_model
from trained_models import case, iteration

import tasks.suspects
from tasks.dicom.case import Case, DicomFile
from tasks.dicom.headers import describe, read_dataset
from tasks.ledger.iteration_paths import fold_folder, validation_prediction
from tasks.ledger.models import ModelRecord
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.store import Store
from tasks.review.suspects import Suspect
from tasks.suspects import pictured_suspects

SHAPE = (5, 20, 24)


@pytest.fixture
def model(home: Path, monkeypatch: pytest.MonkeyPatch) -> ModelRecord:
    """Its out-of-fold prediction of a case lacks the structure on the third and fourth slice."""
    paths = DatasetPaths.of("D")
    record = a_model(paths, ["GTV"])
    own = iteration("2026-11-20__D", [case(1, 0, "l")])
    monkeypatch.setattr(tasks.suspects, "load_iteration", lambda _: own)
    monkeypatch.setattr(tasks.suspects, "suspects_of", lambda *_: [Suspect("case1", "GTV", 0.1, 0.9)])
    label = np.zeros(SHAPE, dtype=np.uint8)
    label[1:4, 5:15, 5:15] = 1
    predicted = label.copy()
    predicted[2, 5:15, 5:15] = 0
    predicted[3, 5:9, 5:15] = 0
    fold = fold_folder(paths.home / record.folder, 0)
    store = Store(paths.store)
    files = {
        store.image("case1", "i"): label,
        store.label("case1", "l"): label,
        validation_prediction(fold, "case1"): predicted,
    }
    for file, array in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(sitk.GetImageFromArray(array), str(file))
    return record


def scan(folder: Path, slices: int = 5) -> dict[str, Case]:
    """The case as the dataset has it; its slices are numbered from 1."""
    files = write_series(folder / "ct", (slices, *SHAPE[1:])).files
    found = [DicomFile(file, describe(read_dataset(file), str), "", file) for file in files]
    return {"case1": Case("case1", "1.2", "CT", "p1", found)}


def test_it_shows_where_they_differ_by_the_numbers_of_a_viewer(model: ModelRecord, tmp_path: Path) -> None:
    (found,) = pictured_suspects(DatasetPaths.of("D"), model, scan(tmp_path), 9)
    assert found.slices == [3, 4]
    assert found.picture[:4] == b"RIFF"


def test_a_picture_is_made_once(model: ModelRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command that writes the page would read hundreds of volumes."""
    paths, today = DatasetPaths.of("D"), scan(tmp_path)
    first = pictured_suspects(paths, model, today, 9)
    monkeypatch.setattr(tasks.suspects, "montage", lambda *_: pytest.fail("made again"))
    assert pictured_suspects(paths, model, today, 9) == first
    assert [file.name[:6] for file in paths.suspects.iterdir()] == ["case1-"]


def test_those_of_a_former_model_go(model: ModelRecord, tmp_path: Path) -> None:
    paths, today = DatasetPaths.of("D"), scan(tmp_path)
    pictured_suspects(paths, model, today, 9)
    before = set(paths.suspects.iterdir())
    pictured_suspects(paths, replace(model, created="2026-11-21T20:00:00+00:00"), today, 9)
    assert set(paths.suspects.iterdir()).isdisjoint(before)
    assert len(list(paths.suspects.iterdir())) == 1
    assert pictured_suspects(paths, model, {}, 9) == []
    assert list(paths.suspects.iterdir()) == []


@pytest.mark.parametrize("change", ["grown", "gone"])
def test_a_series_that_is_another_by_now_gives_no_numbers(
    model: ModelRecord, tmp_path: Path, change: str
) -> None:
    """And a page that is written behind a promotion must not fail for it."""
    today = scan(tmp_path, slices=6 if change == "grown" else 5)
    if change == "gone":
        for file in today["case1"].files:
            file.path.unlink()
    (found,) = pictured_suspects(DatasetPaths.of("D"), model, today, 9)
    assert (found.slices, found.picture[:4]) == ([], b"RIFF")


def test_of_very_many_the_worst_are_shown(model: ModelRecord, tmp_path: Path) -> None:
    assert pictured_suspects(DatasetPaths.of("D"), model, scan(tmp_path), 0) == []
