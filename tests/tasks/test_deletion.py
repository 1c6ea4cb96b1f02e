"""What is withdrawn can be deleted: everywhere, also where a deletion was cut off, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from dicom_factory import edit, write_series
from pydicom.uid import RTDoseStorage
from withdrawing import GONE, ROIS, SETTINGS, SHAPE, files_with, two_patients, withdraw

from tasks.conversion import to_convert
from tasks.convert import convert_case
from tasks.deletion import delete_withdrawn
from tasks.errors import UserDataError
from tasks.ingest import seal_by_hand, take_delivery
from tasks.ledger.files import sha256_of_file
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.snapshots import load_snapshots, make_writable, note_snapshots
from tasks.ledger.store import Store
from tasks.state import state_at
from tasks.verify import verify_dataset


@pytest.fixture
def paths(home: Path, tmp_path: Path) -> DatasetPaths:
    return two_patients(tmp_path)


def test_their_data_are_deleted_everywhere(paths: DatasetPaths) -> None:
    cases = state_at(paths, SETTINGS)[0].images
    for case in cases:
        convert_case(to_convert(case, SETTINGS, ROIS), Store(paths.store), SETTINGS, ROIS)
    assert files_with(paths.home, GONE)
    out = withdraw(patient_id=GONE)
    gone = delete_withdrawn.fn("D")
    # two CTs, their RTSTRUCTs, the SEG, and the file that was set aside
    assert gone["rawdata"] == 2 * 6 + 2 + 1 + 1
    assert gone["procdata"] > 0
    assert not files_with(paths.home, GONE)
    left = {p.name[:20] for p in paths.home.rglob("case*")}
    assert left & set(out["cases"]) == set()
    rows = [row for snapshot in load_snapshots(paths) for row in snapshot.files]
    assert sum(row.state == "withdrawn" for row in rows) == 16
    assert not any(row.header or row.path for row in rows if row.state == "withdrawn")
    assert delete_withdrawn.fn("D") == {"rawdata": 0, "procdata": 0, "results": 0}


@pytest.mark.parametrize("killed_at", ["_delete_set_aside", "_delete_named", "make_read_only"])
def test_a_deletion_that_was_cut_off_goes_on(
    paths: DatasetPaths, monkeypatch: pytest.MonkeyPatch, killed_at: str
) -> None:
    """The accounts, which tell what is to go, are blank by then."""
    for case in state_at(paths, SETTINGS)[0].images:
        convert_case(to_convert(case, SETTINGS, ROIS), Store(paths.store), SETTINGS, ROIS)
    out = withdraw(patient_id=GONE)["cases"]

    def killed(*_: Any) -> None:
        raise OSError(116, "Stale file handle")

    with monkeypatch.context() as patched:
        patched.setattr(f"tasks.deletion.{killed_at}", killed)
        with pytest.raises(OSError, match="Stale"):
            delete_withdrawn.fn("D")
    assert withdraw(patient_id=GONE)["cases"] == out, "it can be asked for again"
    delete_withdrawn.fn("D")
    assert not files_with(paths.home, GONE)
    assert not [path for case in out for path in paths.home.rglob(f"{case}*")]
    assert not paths.doomed.exists()
    assert verify_dataset(paths)["findings"] == []


def test_what_a_backup_brings_back_is_found_and_deleted_again(paths: DatasetPaths, tmp_path: Path) -> None:
    """Its rows are blank: no account names it any more."""
    backup = tmp_path / "backup"
    shutil.copytree(paths.rawdata, backup)
    withdraw(patient_id=GONE)
    delete_withdrawn.fn("D")
    for snapshot in load_snapshots(paths):
        make_writable(snapshot.folder)
        for file in sorted((backup / str(snapshot.name)).rglob("*.dcm")):
            target = paths.rawdata / file.relative_to(backup)
            target.parent.mkdir(exist_ok=True)
            shutil.copy(file, target)
    assert files_with(paths.rawdata, GONE)
    findings = verify_dataset(paths)["findings"]
    assert findings[0].startswith("2026-11-22__D has 14 files that its manifest does not name")
    assert "withdraw --delete" in findings[0] and GONE not in str(findings)
    withdraw(patient_id=GONE)
    assert delete_withdrawn.fn("D")["rawdata"] == 14 + 1
    assert not files_with(paths.rawdata, GONE)
    assert verify_dataset(paths)["findings"] == []


def test_accounts_of_an_earlier_iterseg_are_blanked_too(paths: DatasetPaths) -> None:
    """Version 1 had the whole header in each row."""
    before = load_snapshots(paths)
    for snapshot in before:
        make_writable(snapshot.folder)
        rows = [row._asdict() for row in snapshot.files]
        content = {"version": 1, "origin": snapshot.origin, "files": rows}
        (snapshot.folder / "manifest.json").write_text(json.dumps(content))
    note_snapshots(paths, rewritten=[str(snapshot.name) for snapshot in before])
    assert [snapshot.files for snapshot in load_snapshots(paths)] == [snapshot.files for snapshot in before]
    out = withdraw(patient_id=GONE)["cases"]
    delete_withdrawn.fn("D")
    assert not files_with(paths.home, GONE)
    assert not [path for case in out for path in paths.home.rglob(f"{case}*")]
    assert verify_dataset(paths)["findings"] == []


def test_what_turns_up_of_a_case_whose_accounts_are_blank_is_deleted(paths: DatasetPaths) -> None:
    """As after a restore of the store from a backup."""
    (case, *_) = withdraw(patient_id=GONE)["cases"]
    delete_withdrawn.fn("D")
    (paths.store / case).mkdir(parents=True)
    (paths.store / case / "image-0.nii.gz").touch()
    assert delete_withdrawn.fn("D")["procdata"] == 1


def test_what_a_killed_writer_left_and_what_lists_them_is_deleted(paths: DatasetPaths) -> None:
    (case, *_) = withdraw(patient_id=GONE)["cases"]
    left = paths.predictions("2026-11-22") / ".0123456789ab.tmp.seg.dcm"
    left.parent.mkdir(parents=True)
    left.write_text(GONE)
    paths.worklist.write_text(f"case_id,study_instance_uid\n{case},1.2\n")
    delete_withdrawn.fn("D")
    assert not left.exists()
    assert not paths.worklist.exists()


def test_a_folder_filled_by_hand_is_emptied_of_copies_too(home: Path) -> None:
    folder = home / "data" / "rawdata" / "D" / "2026-11-20__D"
    series = write_series(folder / GONE, SHAPE, patient=GONE)
    shutil.copy(series.files[0], folder / "copy of a slice")
    seal_by_hand.fn("D")
    assert folder.stat().st_mode & 0o222 == 0
    withdraw(patient_id=GONE)
    assert delete_withdrawn.fn("D")["rawdata"] == 7
    assert [p.name for p in folder.iterdir()] == ["manifest.json"]
    assert GONE not in (folder / "manifest.json").read_text()
    digest = sha256_of_file(folder / "manifest.json")
    assert json.loads((folder / "manifest.json").read_text())["files"]
    assert seal_by_hand.fn("D") == []
    assert sha256_of_file(folder / "manifest.json") == digest


def test_what_was_put_into_a_sealed_folder_later_is_deleted_too(home: Path, tmp_path: Path) -> None:
    """It was taken as a copy, and lies there with its name."""
    folder = home / "data" / "rawdata" / "D" / "2026-11-20__D"
    write_series(folder / "other", SHAPE, name="other", patient="P-2")
    seal_by_hand.fn("D")
    make_writable(folder)
    series = write_series(folder / GONE, SHAPE, patient=GONE)
    kept = write_series(folder / "kept", SHAPE, name="kept", patient="P-3").files
    (report,) = seal_by_hand.fn("D")
    assert report["files"]["taken"] == 12
    late = write_series(folder / "late", SHAPE, name="late", patient=GONE).files  # nobody has ingested it yet
    edit(late[0], _as_dose)
    late[1].write_bytes(late[1].read_bytes()[:-40])
    os.mkfifo(folder / "pipe")
    (folder / "nowhere").symlink_to(tmp_path / "gone")
    withdraw(patient_id=GONE)
    assert delete_withdrawn.fn("D")["rawdata"] == 3 * 6
    assert files_with(home / "data" / "rawdata", GONE) == []
    assert not any(file.exists() for file in (*series.files, *late))
    assert all(file.exists() for file in kept)
    assert folder.stat().st_mode & 0o222 == 0


def test_what_is_no_image_of_theirs_is_deleted_too(home: Path) -> None:
    """A dose, and a slice that was cut short, in a folder that bears the name."""
    folder = home / "data" / "rawdata" / "D" / "2026-11-20__D"
    series = write_series(folder / GONE, SHAPE, patient=GONE)
    other = write_series(folder / "other", SHAPE, name="other", patient="P-2")
    for scan, name in ((series, GONE), (other, "other")):
        dose, cut = folder / name / "dose.dcm", folder / name / "cut.dcm"
        shutil.copy(scan.files[0], dose)
        edit(dose, _as_dose)
        cut.write_bytes(scan.files[1].read_bytes()[:-40])
    (report,) = seal_by_hand.fn("D")
    assert report["reasons"] == {"other-kind": 2, "unreadable": 2}
    withdraw(patient_id=GONE)
    assert delete_withdrawn.fn("D")["rawdata"] == 8
    assert files_with(home / "data" / "rawdata", GONE) == []
    assert {p.name for p in folder.iterdir()} == {"other", "manifest.json"}
    assert len(list((folder / "other").iterdir())) == 8


def _as_dose(ds: Any) -> None:
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = RTDoseStorage
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{ds.SOPInstanceUID[:-1]}9"


def test_what_lies_behind_a_link_is_not_ours_to_delete(home: Path, tmp_path: Path) -> None:
    folder = home / "data" / "rawdata" / "D" / "2026-11-20__D"
    series = write_series(tmp_path / "pacs" / "scan", SHAPE, patient=GONE)
    folder.mkdir(parents=True)
    (folder / "linked").symlink_to(tmp_path / "pacs" / "scan")
    seal_by_hand.fn("D")
    withdraw(patient_id=GONE)
    with pytest.raises(UserDataError, match="is a link") as said:
        delete_withdrawn.fn("D")
    assert str(tmp_path / "pacs") not in str(said.value)
    assert all(file.is_file() for file in series.files)
    make_writable(folder)
    (folder / "linked").unlink()
    delete_withdrawn.fn("D")
    assert all(file.is_file() for file in series.files)
    assert files_with(home / "data", GONE) == []
    assert verify_dataset(DatasetPaths.of("D"))["findings"] == []


def test_what_a_killed_delivery_had_copied_is_deleted(paths: DatasetPaths) -> None:
    left = paths.rawdata / ".scratch.0123456789ab.tmp"
    left.mkdir()
    (left / "slice").write_text(GONE)
    withdraw(patient_id=GONE)
    delete_withdrawn.fn("D")
    assert not left.exists()


def test_a_uid_that_begins_alike_is_another_patients(paths: DatasetPaths) -> None:
    uid = next(row.header["sop_instance_uid"] for s in load_snapshots(paths) for row in s.taken if row.header)
    paths.set_aside.mkdir(exist_ok=True)
    for other in (f"{uid}.7.0123abcd.dcm", f"{uid}.0123abcd.dcm"):
        (paths.set_aside / other).write_bytes(b"x")
    withdraw(patient_id=GONE)
    withdraw(patient_id="P-2")
    delete_withdrawn.fn("D")
    assert [p.name for p in paths.set_aside.iterdir()] == [f"{uid}.7.0123abcd.dcm"]


def test_what_a_withdrawn_patient_delivers_later_can_be_deleted_too(home: Path, tmp_path: Path) -> None:
    folder = home / "data" / "rawdata" / "D" / "2026-11-20__D"
    write_series(folder / "a", SHAPE, name="a", patient=GONE)
    seal_by_hand.fn("D")
    withdraw(patient_id=GONE)
    delete_withdrawn.fn("D")
    later = home / "data" / "rawdata" / "D" / "2026-11-21__D"
    write_series(later / "b", SHAPE, name="b", patient=GONE)
    write_series(later / "c", SHAPE, name="c", patient="P-2")
    seal_by_hand.fn("D")
    assert delete_withdrawn.fn("D")["rawdata"] == 6
    assert len([p for p in later.rglob("*") if p.is_file()]) == 7
    assert verify_dataset(DatasetPaths.of("D"))["findings"] == []


def test_nothing_of_a_later_copy_stays_of_one_who_came_without_identity(home: Path, tmp_path: Path) -> None:
    """What came in is known by its content of then, in the account of each delivery."""
    recipe = Path(__file__).parents[2] / "config" / "deidentification.yaml"
    (home / "config" / recipe.name).write_text(recipe.read_text())
    write_series(tmp_path / "in" / GONE, SHAPE, patient=GONE)
    take_delivery.fn("D", tmp_path / "in", date(2026, 11, 22), True)
    write_series(tmp_path / "again" / "other", SHAPE, name="other", patient="P-2")
    shutil.copytree(tmp_path / "in", tmp_path / "again", dirs_exist_ok=True)
    paths = DatasetPaths.of("D")
    take_delivery.fn("D", tmp_path / "again", date(2026, 11, 23), True)
    take_delivery.fn("D", tmp_path / "in", date(2026, 11, 24), True)
    assert not paths.deliveries.is_dir()  # every file of the third is known
    (case,) = {c.case_id for c in state_at(paths, SETTINGS, date(2026, 11, 22))[0].images}
    (paths.inbox / case).mkdir(parents=True)
    (paths.inbox / case / "1.dcm").write_bytes(b"held")
    withdraw(case_id=case)
    delete_withdrawn.fn("D")
    assert files_with(home / "data", GONE) == []
    assert not (paths.inbox / case).exists()


def test_a_folder_of_another_account_is_told_without_its_name(
    paths: DatasetPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    withdraw(patient_id=GONE)

    def refused(path: Path, mode: int) -> None:
        raise PermissionError(1, "Operation not permitted", str(path))

    monkeypatch.setattr(Path, "chmod", refused)
    with pytest.raises(UserDataError, match="another account") as caught:
        delete_withdrawn.fn("D")
    assert str(paths.rawdata) not in str(caught.value)
