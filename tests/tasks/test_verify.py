"""What was changed behind the ledger's back is found, and named without a path."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import date
from pathlib import Path

import pytest
from dicom_factory import write_series

from tasks.ingest import seal_by_hand, take_delivery
from tasks.ledger.files import write_json
from tasks.ledger.iterations import Iteration
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.snapshots import make_writable
from tasks.verify import verify_dataset


@pytest.mark.parametrize(
    ("damage", "fate"),
    [
        (lambda file: file.unlink(), "is gone"),
        (lambda file: file.write_bytes(b"other"), "has another content than was recorded"),
    ],
)
def test_every_file_of_a_snapshot_is_hashed_again(
    home: Path, tmp_path: Path, damage: Callable[[Path], None], fate: str
) -> None:
    write_series(tmp_path / "DOE^JOHN", (6, 20, 24))
    take_delivery.fn("D", tmp_path / "DOE^JOHN", date(2026, 11, 24))
    paths = DatasetPaths.of("D")
    assert verify_dataset(paths) == {
        "checked": {"files": 6, "checkpoints": 0, "iterations": 0, "records": 14},
        "findings": [],
    }
    make_writable(paths.rawdata / "2026-11-24__D")
    damage(next(paths.rawdata.rglob("*.dcm")))
    (finding,) = verify_dataset(paths)["findings"]
    assert finding.startswith("2026-11-24__D, file ")
    assert finding.endswith(fate)
    assert "DOE" not in finding


def test_what_is_put_into_a_folder_of_the_users_own_is_no_finding(home: Path) -> None:
    """The next run takes it."""
    folder = home / "data" / "rawdata" / "D" / "2026-11-24__D"
    write_series(folder / "ct", (6, 20, 24))
    seal_by_hand.fn("D")
    write_series(folder / "later", (6, 20, 24), name="later")
    assert verify_dataset(DatasetPaths.of("D"))["findings"] == []


def test_a_key_that_a_restore_forgot_is_missed(home: Path, tmp_path: Path) -> None:
    write_series(tmp_path / "scan", (6, 20, 24))
    take_delivery.fn("D", tmp_path / "scan", date(2026, 11, 24))
    paths = DatasetPaths.of("D")
    paths.patient_key.write_text("ab" * 32)
    (finding,) = verify_dataset(paths)["findings"]
    assert "patient.key is not the key with which 2026-11-24__D was taken" in finding
    paths.patient_key.unlink()
    (finding,) = verify_dataset(paths)["findings"]
    assert "patient.key is lost or damaged" in finding


def test_a_record_that_cannot_be_read_is_a_finding_and_no_end(home: Path, tmp_path: Path) -> None:
    write_series(tmp_path / "scan", (6, 20, 24))
    take_delivery.fn("D", tmp_path / "scan", date(2026, 11, 24))
    paths = DatasetPaths.of("D")
    paths.sent.mkdir(parents=True)
    (paths.sent / "1.2.json").write_text('{"case_id": "case')
    found = verify_dataset(paths)
    assert found["findings"] == [f"{paths.sent / '1.2.json'} is damaged; restore it from the backup"]
    assert found["checked"]["files"] == 6


@pytest.mark.parametrize("name", DatasetPaths(Path(), "D").what_an_iteration_is_of)
def test_a_journal_that_is_older_than_an_iteration_is_missed(home: Path, name: str) -> None:
    paths = DatasetPaths.of("D")
    heads = dict.fromkeys(paths.what_an_iteration_is_of) | {name: "what it was then"}
    of_then = Iteration("2026-11-20__D", "d", None, "CT", ["GTV"], "3d_fullres", "p", "", 2, [], ledger=heads)
    record = paths.procdata / "2026-11-20__D" / "iteration.json"
    write_json(record, {"version": 1, **asdict(of_then)})
    lost = [finding for finding in verify_dataset(paths)["findings"] if "ledger" in finding]
    assert lost == [f"the ledger's {name}.json has lost entries since iteration 2026-11-20__D"]
