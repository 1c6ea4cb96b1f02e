"""The example scans are, as DICOM, what they are as NIfTI."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_from_nifti import _pairs_of, write_mr_series

from tasks.dicom.image import read_series

IMAGES = Path(__file__).parents[1] / "data" / "examples" / "hippocampus" / "images"
FULL_SCALE = 65535


@pytest.mark.parametrize("file", sorted(IMAGES.glob("*.nii.gz")), ids=lambda file: file.name[:15])
def test_a_scan_is_scaled_at_most(file: Path, tmp_path: Path) -> None:
    """Values of some do not fit 16 bits: they wrapped around once, and the scans were noise."""
    image = sitk.DICOMOrient(sitk.ReadImage(str(file)), "LPS")
    values = sitk.GetArrayFromImage(image).astype(np.float64)
    found = sitk.GetArrayFromImage(read_series(write_mr_series(image, file.name, tmp_path / "mr")).image)
    factor = min(1.0, FULL_SCALE / values.max())
    np.testing.assert_allclose(found, values * factor, atol=0.51)


def test_a_scan_with_negative_values_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="negative"):
        write_mr_series(sitk.GetImageFromArray(np.full((3, 4, 5), -1.0)), "x", tmp_path)


@pytest.mark.parametrize(("names", "taken"), [(None, ["a", "b"]), (["b", "z"], ["b"])])
@pytest.mark.parametrize("suffix", ["", "Tr"])  # as the Decathlon's own archive has them
def test_the_cases_that_are_named_are_taken(
    tmp_path: Path, suffix: str, names: list[str] | None, taken: list[str]
) -> None:
    folder = tmp_path / f"images{suffix}"
    folder.mkdir()
    for name in ("b.nii.gz", "a.nii.gz", "._a.nii.gz", "notes.txt"):
        (folder / name).touch()
    images, labels = _pairs_of(tmp_path, names)
    assert [file.name.split(".")[0] for file in images] == taken
    assert labels == tmp_path / f"labels{suffix}"
