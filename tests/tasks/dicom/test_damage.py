"""What a damaged object does is told from what a disk does."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from dicom_factory import Series, ball, write_rois, write_segments, write_series

from tasks.dicom.damage import damage_rejects
from tasks.dicom.image import read_series
from tasks.dicom.reasons import Reason
from tasks.dicom.rtstruct import read_rois
from tasks.dicom.seg import SegObject
from tasks.errors import CaseRejected

SHAPE = (4, 12, 14)


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (ValueError("DOE^JOHN"), CaseRejected, r"^unreadable: it is torn \(ValueError\)$"),
        (OSError("pydicom's own"), CaseRejected, "unreadable: it is torn"),
        (OSError(errno.ESTALE, "Stale file handle"), OSError, "Stale file handle"),
        (CaseRejected(Reason.NO_GEOMETRY, "x"), CaseRejected, "no-geometry: x"),
    ],
)
def test_only_what_is_no_fault_of_the_disk_rejects_a_case(
    error: Exception, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words), damage_rejects(Reason.UNREADABLE, "it is torn"):
        raise error


@pytest.fixture
def series(tmp_path: Path) -> Series:
    return write_series(tmp_path / "ct", SHAPE)


@pytest.mark.parametrize("what", ["slice", "pixels", "RTSTRUCT", "SEG"])
def test_a_disk_that_fails_is_raised_wherever_it_fails(
    tmp_path: Path, series: Series, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Tried again it works; a case that is rejected is not tried again before the next night."""
    drawn = ball(SHAPE, (2, 6, 6), 3)
    contours = write_rois(tmp_path / "rt.dcm", series, {"GTV": drawn})
    segments = write_segments(tmp_path / "seg.dcm", series, drawn.astype("uint8"), ["GTV"])

    def away(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    place = {"pixels": "pathlib.Path.read_bytes"}.get(what, "pydicom.dcmread")
    with monkeypatch.context() as broken:
        if what == "pixels":
            for file in series.files:
                file.write_bytes(file.read_bytes()[:-50])  # else nothing asks the disk again
        broken.setattr(place, away)
        with pytest.raises(OSError, match="Input/output error"):
            match what:
                case "RTSTRUCT":
                    read_rois(contours)
                case "SEG":
                    SegObject(segments)
                case _:
                    read_series(series.files)
