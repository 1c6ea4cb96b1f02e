"""A lab with real hippocampi, for tests in which a network must have learned something."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from dicom_factory import Series, write_series
from numpy.typing import NDArray
from pydicom.uid import generate_uid
from tests_support import PrefectServer, iterseg

from tasks.dicom.case import case_id_of
from tasks.dicom.geometry import Grid
from tasks.dicom.seg import SegObject
from tasks.dicom.seg_writer import SegIdentity, write_seg
from tasks.review.scores import dice

HIPPOCAMPUS = Path(__file__).parents[1] / "data" / "examples" / "hippocampus"
SETTINGS = """
modalities: MR,SEG
arrival_quiet_s: 0
folds: 2
test_share: 0
plan_overrides:
  patch_size: [32, 48, 32]
  batch_size: 2
  features_per_stage: [16, 32, 64]
  convolutions_per_stage: 1
training:
  epochs_first: 8
  iterations_per_epoch: 50
  validation_iterations: 2
  optimizer: adamw
  device: cpu
  augmentation_workers: 0
prediction: {mirroring: false, device: cpu}
"""
TRAINED, ANSWERED = 8, 3
Drawn = dict[str, NDArray[np.bool_]]


def scan(number: int) -> tuple[sitk.Image, NDArray[np.uint8]]:
    image = sorted((HIPPOCAMPUS / "images").glob("*.nii.gz"))[number]
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(HIPPOCAMPUS / "labels" / image.name)))
    return sitk.ReadImage(str(image)), labels.astype(np.uint8)


def series_of(number: int, folder: Path) -> Series:
    """The scan as DICOM, in voxels of 1 mm."""
    image, _ = scan(number)
    values = sitk.GetArrayFromImage(image).astype(float)
    voxels = np.rint(values / values.max() * 1000).astype(np.int16)
    grid = Grid(voxels.shape, np.eye(4))
    name = f"scan {number}"
    # Orthanc finds no studies of a PatientID with a space, and OHIF then lists none.
    patient = name.replace(" ", "-")
    return write_series(folder, kind="MR", name=name, patient=patient, grid=grid, voxels=voxels)


def lab(home: Path, tmp_path: Path, more: str, rois: str, drawn: Any) -> tuple[Path, dict[str, Drawn]]:
    """A home with a delivery: annotated scans, and some that are to be predicted, with their truth."""
    (home / "config" / "dataset_D.yaml").write_text(SETTINGS + more)
    (home / "config" / "roi_D.yaml").write_text(rois)
    truth = {}
    for number in range(TRAINED + ANSWERED):
        series = series_of(number, tmp_path / "in" / f"{number}")
        masks = drawn(number, scan(number)[1])
        if number < TRAINED:
            identity = SegIdentity(generate_uid(), generate_uid(), 2, "drawn", None, "1")
            write_seg(tmp_path / "in" / f"{number}.seg", series.files, masks, identity)
        else:
            truth[case_id_of(series.uids["series"])] = masks
    return tmp_path / "in", truth


def predicted(home: Path, series: Series, model: str = "*") -> Drawn:
    """What a model drew; with several models its id must be given."""
    name = f"{case_id_of(series.uids['series'])}.seg.dcm"
    (file,) = (home / "data" / "results" / "D" / "predictions").glob(f"{model}/{name}")
    seg = SegObject(file)
    return {segment.name: seg.mask(segment, series.grid) for segment in seg.segments}


def mean_dice_of(
    home: Path, tmp_path: Path, truth: dict[str, Drawn], delivery: Path, server: PrefectServer
) -> tuple[dict[str, float], list[Drawn]]:
    for command in (["ingest", "D", "--from", str(delivery)], ["run", "D"]):
        answer = iterseg(home, *command, **server.environment)
        assert answer.returncode == 0, answer.stderr
    found, scores = [], {}
    for number in range(TRAINED, TRAINED + ANSWERED):
        series = series_of(number, tmp_path / "again" / f"{number}")
        masks = predicted(home, series)
        found.append(masks)
        for name, mask in truth[case_id_of(series.uids["series"])].items():
            scores.setdefault(name, []).append(dice(masks[name], mask))
    return {name: float(np.mean(values)) for name, values in scores.items()}, found
