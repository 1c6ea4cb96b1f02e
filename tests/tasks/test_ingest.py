"""Every file of a delivery has a fate, and the same delivery twice changes nothing."""

from __future__ import annotations

import shutil
import threading
import time
from datetime import date
from pathlib import Path
from typing import Any

import pydicom
import pytest
from dicom_factory import ball, edit, write_rois, write_series

from tasks.errors import ConfigError, UserDataError
from tasks.ingest import take_delivery, without_patient_id
from tasks.ledger.files import sha256_of_file, write_json
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.snapshots import load_snapshots
from tasks.settings.dataset import DatasetSettings
from tasks.state import state_at

SHAPE = (6, 20, 24)
DAY = date(2026, 11, 23)


@pytest.fixture
def delivery(tmp_path: Path) -> Path:
    root = tmp_path / "incoming"
    series = write_series(root / "deep" / "DOE^JOHN", SHAPE)
    write_rois(root / "rt", series, {"GTV": ball(SHAPE, (3, 8, 8), 3)})
    (root / "README.txt").write_text("hello")
    (root / "broken.dcm").write_bytes(b"")
    shutil.copy(series.files[0], root / "a copy.dcm")
    return root


def take(source: Path) -> dict[str, Any]:
    return take_delivery.fn("D", source, DAY)


def test_every_file_is_accounted_for(home: Path, delivery: Path) -> None:
    report = take(delivery)
    assert report["files"] == {"taken": 7, "duplicate": 1, "rejected": 1, "ignored": 1}
    assert sum(report["files"].values()) == sum(p.is_file() for p in delivery.rglob("*"))
    assert report["reasons"] == {"no-dicom": 1, "unreadable": 1}
    (snapshot,) = load_snapshots(DatasetPaths.of("D"))
    assert len(snapshot.files) == 10


def test_files_are_sorted_one_series_a_folder_under_names_made_of_uids(home: Path, delivery: Path) -> None:
    take(delivery)
    folder = home / "data" / "rawdata" / "D" / "2026-11-23__D"
    names = sorted(p.name for p in folder.iterdir())
    assert [name.split("_")[0] for name in names] == ["CT", "RTSTRUCT", "manifest.json"]
    everything = [p.relative_to(folder).as_posix() for p in folder.rglob("*")]
    assert not any("DOE" in name for name in everything)
    source = {p.read_bytes() for p in delivery.rglob("*") if p.is_file()}
    assert all(p.read_bytes() in source for p in folder.rglob("*.dcm"))


def test_the_same_delivery_twice_changes_nothing(home: Path, delivery: Path) -> None:
    take(delivery)
    before = sorted((home / "data").rglob("*"))
    report = take(delivery)
    assert report["snapshot"] is None
    assert report["files"]["taken"] == 0
    assert report["files"]["duplicate"] == 8
    assert sorted((home / "data").rglob("*")) == before


def test_one_uid_with_two_contents_names_no_instance(home: Path, delivery: Path, tmp_path: Path) -> None:
    take(delivery)
    other = tmp_path / "later"
    shutil.copytree(delivery / "deep", other)
    changed = sorted(p for p in other.rglob("*") if p.is_file())[0]
    edit(changed, lambda ds: setattr(ds, "PixelData", b"\0" * len(ds.PixelData)))
    report = take(other)
    assert report["snapshot"] is None
    assert report["reasons"] == {"uid-conflict": 1}
    assert report["files"]["duplicate"] == 5


def test_two_contents_of_one_uid_in_one_delivery_are_both_set_aside(home: Path, tmp_path: Path) -> None:
    series = write_series(tmp_path / "in" / "a", SHAPE)
    shutil.copy(series.files[0], tmp_path / "in" / "b")
    edit(tmp_path / "in" / "b", lambda ds: setattr(ds, "PixelData", b"\0" * len(ds.PixelData)))
    report = take(tmp_path / "in")
    assert report["reasons"] == {"uid-conflict": 2}
    assert report["files"]["taken"] == 5


def test_a_prediction_that_comes_back_is_no_persons_work(home: Path, delivery: Path) -> None:
    uid = pydicom.dcmread(delivery / "rt").SOPInstanceUID
    sent = {"sha256": sha256_of_file(delivery / "rt")}
    write_json(DatasetPaths.of("D").sent / f"{uid}.json", sent)
    assert take(delivery)["reasons"] == {"no-dicom": 1, "own-prediction": 1, "unreadable": 1}


