"""One key for ever: under another one every patient is a stranger, and could change folds."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from dicom_factory import write_series

from tasks.errors import UserDataError
from tasks.ingest import take_delivery
from tasks.ledger.dataset_key import pseudonyms_of
from tasks.ledger.files import read_json, write_json
from tasks.ledger.paths import DatasetPaths


@pytest.fixture
def paths(home: Path, tmp_path: Path) -> DatasetPaths:
    write_series(tmp_path / "scan", (6, 20, 24))
    take_delivery.fn("D", tmp_path / "scan", date(2026, 11, 24))
    return DatasetPaths.of("D")


def test_a_key_is_made_where_nothing_was_ever_delivered_and_kept(home: Path) -> None:
    paths = DatasetPaths(home, "NEW")
    assert pseudonyms_of(paths).patient("patient:A") == pseudonyms_of(paths).patient("patient:A")


def test_a_lost_key_is_not_replaced(paths: DatasetPaths) -> None:
    paths.patient_key.unlink()
    with pytest.raises(UserDataError, match="is lost or damaged; restore it from the backup"):
        pseudonyms_of(paths)
    assert not paths.patient_key.exists()


def test_another_key_is_not_taken(paths: DatasetPaths, tmp_path: Path) -> None:
    paths.patient_key.write_text("ab" * 32)
    with pytest.raises(UserDataError, match="is not the key with which 2026-11-24__D was taken; restore"):
        pseudonyms_of(paths)
    write_series(tmp_path / "next", (6, 20, 24))
    with pytest.raises(UserDataError, match="is not the key"):
        take_delivery.fn("D", tmp_path / "next", date(2026, 11, 25))
    assert not (paths.rawdata / "2026-11-25__D").exists()


def test_records_of_before_there_was_a_mark_are_read(paths: DatasetPaths) -> None:
    record = read_json(paths.snapshots)
    for entry in record["entries"]:
        del entry["key_mark"]
    write_json(paths.snapshots, record)
    pseudonyms_of(paths)


def test_the_mark_tells_nothing_of_the_key(paths: DatasetPaths) -> None:
    (entry,) = read_json(paths.snapshots)["entries"]
    assert entry["key_mark"] not in paths.patient_key.read_text()
    assert len(bytes.fromhex(entry["key_mark"])) == 8
