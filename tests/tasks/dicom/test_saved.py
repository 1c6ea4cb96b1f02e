"""What an archive rewrites is the same segmentation still; what a person changes is another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from dicom_factory import ball, edit, write_rois, write_segments, write_series
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from tasks.dicom.saved import digest_of_saved

SHAPE = (6, 20, 24)
MASK = ball(SHAPE, (3, 8, 8), 4)
Change = Callable[[Any], None]


def sent_on(ds: Any) -> None:
    ds.file_meta.ImplementationVersionName = "ARCHIVE_1"


def mended_name(ds: Any) -> None:
    ds.PatientName, ds.StudyID = "Plugh^X", "4711"


def encoded_anew(ds: Any) -> None:
    other = ExplicitVRLittleEndian if ds.original_encoding[0] else ImplicitVRLittleEndian
    ds.file_meta.TransferSyntaxUID = other
    for sequence in ("StructureSetROISequence", "ROIContourSequence", "SegmentSequence"):
        if sequence in ds:
            ds[sequence].is_undefined_length = True


def with_its_own(ds: Any) -> None:
    item = ds.SegmentSequence[0] if "SegmentSequence" in ds else ds.StructureSetROISequence[0]
    item.private_block(0x0099, "ARCHIVE", create=True).add_new(0x01, "LO", "4711")


def moved(ds: Any) -> None:
    if "PixelData" in ds:
        ds.PixelData = bytes([ds.PixelData[0] ^ 1]) + ds.PixelData[1:]
    else:
        contour = ds.ROIContourSequence[0].ContourSequence[0]
        contour.ContourData = [float(contour.ContourData[0]) + 1, *contour.ContourData[1:]]


def renamed(ds: Any) -> None:
    item = ds.SegmentSequence[0] if "SegmentSequence" in ds else ds.StructureSetROISequence[0]
    setattr(item, "SegmentLabel" if "SegmentSequence" in ds else "ROIName", "Other")


def approved(ds: Any) -> None:
    ds.ApprovalStatus = "APPROVED"


def saved_later(ds: Any) -> None:
    setattr(ds, "ContentTime" if "PixelData" in ds else "StructureSetTime", "235959")


def by_another(ds: Any) -> None:
    setattr(ds, "ContentCreatorName" if "PixelData" in ds else "OperatorsName", "Somebody Else")


@pytest.fixture(params=["RTSTRUCT", "SEG"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    series = write_series(tmp_path / "ct", SHAPE)
    if request.param == "SEG":
        return write_segments(tmp_path / "seg.dcm", series, MASK.astype("uint8"), ["GTV"])
    return write_rois(tmp_path / "rt.dcm", series, {"GTV": MASK})


@pytest.mark.parametrize("change", [sent_on, mended_name, encoded_anew, with_its_own])
def test_what_carries_it_changes_nothing(file: Path, change: Change) -> None:
    before = file.read_bytes()
    edit(file, change)
    assert file.read_bytes() != before
    assert digest_of_saved(file.read_bytes()) == digest_of_saved(before)


@pytest.mark.parametrize("change", [moved, renamed, approved, saved_later, by_another])
def test_what_a_person_changes_is_another(file: Path, change: Change) -> None:
    before = digest_of_saved(file.read_bytes())
    edit(file, change)
    assert digest_of_saved(file.read_bytes()) != before


@pytest.mark.parametrize("end", [700, 2000])
def test_what_cannot_be_read_to_its_end_is_told_by_its_bytes(file: Path, end: int) -> None:
    cut = file.read_bytes()[:end]
    assert digest_of_saved(cut) != digest_of_saved(file.read_bytes())
    assert digest_of_saved(cut) == digest_of_saved(cut)
    assert digest_of_saved(b"no DICOM") != digest_of_saved(b"neither")
    assert pydicom.dcmread(file)
