"""A patient who withdraws is out of everything that follows, and nothing says who it was."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
import SimpleITK as sitk
from dicom_factory import edit, write_rois, write_series
from predicted_lab import a_model, predict, predicted
from prefect.logging import disable_run_logger
from withdrawing import DAY, GONE, MASK, ROIS, SETTINGS, SHAPE, fates, files_with, two_patients, withdraw

from tasks.conversion import to_convert
from tasks.convert import convert_image
from tasks.copies import scans_of
from tasks.deletion import delete_withdrawn
from tasks.dicom.case import case_id_of
from tasks.errors import UserDataError
from tasks.ingest import seal_by_hand, take_delivery
from tasks.ledger.dataset_key import pseudonyms_of
from tasks.ledger.files import write_json
from tasks.ledger.images import write_image
from tasks.ledger.models import save_model
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.patients import extend_patients, load_patients
from tasks.ledger.pseudonyms import Pseudonyms
from tasks.ledger.scans import note_scans
from tasks.ledger.snapshots import make_writable
from tasks.ledger.store import Store
from tasks.ledger.withdrawals import Withdrawals, load_withdrawals
from tasks.predict import images_in
from tasks.receive import InboxTransfers
from tasks.state import state_at
from tasks.withdraw import withdraw_from_ledger


@pytest.fixture
def paths(home: Path, tmp_path: Path) -> DatasetPaths:
    return two_patients(tmp_path)


def with_the_same_voxels(paths: DatasetPaths, *cases: str) -> None:
    for case in cases:
        write_image(sitk.Image(4, 3, 2, sitk.sitkInt16), Store(paths.store).image(case, "key"))


@pytest.mark.parametrize(("by_case", "told"), [(False, {"D": ["twin"], "E": ["theirs"]}), (True, {})])
def test_the_same_scan_under_another_name_is_told(
    paths: DatasetPaths, by_case: bool, told: dict[str, list[str]]
) -> None:
    """Of a case alone it is not: it may be withdrawn because it is there twice."""
    other = DatasetPaths(paths.home, "E")
    other.rawdata.mkdir(parents=True)
    gone = pseudonyms_of(paths).patient(f"patient:{GONE}")
    case = next(case.case_id for case in state_at(paths, SETTINGS)[0].images if case.patient == gone)
    with_the_same_voxels(paths, case, "twin")
    with_the_same_voxels(other, case, "theirs")
    out = withdraw(case_id=case) if by_case else withdraw(patient_id=GONE)
    assert out["copies"] == told
    assert bool(load_withdrawals(paths.withdrawals).scans) is not by_case


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


def learned_from(paths: DatasetPaths, case_id: str) -> None:
    """As if the iteration of the first model had trained on a case."""
    case = {"case_id": case_id, "patient": "p", "place": 0, "label_key": "k"}
    at = paths.iteration_named("2026-11-20__D")
    record = {"name": at.root.name, "digest": "", "parent": None, "modality": "CT", "structures": ["GTV"]}
    more = {"configuration": "3d_fullres", "plans_name": "nnUNetPlans", "preparation": "", "folds": 2}
    write_json(at.record, {"version": 1, **record, **more, "cases": [case]})


def test_a_model_that_came_back_by_import_has_learned_from_them_too(paths: DatasetPaths) -> None:
    own = a_model(paths, ["GTV"])
    learned_from(paths, min(withdraw(patient_id=GONE)["cases"]))
    back = replace(own, model_id="import-1", imported_from="sha", ancestors=[own.digest], lineage=2)
    child = replace(own, model_id="2026-11-23", parent="import-1", lineage=2, created="2026-11-23T20:00:00")
    for model in (back, child):
        save_model(paths, replace(model, folder=f"elsewhere/{model.model_id}/nnUNet_results/D/trainer"))
    assert withdraw(patient_id=GONE)["models"] == sorted([own.model_id, "import-1", "2026-11-23"])


def test_a_model_that_learned_from_a_copy_has_learned_from_them(paths: DatasetPaths) -> None:
    own = a_model(paths, ["GTV"])
    learned_from(paths, "twin")
    gone = pseudonyms_of(paths).patient(f"patient:{GONE}")
    case = next(case.case_id for case in state_at(paths, SETTINGS)[0].images if case.patient == gone)
    with_the_same_voxels(paths, case, "twin")
    assert withdraw(patient_id=GONE)["models"] == [own.model_id]


@pytest.mark.parametrize("which", ["patient", "case"])
def test_other_datasets_that_have_them_are_named(paths: DatasetPaths, tmp_path: Path, which: str) -> None:
    """Each has a key and a list of its own: who withdraws from one must know of the other."""
    for name in ("OTHER", "THIRD"):
        (paths.config / f"dataset_{name}.yaml").write_text("arrival_quiet_s: 0\n")
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


@pytest.mark.parametrize("how", ["delivered", "by hand", "taken by an earlier version"])
def test_what_is_saved_of_a_scan_after_it_is_gone_is_out_too(
    home: Path, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader still had it open."""
    (home / "config" / "dataset_D.yaml").write_text("arrival_quiet_s: 0\n")
    series = write_series(tmp_path / "in" / "scan", SHAPE, patient=GONE)
    take_delivery.fn("D", tmp_path / "in", date(2026, 11, 22))
    paths = DatasetPaths.of("D")
    withdraw(case_id=case_id_of(series.uids["series"]))
    delete_withdrawn.fn("D")
    folder = paths.rawdata / "2026-11-23__D" if how == "by hand" else tmp_path / "later"
    write_rois(folder / "rt.dcm", series, {"GTV": MASK})
    if how == "delivered":
        assert take_delivery.fn("D", folder, date(2026, 11, 23))["reasons"] == {"withdrawn": 1}
    elif how == "by hand":
        seal_by_hand.fn("D")
        delete_withdrawn.fn("D")
    else:
        monkeypatch.setattr("tasks.intake.Intake._is_withdrawn", lambda *_: False)
        assert take_delivery.fn("D", folder, date(2026, 11, 23))["files"]["taken"] == 1
        delete_withdrawn.fn("D")
    assert files_with(paths.rawdata, GONE) == []


