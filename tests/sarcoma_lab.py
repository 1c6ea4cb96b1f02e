"""A lab with three real CTs, as the tests of the loop and of its survival see it."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from dicom_factory import edit
from tests_support import Answer, PrefectServer, iterseg

SARCOMA = Path(__file__).parent / "data" / "sarcoma"
SETTINGS = """
arrival_quiet_s: 0
folds: 2
test_share: 0
plan_overrides:
  patch_size: [16, 48, 48]
  batch_size: 2
  features_per_stage: [8, 16, 32]
  convolutions_per_stage: 1
training:
  epochs_first: 2
  epochs_fine_tune: 1
  iterations_per_epoch: 10
  validation_iterations: 1
  optimizer: adamw
  device: cpu
  augmentation_workers: 0
prediction: {mirroring: false, device: cpu}
promotion: {margin: 0.99}  # networks of a few steps score by chance; what is tested is the loop
"""
PLANTED_ID, PLANTED_NAME = "XYZZY-0815", "Plugh^Xyzzyson"
AROUND_THE_TUMOUR = slice(12, 36)  # of 47; every tumour lies on the slices from 16 to 31


@dataclass
class Lab:
    """The home after the loop has run, and what each command said."""

    home: Path
    server: PrefectServer
    said: dict[str, Answer]
    scans: Path

    def delivered(self, patient: str) -> list[Path]:
        """The slices of a patient's CT, as they came."""
        return sorted(self.scans.glob(f"{patient}-image*/image/*.dcm"))

    @property
    def data(self) -> Path:
        return self.home / "data"

    def run(self, *arguments: str) -> Answer:
        return iterseg(self.home, *arguments, **self.server.environment)

    def iteration(self, name: str) -> Path:
        return self.data / "procdata" / "STS" / f"{name}__STS"

    def models(self) -> dict[str, Any]:
        files = (self.data / "results" / "STS" / "ledger" / "models").glob("*.json")
        return {file.stem: json.loads(file.read_text()) for file in files}


def deliver(work: Path, patient: str, *parts: str) -> Path:
    """Copies of a patient's slices around the tumour, under a made-up identity for one of them."""
    folder = work / PLANTED_NAME / f"{patient}-{'-'.join(parts)}"
    for part in parts:
        (folder / part).mkdir(parents=True)
        files = sorted((SARCOMA / patient / "CT" / part).iterdir(), key=_height_mm)
        for file in files[AROUND_THE_TUMOUR] if part == "image" else files:
            shutil.copy(file, folder / part)
    if patient == "STS_025":
        for file in folder.rglob("*.dcm"):
            edit(file, _plant)
    return folder


def _height_mm(file: Path) -> float:
    ds = pydicom.dcmread(file, specific_tags=["ImagePositionPatient"])
    return float(ds.ImagePositionPatient[2]) if "ImagePositionPatient" in ds else 0.0


def _plant(ds: Any) -> None:
    ds.PatientID, ds.PatientName = PLANTED_ID, PLANTED_NAME


def stages(answer: Answer) -> dict[str, dict[str, Any]]:
    return {stage["stage"]: stage for stage in answer.report["stages"]}
