"""A patient who withdraws is out of everything that follows, and nothing says who it was."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from dicom_factory import ball, edit, write_rois, write_segments, write_series
from predicted_lab import a_model

from tasks.conversion import to_convert
from tasks.convert import convert_case
from tasks.dicom.case import case_id_of
from tasks.errors import UserDataError
from tasks.ingest import seal_by_hand, take_delivery
from tasks.ledger.files import sha256_of_file, write_json
from tasks.ledger.models import save_model
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.patients import extend_patients, load_patients
from tasks.ledger.pseudonyms import Pseudonyms
from tasks.ledger.snapshots import load_snapshots
from tasks.ledger.store import Store
from tasks.ledger.withdrawals import load_withdrawals
from tasks.settings import DatasetSettings, RoiPatterns
from tasks.state import state_at
from tasks.verify import verify_dataset
from tasks.withdraw import delete_withdrawn, withdraw_from_ledger

SHAPE = (6, 20, 24)
MASK = ball(SHAPE, (3, 8, 8), 3)
GONE = "XYZZY-0815"
DAY = date(2026, 11, 24)
SETTINGS = DatasetSettings(modalities="CT,RTSTRUCT,SEG", arrival_quiet_s=0)
ROIS = RoiPatterns.model_validate({"GTV": "GTV"})


@pytest.fixture
def paths(home: Path, tmp_path: Path) -> DatasetPaths:
    """Two patients; the one who will withdraw has two labelled scans, one with a second opinion."""
    for name, patient in (("a", GONE), ("b", GONE), ("c", "P-2")):
        series = write_series(tmp_path / "in" / name, SHAPE, name=name, patient=patient)
        write_rois(tmp_path / "in" / f"{name}-rt", series, {"GTV": MASK}, name=f"{name}-rt")
        if name == "a":
            write_segments(tmp_path / "later" / "seg", series, MASK.astype(int), ["GTV"])
            conflict = tmp_path / "later" / "conflict"
            conflict.write_bytes(series.files[0].read_bytes())
            edit(conflict, lambda ds: setattr(ds, "PixelData", b"\0" * len(ds.PixelData)))
    take_delivery.fn("D", tmp_path / "in", date(2026, 11, 22))
    take_delivery.fn("D", tmp_path / "later", date(2026, 11, 23))
    return DatasetPaths.of("D")


def withdraw(patient_id: str | None = None, case_id: str | None = None) -> dict[str, Any]:
    return withdraw_from_ledger.fn("D", DAY, patient_id=patient_id, case_id=case_id)


def fates(paths: DatasetPaths) -> dict[str, tuple[str, str | None]]:
    images = state_at(paths, SETTINGS)[0].images
    return {case.case_id: (case.state, case.reason) for case in images}


def files_with(root: Path, word: str) -> list[Path]:
    return [p for p in root.rglob("*") if p.is_file() and word.encode() in p.read_bytes()]


def test_all_scans_of_a_patient_are_out_of_what_follows(paths: DatasetPaths, tmp_path: Path) -> None:
    out = withdraw(patient_id=GONE)
    assert (len(out["cases"]), out["new"]) == (2, True)
    expected = dict.fromkeys(out["cases"], ("ignored", "withdrawn"))
    (kept,) = set(fates(paths)) - set(expected)
    assert fates(paths) == {**expected, kept: ("pending", None)}
    assert withdraw(patient_id=GONE)["new"] is False
    # What comes later of the same patient stays out.
    write_series(tmp_path / "more", SHAPE, name="d", patient=GONE)
    report = take_delivery.fn("D", tmp_path / "more", DAY)
    assert (report["reasons"], report["snapshot"]) == ({"withdrawn": 6}, None)


def test_the_ledger_does_not_say_who_it_was(paths: DatasetPaths) -> None:
    out = withdraw(patient_id=GONE)
    ledger = paths.withdrawals.read_text()
    assert all(case in ledger for case in out["cases"])
    assert GONE not in ledger


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
        patched.setattr(f"tasks.withdraw.{killed_at}", killed)
        with pytest.raises(OSError, match="Stale"):
            delete_withdrawn.fn("D")
    assert withdraw(patient_id=GONE)["cases"] == out, "it can be asked for again"
    delete_withdrawn.fn("D")
    assert not files_with(paths.home, GONE)
    assert not [path for case in out for path in paths.home.rglob(f"{case}*")]
    assert not paths.doomed.exists()
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


def test_a_model_that_came_back_by_import_has_learned_from_them_too(paths: DatasetPaths) -> None:
    own = a_model(paths, ["GTV"])
    case = {"case_id": min(withdraw(patient_id=GONE)["cases"]), "patient": "p", "place": 0, "label_key": "k"}
    at = paths.iteration_named("2026-11-20__D")
    record = {"name": at.root.name, "digest": "", "parent": None, "modality": "CT", "structures": ["GTV"]}
    more = {"configuration": "3d_fullres", "plans_name": "nnUNetPlans", "preparation": "", "folds": 2}
    write_json(at.record, {"version": 1, **record, **more, "cases": [case]})
    back = replace(own, model_id="import-1", imported_from="sha", ancestors=[own.digest], lineage=2)
    child = replace(own, model_id="2026-11-23", parent="import-1", lineage=2)
    for model in (back, child):
        save_model(paths, replace(model, folder=f"elsewhere/{model.model_id}/nnUNet_results/D/trainer"))
    assert withdraw(patient_id=GONE)["models"] == sorted([own.model_id, "import-1", "2026-11-23"])


@pytest.mark.parametrize("which", ["patient", "case"])
def test_other_datasets_that_have_them_are_named(paths: DatasetPaths, tmp_path: Path, which: str) -> None:
    """Each has a key and a list of its own: who withdraws from one must know of the other."""
    take_delivery.fn("OTHER", tmp_path / "in", date(2026, 11, 22))
    write_series(tmp_path / "third", SHAPE, name="d", patient="P-3")
    take_delivery.fn("THIRD", tmp_path / "third", date(2026, 11, 22))
    case = min(withdraw(patient_id=GONE)["cases"])
    by_patient = which == "patient"
    wanted = {"patient_id": GONE if by_patient else None, "case_id": None if by_patient else case}
    assert withdraw_from_ledger.fn("D", DAY, **wanted)["also_in"] == ["OTHER"]
    assert withdraw_from_ledger.fn("OTHER", DAY, **wanted)["also_in"] == []
    assert withdraw_from_ledger.fn("D", DAY, **wanted)["also_in"] == []


def test_a_single_case_is_out_and_its_patient_is_not(paths: DatasetPaths) -> None:
    case = next(iter(fates(paths)))
    assert withdraw(case_id=case)["cases"] == [case]
    assert sorted(fates(paths).values()).count(("ignored", "withdrawn")) == 1
    assert load_withdrawals(paths.withdrawals).patients == {}


@pytest.mark.parametrize(
    ("which", "words"),
    [
        ({"patient_id": "nobody"}, "has no patient with this PatientID"),
        ({"case_id": "case0"}, "has no case case0"),
    ],
)
def test_a_typing_error_is_no_withdrawal(paths: DatasetPaths, which: dict[str, str], words: str) -> None:
    with pytest.raises(UserDataError, match=words):
        withdraw(**which)
    assert not paths.withdrawals.exists()


def test_folds_keep_their_balance_and_nobody_changes_place(tmp_path: Path) -> None:
    file = tmp_path / "patients.json"
    table = extend_patients(file, [f"p{n:02}" for n in range(20)], 4, 0.2)
    emptied = {p for p, place in table.place.items() if place == 0}
    grown = extend_patients(file, [f"q{n:02}" for n in range(4)], 4, 0.2, withdrawn=emptied)
    assert {p: grown.place[p] for p in table.place} == table.place
    new = [grown.place[f"q{n:02}"] for n in range(4)]
    assert new.count(0) >= 3
    assert load_patients(file) == grown


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


def test_a_scan_that_is_out_does_not_come_back_in_the_clear(home: Path, tmp_path: Path) -> None:
    """It was withdrawn under the pseudonym with which it came."""
    recipe = Path(__file__).parents[2] / "config" / "deidentification.yaml"
    (home / "config" / recipe.name).write_text(recipe.read_text())
    scan = write_series(tmp_path / "in" / "scan", SHAPE, patient=GONE)
    write_series(tmp_path / "in" / "other", SHAPE, name="other", patient=GONE)
    take_delivery.fn("D", tmp_path / "in", date(2026, 11, 22), True)
    paths = DatasetPaths.of("D")
    known = Pseudonyms(paths.patient_key, first=False).uid(scan.uids["series"])
    withdraw(case_id=case_id_of(known))
    for file in scan.files:  # as another system exports it
        edit(file, lambda ds: setattr(ds, "StudyID", "4711"))
    report = take_delivery.fn("D", tmp_path / "in" / "scan", date(2026, 11, 23))
    assert (report["files"]["taken"], report["reasons"]) == (0, {"withdrawn": 6})