def test_a_prediction_that_was_changed_under_its_uid_comes_in(home: Path, delivery: Path) -> None:
    """Dropped as our own, or as a conflict, a correction would be lost."""
    uid = pydicom.dcmread(delivery / "rt").SOPInstanceUID
    write_json(DatasetPaths.of("D").sent / f"{uid}.json", {"sha256": "another"})
    report = take(delivery)
    assert report["reasons"] == {"no-dicom": 1, "unreadable": 1}
    assert report["files"]["taken"] == 7


@pytest.mark.parametrize("patient", ["../../x", "a/b", "", "p-1", "P-1 "])
def test_odd_patient_ids_do_no_harm(home: Path, tmp_path: Path, patient: str) -> None:
    write_series(tmp_path / "in", SHAPE, patient=patient)
    assert take(tmp_path / "in")["files"]["taken"] == 6
    assert {p.name for p in home.iterdir()} == {"config", "data"}
    written = list((home / "data").rglob("*.dcm"))
    assert all(p.parent.name.startswith("CT_case") for p in written)


def test_links_are_followed_and_end(home: Path, tmp_path: Path) -> None:
    series = write_series(tmp_path / "elsewhere", SHAPE)
    delivery = tmp_path / "in"
    delivery.mkdir()
    (delivery / "linked").symlink_to(series.folder)
    (delivery / "loop").symlink_to(delivery)
    (delivery / "nowhere").symlink_to(tmp_path / "absent")
    report = take(delivery)
    assert report["files"]["taken"] == 6
    assert report["reasons"] == {"unreadable": 1}


def test_a_full_disk_leaves_no_snapshot(home: Path, delivery: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, written = Path.write_bytes, []

    def write_until_the_disk_is_full(path: Path, content: bytes) -> int:
        if len(written) == 3:
            raise OSError(28, "No space left on device")
        written.append(path)
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", write_until_the_disk_is_full)
    with pytest.raises(OSError, match="No space left"):
        take(delivery)
    left = {p.name for p in (home / "data" / "rawdata" / "D").iterdir()}
    assert left == {"patient.key"}


def test_a_sealed_snapshot_is_read_only(home: Path, delivery: Path) -> None:
    take(delivery)
    folder = home / "data" / "rawdata" / "D" / "2026-11-23__D"
    assert [p for p in [folder, *folder.rglob("*")] if p.stat().st_mode & 0o222] == []


def test_the_other_content_of_a_uid_is_kept_beside(home: Path, delivery: Path, tmp_path: Path) -> None:
    take(delivery)
    (tmp_path / "later").mkdir()
    changed = shutil.copy(sorted((delivery / "deep" / "DOE^JOHN").iterdir())[0], tmp_path / "later" / "x")
    edit(Path(changed), lambda ds: setattr(ds, "PixelData", b"\0" * len(ds.PixelData)))
    take(tmp_path / "later")
    (aside,) = DatasetPaths.of("D").set_aside.iterdir()
    assert aside.read_bytes() == Path(changed).read_bytes()
    assert "DOE" not in aside.name


def test_a_delivery_of_which_nothing_was_taken_is_on_record(
    home: Path, delivery: Path, tmp_path: Path
) -> None:
    take(delivery)
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "broken.dcm").write_bytes(b"not DICOM")
    report = take(tmp_path / "later")
    assert report["snapshot"] is None
    (record,) = DatasetPaths.of("D").deliveries.iterdir()
    assert "unreadable" in record.read_text()
    take(tmp_path / "later")
    assert list(DatasetPaths.of("D").deliveries.iterdir()) == [record]


def test_each_file_has_a_row_that_names_no_path(home: Path, delivery: Path) -> None:
    report = take(delivery)
    (snapshot,) = load_snapshots(DatasetPaths.of("D"))
    assert [row["number"] for row in report["rows"]] == list(range(1, 11))
    for row, file in zip(report["rows"], snapshot.files, strict=True):
        assert (row["state"], row["sha256"]) == (file.state, file.sha256)
    assert "DOE" not in str(report)


def test_a_localizer_is_set_aside_and_the_rest_goes_on(home: Path, tmp_path: Path) -> None:
    def scout(k: int, ds: Any) -> None:
        ds.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER" if k == 0 else "AXIAL"]

    write_series(tmp_path / "in", SHAPE, change=scout)
    report = take(tmp_path / "in")
    assert report["files"] == {"taken": 5, "duplicate": 0, "rejected": 0, "ignored": 1}
    assert report["reasons"] == {"localizer": 1}


