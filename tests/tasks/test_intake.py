"""Odd files beside a delivery, and both converters through the same step."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_factory import write_rois, write_series

from tasks.conversion import to_convert
from tasks.convert import convert_case
from tasks.dicom.image import place
from tasks.errors import CaseRejected, UserDataError
from tasks.ingest import take_delivery
from tasks.ledger.files import sha256_of_file
from tasks.ledger.journal import Journal
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.snapshots import load_snapshots
from tasks.ledger.store import Store
from tasks.review.scores import dice
from tasks.settings.dataset import DatasetSettings, RoiPatterns
from tasks.state import state_at

SHAPE = (6, 20, 24)


def take(source: Path) -> dict[str, Any]:
    return take_delivery.fn("D", source, date(2026, 11, 23))


def test_names_that_are_no_utf8_come_back_as_they_were(home: Path, tmp_path: Path) -> None:
    root = tmp_path / "in"
    write_series(root, SHAPE)
    name = os.fsdecode(b"M\xfcller.txt")
    (root / name).write_text("no DICOM")
    assert take(root)["files"]["ignored"] == 1
    (snapshot,) = load_snapshots(DatasetPaths.of("D"))
    assert name in {row.path for row in snapshot.files}


def test_a_pipe_is_not_waited_for(home: Path, tmp_path: Path) -> None:
    root = tmp_path / "in"
    write_series(root, SHAPE)
    os.mkfifo(root / "pipe")
    assert take(root)["files"] == {"taken": 6, "duplicate": 0, "rejected": 1, "ignored": 0}


def test_a_large_stranger_is_hashed_and_not_held_in_memory(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.delivery.LARGE_BYTES", 1000)
    root = tmp_path / "in"
    write_series(root, SHAPE)
    (root / "film.avi").write_bytes(b"x" * 5000)
    assert take(root)["reasons"] == {"no-dicom": 1}
    (snapshot,) = load_snapshots(DatasetPaths.of("D"))
    (row,) = (row for row in snapshot.files if row.state == "ignored")
    assert row.sha256 == sha256_of_file(root / "film.avi")


def test_who_must_have_them_gets_the_masks_of_imgtools(home: Path, sarcoma: Path) -> None:
    """`converter: imgtools`, through the same step as every conversion, under a key of its own."""
    take(sarcoma / "STS_002" / "CT")
    paths = DatasetPaths.of("D")
    rois = RoiPatterns.model_validate({"GTV": "GTV.*"})
    labels = {}
    for converter in ("iterseg", "imgtools"):
        settings = DatasetSettings(
            converter=converter,  # type: ignore[arg-type]
            mask_strategy="priority",
            several_rois="merge",
        )
        (case,) = state_at(paths, settings)[0].images
        job = to_convert(case, settings, rois)
        convert_case(job, Store(paths.store), settings, rois)
        label = Store(paths.store).label(job.case_id, job.label_key or "")
        labels[converter] = sitk.GetArrayFromImage(sitk.ReadImage(str(label))) > 0
    assert dice(labels["iterseg"], labels["imgtools"]) == pytest.approx(0.94, abs=0.02)


def test_nothing_is_taken_while_a_snapshot_is_lost(home: Path, tmp_path: Path) -> None:
    """It would get the lost one's name."""
    write_series(tmp_path / "in", SHAPE)
    Journal(DatasetPaths.of("D").snapshots).append({"snapshot": "2026-11-23__D", "manifest_sha256": "x"})
    with pytest.raises(UserDataError, match="2026-11-23__D: on record, and not in"):
        take(tmp_path / "in")


@pytest.mark.parametrize("covered", [False, True])
def test_imgtools_may_not_leave_a_structure_without_a_voxel(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, covered: bool
) -> None:
    """With `priority` the later one wins: a CTV that stands after the GTV covers it."""
    series = write_series(tmp_path / "in" / "ct", SHAPE)
    whole, part = np.zeros(SHAPE, dtype=bool), np.zeros(SHAPE, dtype=bool)
    whole[2:4, 5:9, 5:9] = True
    part[2, 5:7, 5:7] = True
    write_rois(tmp_path / "in" / "rt", series, {"GTV": part, "CTV": whole & ~part})
    take(tmp_path / "in")
    paths = DatasetPaths.of("D")
    rois = RoiPatterns.model_validate({"GTV": "GTV", "CTV": "CTV"})
    settings = DatasetSettings(converter="imgtools", mask_strategy="priority", several_rois="merge")
    (case,) = state_at(paths, settings)[0].images

    def convert(_files: Any, _drawn: Any, _rules: Any, image: Path, label: Path) -> None:
        made = sitk.GetImageFromArray(np.where(part & (not covered), 1, 2 * whole).astype(np.uint8))
        place(made, series.grid)
        for file in (image, label):
            sitk.WriteImage(made, str(file))

    monkeypatch.setattr("tasks.convert.convert_with_imgtools", convert)
    job = to_convert(case, settings, rois)
    if not covered:
        convert_case(job, Store(paths.store), settings, rois)
        return
    with pytest.raises(CaseRejected, match="imgtools-failed: its mask of 'GTV' has a Dice of 0.00"):
        convert_case(job, Store(paths.store), settings, rois)
    assert not Store(paths.store).label(job.case_id, job.label_key or "").is_file()