@pytest.mark.parametrize("where", ["taken", "waiting", "held"])
def test_a_patient_of_whom_only_a_segmentation_came_can_be_withdrawn(
    home: Path, tmp_path: Path, where: str
) -> None:
    write_series(tmp_path / "other" / "ct", SHAPE, name="other", patient="P-2")
    take_delivery.fn("D", tmp_path / "other", date(2026, 11, 21))
    series = write_series(tmp_path / "scan", SHAPE, patient=GONE)
    drawn = write_rois(tmp_path / "in" / "rt.dcm", series, {"GTV": MASK})
    paths = DatasetPaths.of("D")
    if where == "taken":
        take_delivery.fn("D", drawn.parent, date(2026, 11, 22))
    else:
        transfers = InboxTransfers("D", deidentify=False)
        transfers.store("1", drawn.read_bytes())
        transfers.end("1", whole=where == "waiting")
    out = withdraw(patient_id=GONE)
    assert (out["cases"], out["new"]) == ([], True)
    assert delete_withdrawn.fn("D")["rawdata"] == 1
    assert files_with(paths.rawdata, GONE) == []
    report = take_delivery.fn("D", tmp_path / "scan", date(2026, 11, 23))
    assert report["reasons"] == {"withdrawn": 6}


def test_a_patient_who_was_only_predicted_can_be_withdrawn(home: Path, tmp_path: Path) -> None:
    """`predict --input` takes nothing in, and leaves objects with a name in them."""
    lab = predicted(home, tmp_path, {"GTV": MASK})
    write_series(tmp_path / "shown", SHAPE, name="shown", patient=GONE)
    (case,), _ = images_in(tmp_path / "shown", SETTINGS, pseudonyms_of(lab.paths), Withdrawals())
    predict(lab.paths, lab.model, {"GTV": MASK}, case)
    out = withdraw(patient_id=GONE)
    assert out["cases"] == [case.case_id]
    delete_withdrawn.fn("D")
    assert files_with(home / "data", GONE) == []
    assert lab.object("seg").is_file(), "somebody else's"


def test_the_scans_of_who_withdraws_are_known_where_the_store_is_empty_too(paths: DatasetPaths) -> None:
    """As after a restore, when those are withdrawn again of whom the backup does not know."""
    gone = pseudonyms_of(paths).patient(f"patient:{GONE}")
    cases = [case for case in state_at(paths, SETTINGS)[0].images if case.patient == gone]
    store = Store(paths.store)
    for case in cases:
        convert_image(to_convert(case, SETTINGS, ROIS), store)
    wanted = scans_of(store, [case.case_id for case in cases])
    shutil.rmtree(paths.store)
    used = {
        "case-of-then": ("key", "7:of a conversion that is gone", gone),
        "other": ("key", "8:x", "another"),
    }
    note_scans(paths.scans, "2026-11-22__D", used)
    withdraw(patient_id=GONE)
    assert len(wanted) == 2
    assert set(load_withdrawals(paths.withdrawals).scans) == wanted | {"7:of a conversion that is gone"}


def test_scans_that_cannot_be_read_are_withdrawn_all_the_same(paths: DatasetPaths) -> None:
    gone = pseudonyms_of(paths).patient(f"patient:{GONE}")
    cases = [case for case in state_at(paths, SETTINGS)[0].images if case.patient == gone]
    make_writable(paths.rawdata)
    cases[0].files[0].path.unlink()
    cases[1].files[0].path.write_bytes(b"cut")
    with disable_run_logger():
        assert len(withdraw(patient_id=GONE)["cases"]) == 2
    assert not load_withdrawals(paths.withdrawals).scans
