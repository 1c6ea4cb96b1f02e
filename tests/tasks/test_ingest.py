"""Every file of a delivery has a fate, and the same delivery twice changes nothing."""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from dicom_factory import Series, ball, edit, write_rois, write_series

from tasks.ingest import seal_by_hand, take_delivery
from tasks.ledger.files import write_json
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.snapshots import load_snapshots

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
    paths = DatasetPaths.of("D")
    import pydicom

    uid = pydicom.dcmread(delivery / "rt").SOPInstanceUID
    write_json(paths.sent / f"{uid}.json", {})
    report = take(delivery)
    assert report["reasons"] == {"no-dicom": 1, "own-prediction": 1, "unreadable": 1}


@pytest.mark.parametrize("patient", ["../../x", "a/b", "", "p-1", "P-1 "])
def test_odd_patient_ids_do_no_harm(home: Path, tmp_path: Path, patient: str) -> None:
    write_series(tmp_path / "in", SHAPE, patient=patient)
    assert take(tmp_path / "in")["files"]["taken"] == 6
    assert {p.name for p in home.iterdir()} == {"config", "data"}
    written = list((home / "data").rglob("*.dcm"))
    assert all(p.parent.name.startswith("CT_case") for p in written)


def test_a_folder_filled_by_hand_is_taken_as_it_is(home: Path) -> None:
    folder = home / "data" / "rawdata" / "D" / "2026-11-20__D"
    series: Series = write_series(folder / "any" / "nesting", SHAPE)
    before = {p: p.read_bytes() for p in series.files}
    (report,) = seal_by_hand.fn("D")
    assert (report["snapshot"], report["files"]["taken"]) == ("2026-11-20__D", 6)
    assert {p: p.read_bytes() for p in series.files} == before
    assert seal_by_hand.fn("D") == []


def test_a_failed_copy_leaves_no_snapshot(
    home: Path, delivery: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = []

    def copy_until_the_disk_is_full(source: Path, target: Path) -> None:
        if len(copied) == 3:
            raise OSError(28, "No space left on device")
        copied.append(target)
        target.write_bytes(source.read_bytes())

    monkeypatch.setattr("tasks.ingest.shutil.copyfile", copy_until_the_disk_is_full)
    with pytest.raises(OSError, match="No space left"):
        take(delivery)
    left = {p.name for p in (home / "data" / "rawdata" / "D").iterdir()}
    assert left == {"patient.key"}
