"""Two patients, of whom one will withdraw."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

from dicom_factory import ball, edit, write_rois, write_segments, write_series

from tasks.ingest import take_delivery
from tasks.ledger.paths import DatasetPaths
from tasks.settings.dataset import DatasetSettings, RoiPatterns
from tasks.state import state_at
from tasks.withdraw import withdraw_from_ledger

SHAPE = (6, 20, 24)
MASK = ball(SHAPE, (3, 8, 8), 3)
GONE = "XYZZY-0815"
DAY = date(2026, 11, 24)
SETTINGS = DatasetSettings(modalities="CT,RTSTRUCT,SEG", arrival_quiet_s=0)
ROIS = RoiPatterns.model_validate({"GTV": "GTV"})


def two_patients(folder: Path) -> DatasetPaths:
    """Two patients; the one who will withdraw has two labelled scans, one with a second opinion."""
    for name, patient in (("a", GONE), ("b", GONE), ("c", "P-2")):
        series = write_series(folder / "in" / name, SHAPE, name=name, patient=patient)
        write_rois(folder / "in" / f"{name}-rt", series, {"GTV": MASK}, name=f"{name}-rt")
        if name == "a":
            write_segments(folder / "later" / "seg", series, MASK.astype(int), ["GTV"])
            conflict = folder / "later" / "conflict"
            conflict.write_bytes(series.files[0].read_bytes())
            edit(conflict, lambda ds: setattr(ds, "PixelData", b"\0" * len(ds.PixelData)))
    take_delivery.fn("D", folder / "in", date(2026, 11, 22))
    take_delivery.fn("D", folder / "later", date(2026, 11, 23))
    return DatasetPaths.of("D")


def withdraw(patient_id: str | None = None, case_id: str | None = None) -> dict[str, Any]:
    return withdraw_from_ledger.fn("D", DAY, patient_id=patient_id, case_id=case_id)


def fates(paths: DatasetPaths) -> dict[str, tuple[str, str | None]]:
    images = state_at(paths, SETTINGS)[0].images
    return {case.case_id: (case.state, case.reason) for case in images}


def files_with(root: Path, word: str) -> list[Path]:
    return [p for p in root.rglob("*") if p.is_file() and word.encode() in p.read_bytes()]
