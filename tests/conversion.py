"""From a folder of DICOM to label maps, by the way that every delivery takes."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from tasks.conversion import to_convert
from tasks.convert import convert_cases
from tasks.dicom.case import Case
from tasks.dicom.image import read_series
from tasks.errors import UserDataError
from tasks.ingest import take_delivery
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.store import Store
from tasks.settings.dataset import DatasetSettings, RoiPatterns
from tasks.state import state_at

DAY = date(2026, 11, 24)
ALL_KINDS = DatasetSettings(modalities="CT,RTSTRUCT,SEG", arrival_quiet_s=0)


@dataclass
class Outcome:
    """What became of a delivery.

    ``labels``: series → (SOP instance UIDs in the order of the slices, label map) of what is done.
    """

    files: dict[str, int]
    reasons: dict[str, int]
    images: dict[str, Case]
    segmentations: list[Case]
    labels: dict[str, tuple[list[str], NDArray[Any]]]

    def fate(self, series_instance_uid: str) -> tuple[str, str | None]:
        """State and code of a series; a series that is not there has neither."""
        case = self.images.get(series_instance_uid)
        return (case.state, case.reason) if case else ("absent", None)


def deliver(
    source: Path, patterns: dict[str, Any], settings: DatasetSettings = ALL_KINDS, dataset_id: str = "D"
) -> Outcome:
    """Ingest a folder and convert what is labelled."""
    report = take_delivery.fn(dataset_id, source, DAY)
    paths = DatasetPaths.of(dataset_id)
    rois = RoiPatterns.model_validate(patterns)
    try:
        assembly, _ = state_at(paths, settings)
    except UserDataError:
        return Outcome(report["files"], report["reasons"], {}, [], {})
    labels = {}
    for case in assembly.images:
        if case.state != "pending":
            continue
        job = to_convert(case, settings, rois)
        (row,) = convert_cases.fn(dataset_id, 1, [job], settings, rois)
        case.settle(row["state"], row["reason"], row["detail"])
        if case.state == "done":
            store = Store(paths.store)
            array = sitk.GetArrayFromImage(sitk.ReadImage(str(store.label(job.case_id, str(job.label_key)))))
            labels[case.series_instance_uid] = (_in_order(case), np.asarray(array))
    images = {case.series_instance_uid: case for case in assembly.images}
    return Outcome(report["files"], report["reasons"], images, assembly.segmentations, labels)


def _in_order(case: Case) -> list[str]:
    uids = {file.path: file.header.sop_instance_uid for file in case.files}
    return [uids[path] for path in read_series([file.path for file in case.files]).files]


def forget(home: Path) -> None:
    """Empty a home of everything but its configuration."""
    for folder in (home / "data").rglob("*"):
        if folder.is_dir():
            folder.chmod(0o755)
    shutil.rmtree(home / "data")
    (home / "data").mkdir()
