"""Which files of a folder are its delivery: not what a disk keeps for itself, nor what was thrown away."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from dicom_factory import write_series

from tasks.delivery import files_below, was_deleted
from tasks.errors import UserDataError
from tasks.ingest import take_delivery

SHAPE = (3, 8, 8)


@pytest.mark.parametrize("folder", ["lost+found", "System Volume Information", ".snapshot", "@eaDir"])
def test_a_disk_that_is_delivered_whole_keeps_its_own_folders(tmp_path: Path, folder: str) -> None:
    """Some of them nobody may read, and each would refuse the delivery."""
    for path in ("scans/1.dcm", f"{folder}/old.dcm", f"scans/{folder}/older.dcm"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"x")
    # One that is called so further down is somebody's.
    assert files_below(tmp_path) == sorted([tmp_path / "scans/1.dcm", tmp_path / f"scans/{folder}/older.dcm"])


def test_another_folder_that_cannot_be_read_refuses_the_delivery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scandir(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("os.scandir", scandir)
    with pytest.raises(UserDataError, match="cannot be read: Permission denied"):
        files_below(tmp_path)


@pytest.mark.parametrize(
    ("path", "deleted"),
    [
        ("$RECYCLE.BIN/S-1-5-21/$R1.dcm", True),
        ("usb/.Trash-1000/files/1.dcm", True),
        (".Trashes/501/1.dcm", True),
        ("share/#recycle/patient/1.dcm", True),
        ("@Recycle/1.dcm", True),
        ("scans/1.dcm", False),
        ("trash/1.dcm", False),  # may be what a lab calls a scan that did not work
        ("scans/.trash", False),
    ],
)
def test_a_recycle_bin_is_known_by_its_name(tmp_path: Path, path: str, deleted: bool) -> None:
    assert was_deleted(tmp_path / path, tmp_path) is deleted


def test_a_bin_that_is_named_itself_is_a_folder_like_any_other(tmp_path: Path) -> None:
    root = tmp_path / ".Trash-1000"
    assert not was_deleted(root / "1.dcm", root)


def test_what_somebody_has_thrown_away_is_accounted_for_and_not_learned_from(
    home: Path, tmp_path: Path
) -> None:
    write_series(tmp_path / "usb" / "scans", SHAPE, name="kept")
    write_series(tmp_path / "usb" / ".Trash-1000" / "files", SHAPE, name="thrown away", patient="other")
    report = take_delivery.fn("D", tmp_path / "usb", date(2026, 11, 20))
    assert report["files"] == {"taken": 3, "duplicate": 0, "ignored": 3, "rejected": 0}
    assert report["reasons"] == {"deleted": 3}
