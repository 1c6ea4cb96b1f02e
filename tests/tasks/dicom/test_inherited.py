"""What an image says of its patient and study becomes valid in the objects that belong to it, or empty."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_factory import ball, write_series
from pydicom import config
from pydicom.dataset import Dataset

from tasks.dicom.inherited import inherited_header
from tasks.dicom.seg_writer import SegIdentity, write_seg

SHAPE = (3, 20, 24)


def image(folder: Path, **values: str | list[str]) -> list[Path]:
    def change(_: int, ds: Dataset) -> None:
        before, config.settings.writing_validation_mode = config.settings.writing_validation_mode, 0
        try:
            for keyword, value in values.items():
                setattr(ds, keyword, value)
        finally:
            config.settings.writing_validation_mode = before

    return write_series(folder / "ct", SHAPE, change=change).files


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
@pytest.mark.parametrize(
    ("keyword", "value", "becomes"),
    [
        ("PatientSex", "F", "F"),
        ("PatientSex", "m", "M"),
        ("PatientSex", "U", ""),
        ("PatientSex", "UNKNOWN", ""),
        ("PatientBirthDate", "19500102", "19500102"),
        ("PatientBirthDate", "00000000", ""),
        ("PatientBirthDate", "1950", ""),
        ("PatientBirthDate", "1950.01.02", "19500102"),
        ("StudyDate", "20260230", ""),
        ("StudyTime", "10:22:33", "102233"),
        ("StudyTime", "102233.12345678", "102233.123456"),
        ("StudyTime", "noon", ""),
        ("StudyID", "an-identifier-that-is-too-long", "an-identifier-th"),
        ("AccessionNumber", ["one", "two"], "one"),
    ],
)
def test_a_value_that_dicom_does_not_allow_costs_nobody_a_prediction(
    tmp_path: Path, keyword: str, value: str, becomes: str
) -> None:
    files = image(tmp_path, **{keyword: value})
    assert (inherited_header(files[0]).get(keyword) or "") == becomes
    mask = ball(SHAPE, (1, 10, 10), 4)
    identity = SegIdentity("1.2.3", "1.2.3.4", 900, "d", "IterSeg", "1")
    write_seg(tmp_path / "seg.dcm", files, {"GTV": mask}, identity)
    written = pydicom.dcmread(tmp_path / "seg.dcm")
    assert (written.get(keyword) or "") == becomes
    assert np.count_nonzero(written.pixel_array) == np.count_nonzero(mask)


def test_a_name_stays_as_it_is(tmp_path: Path) -> None:
    """An object must be found to be of its image's patient."""
    header = inherited_header(
        image(tmp_path, PatientName="Plugh", PatientID="an ID that is long, and stays")[0]
    )
    assert (header.PatientName, header.PatientID) == ("Plugh", "an ID that is long, and stays")
