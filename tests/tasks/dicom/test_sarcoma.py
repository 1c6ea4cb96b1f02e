"""Real RTSTRUCT of real scans: every voxel as in masks that others rasterised."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from tasks.dicom.convert import LabelRules, label_map
from tasks.dicom.headers import read_header
from tasks.dicom.image import read_series

HERE = Path(__file__).parents[2] / "data" / "sarcoma"
# The whole set (12 series) may lie elsewhere; the tests' own part is always there.
ROOT = Path(os.environ.get("ITERSEG_SARCOMA_DATA") or HERE)


def series_folders() -> list[Path]:
    return sorted(folder for folder in ROOT.glob("STS_*/*") if folder.is_dir())


def test_there_are_cts_and_mrs() -> None:
    assert {folder.name for folder in series_folders()} == {"CT", "MR_T1"}


@pytest.mark.parametrize("folder", series_folders(), ids=lambda f: f"{f.parent.name}-{f.name}")
def test_masks_equal_the_reference_voxel_for_voxel(folder: Path) -> None:
    kinds = {file: read_header(file, str).kind for file in folder.rglob("*.dcm")}
    images = [file for file, kind in kinds.items() if kind in ("CT", "MR")]
    (structure_set,) = (file for file, kind in kinds.items() if kind == "RTSTRUCT")
    labels = label_map(read_series(images), structure_set, "RTSTRUCT", LabelRules({"GTV": ["GTV.*"]}))
    name = f"{folder.parent.name}_{folder.name}_mask.nii.gz"
    reference = sitk.ReadImage(str(ROOT / "reference_masks" / name))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(labels) > 0, sitk.GetArrayFromImage(reference) > 0)
    assert sitk.GetArrayViewFromImage(labels).any()
