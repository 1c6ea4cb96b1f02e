"""What a file is, told by its content."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_factory import Series, ball, edit, write_rois, write_segments, write_series

from tasks.dicom.headers import UID, read_header
from tasks.dicom.reasons import Reason
from tasks.errors import CaseRejected

SHAPE = (6, 20, 24)


def hashed(identity: str) -> str:
    return f"<{identity}>"


@pytest.fixture
def series(tmp_path: Path) -> Series:
    return write_series(tmp_path / "ct", SHAPE)


def test_an_image_says_its_series_and_patient(series: Series) -> None:
    header = read_header(series.files[0], hashed)
    assert (header.kind, header.series_instance_uid) == ("CT", series.uids["series"])
    assert header.patient == "<patient:P-1>"
    assert header.frame_of_reference_uid == series.uids["frame"]


@pytest.mark.parametrize("kind", ["RTSTRUCT", "SEG"])
def test_a_segmentation_refers_to_series_and_instances(tmp_path: Path, series: Series, kind: str) -> None:
    mask = ball(SHAPE, (3, 8, 8), 3)
    if kind == "SEG":
        file = write_segments(tmp_path / "x", series, mask.astype(int), ["a"])
    else:
        file = write_rois(tmp_path / "x", series, {"a": mask})
    header = read_header(file, hashed)
    assert header.kind == kind
    assert header.referenced_series == [series.uids["series"]]
    instances = {read_header(f, hashed).sop_instance_uid for f in series.files}
    assert set(header.referenced_instances) <= instances
    assert header.referenced_instances


def test_modality_may_lie(tmp_path: Path, series: Series) -> None:
    """OHIF writes the modality SEG on an RTSTRUCT."""
    file = write_rois(tmp_path / "x", series, {"a": np.ones(SHAPE, dtype=bool)})
    edit(file, lambda ds: setattr(ds, "Modality", "SEG"))
    assert read_header(file, hashed).kind == "RTSTRUCT"


def test_without_a_patient_id_the_study_stands_for_the_patient(series: Series) -> None:
    file = edit(series.files[0], lambda ds: setattr(ds, "PatientID", ""))
    assert read_header(file, hashed).patient == f"<study:{series.uids['study']}>"


def _bad(keyword: str, value: Any) -> Any:
    return lambda ds: setattr(ds, keyword, value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_bad("SOPClassUID", "1.2.840.10008.5.1.4.1.1.7"), Reason.OTHER_KIND),
        (_bad("SeriesInstanceUID", "../../escape"), Reason.BAD_UID),
        (_bad("SOPInstanceUID", ""), Reason.BAD_UID),
    ],
)
def test_files_that_cannot_be_used_have_a_code(series: Series, change: Any, reason: Reason) -> None:
    with pytest.raises(CaseRejected) as caught:
        read_header(edit(series.files[0], change), hashed)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("notes.txt", b"hello", Reason.NO_DICOM),
        ("empty", b"", Reason.NO_DICOM),
        ("empty.dcm", b"", Reason.UNREADABLE),
        ("text.dcm", b"this is text, not DICOM", Reason.UNREADABLE),
        ("._x.dcm", b"\x00\x05\x16\x07" + b"\x00" * 60, Reason.UNREADABLE),
        ("preamble only", b"\x00" * 128 + b"DICM", Reason.UNREADABLE),
        ("noise.bin", bytes(range(256)) * 20, Reason.NO_DICOM),
    ],
)
def test_files_that_are_no_dicom_have_a_code(
    tmp_path: Path, name: str, content: bytes, reason: Reason
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(CaseRejected) as caught:
        read_header(file, hashed)
    assert caught.value.reason == reason


@pytest.mark.parametrize("uid", [".1", "1..2", "1.", "1" * 65])
def test_what_is_no_uid_names_no_file(uid: str) -> None:
    """A name that begins with a dot would be a hidden file."""
    assert UID.fullmatch(uid) is None
    assert UID.fullmatch("1.2.840.10008")