def test_a_folder_that_is_being_filled_is_waited_for(home: Path, tmp_path: Path) -> None:
    (home / "config" / "dataset_D.yaml").write_text("arrival_quiet_s: 1.5\n")
    series = write_series(tmp_path / "sent", SHAPE)
    target = tmp_path / "in"
    target.mkdir()

    shutil.copyfile(series.files[0], target / series.files[0].name)

    def copy_slowly() -> None:
        for file in series.files[1:]:
            shutil.copyfile(file, target / file.name)
            time.sleep(0.3)

    copying = threading.Thread(target=copy_slowly)
    copying.start()
    report = take(target)
    copying.join()
    assert report["files"]["taken"] == len(series.files)


def test_a_folder_that_never_comes_to_rest_is_not_taken(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "config" / "dataset_D.yaml").write_text("arrival_quiet_s: 60\n")
    monkeypatch.setattr("tasks.delivery.ARRIVAL_TIMEOUT_S", 0.5)
    write_series(tmp_path / "in", SHAPE)
    with pytest.raises(UserDataError, match="still arriving"):
        take(tmp_path / "in")


@pytest.fixture
def recipe(home: Path) -> None:
    shutil.copy(Path(__file__).parents[2] / "config" / "deidentification.yaml", home / "config")


@pytest.mark.usefixtures("recipe")
def test_a_folder_loses_its_identities_where_that_was_chosen(home: Path, tmp_path: Path) -> None:
    series = write_series(tmp_path / "in" / "XYZZY", SHAPE, patient="XYZZY-0815")
    write_rois(tmp_path / "rt" / "rt", series, {"GTV": ball(SHAPE, (3, 8, 8), 3)})
    (home / "config" / "dataset_D.yaml").write_text("arrival_quiet_s: 0\ndeidentify_folders: true\n")
    take(tmp_path / "in")
    # The drawing comes later, still with its own UIDs, and finds its image.
    take(tmp_path / "rt")
    (case,) = state_at(DatasetPaths.of("D"), DatasetSettings())[0].images
    assert case.state == "pending"
    stored = [p for p in (home / "data").rglob("*") if p.is_file()]
    assert not [p for p in stored if b"XYZZY" in p.read_bytes() or "XYZZY" in str(p.relative_to(home))]
    assert take(tmp_path / "in")["files"]["duplicate"] == 6


def test_deidentification_without_a_recipe_is_refused(home: Path, delivery: Path) -> None:
    with pytest.raises(ConfigError, match=r"deidentification\.yaml does not exist"):
        take_delivery.fn("D", delivery, DAY, True)


def test_a_patients_scans_are_one_patients_whatever_way_they_came(home: Path, tmp_path: Path) -> None:
    """Folds are made of patients: one who is two would stand on both sides of a validation."""
    shutil.copy(Path(__file__).parents[2] / "config" / "deidentification.yaml", home / "config")
    for name in ("a", "b"):
        write_series(tmp_path / name, SHAPE, name=name, patient="P-9")
    take_delivery.fn("D", tmp_path / "a", DAY, False)
    take_delivery.fn("D", tmp_path / "b", DAY, True)
    images = state_at(DatasetPaths.of("D"), DatasetSettings())[0].images
    assert len({case.series_instance_uid for case in images}) == 2
    assert len({case.patient for case in images}) == 1


@pytest.mark.parametrize(("studies", "told"), [(2, True), (1, False)])
def test_studies_without_a_patient_are_said_to_be_patients_of_their_own(
    home: Path, tmp_path: Path, studies: int, told: bool
) -> None:
    """Two scans of one person, of whom no file says who it is, would train a fold and validate it."""
    for n in range(studies):
        series = write_series(tmp_path / "in" / f"{n}", SHAPE, name=f"{n}")
        for file in series.files:
            edit(file, lambda ds: setattr(ds, "PatientID", ""))
    write_series(tmp_path / "in" / "named", SHAPE, name="named", patient="P1")
    take_delivery.fn("D", tmp_path / "in", DAY)
    said = without_patient_id("D")
    assert (said is not None) == told
    assert not told or said.startswith("2 studies have no PatientID")  # type: ignore[union-attr]


def test_files_that_cannot_be_read_are_on_record_each(home: Path, tmp_path: Path) -> None:
    """They have no content by which they could be told apart."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "IM0001").symlink_to("nowhere")
        take(tmp_path / name)
        take(tmp_path / name)
    accounts = sorted(DatasetPaths.of("D").deliveries.iterdir())
    assert ["IM0001" in file.read_text() for file in accounts] == [True, True]
