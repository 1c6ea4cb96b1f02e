"""An image with a label map of two structures, as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    image = sitk.GetImageFromArray(rng.integers(0, 100, (10, 30, 20)).astype(np.int16))
    labels = np.zeros((10, 30, 20), dtype=np.uint8)
    labels[3:8, 10:20, 5:12] = 1
    labels[3:8, 20:25, 5:12] = 2
    label = sitk.GetImageFromArray(labels)
    for picture in (image, label):
        picture.SetSpacing((1.0, 2.0, 3.0))
    sitk.WriteImage(image, str(tmp_path / "i.nii.gz"))
    sitk.WriteImage(label, str(tmp_path / "l.nii.gz"))
    return tmp_path / "i.nii.gz", tmp_path / "l.nii.gz"
