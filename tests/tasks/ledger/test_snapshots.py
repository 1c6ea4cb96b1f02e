"""What arrived when."""

from __future__ import annotations

import errno
import os
import shutil
from datetime import date, timedelta
from pathlib import Path

import pytest

from tasks.errors import UserDataError
from tasks.ledger.accounts import FileRow
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.pseudonyms import Pseudonyms
from tasks.ledger.snapshots import (
    day_of_arrival,
    load_snapshots,
    make_read_only,
    next_snapshot_name,
    note_snapshots,
    require_whole,
    seal,
    unsealed_folders,
)


@pytest.fixture
def paths(home: Path) -> DatasetPaths:
    paths = DatasetPaths(home, "D")
    Pseudonyms(paths.patient_key, first=True)
    return paths


def folder(paths: DatasetPaths, name: str, *, sealed: bool) -> None:
    (paths.rawdata / name).mkdir(parents=True)
    if sealed:
        seal(paths.rawdata / name, [FileRow("a", "taken", None, "", "sha", 1, None)], "copied")


def test_the_state_at_a_date_is_all_that_is_sealed_up_to_it(paths: DatasetPaths) -> None:
    folder(paths, "2026-11-22__D", sealed=True)
    folder(paths, "2026-11-23__D", sealed=True)
    folder(paths, "2026-11-24__D", sealed=False)
    assert [str(s.name) for s in load_snapshots(paths)] == ["2026-11-22__D", "2026-11-23__D"]
    assert [str(s.name) for s in load_snapshots(paths, date(2026, 11, 22))] == ["2026-11-22__D"]
    assert [str(name) for name in unsealed_folders(paths)] == ["2026-11-24__D"]


def test_a_second_delivery_of_a_day_makes_its_own(paths: DatasetPaths) -> None:
    day = date(2026, 11, 23)
    assert next_snapshot_name(paths, day).short == "2026-11-23"
    folder(paths, "2026-11-23__D", sealed=True)
    assert next_snapshot_name(paths, day).short == "2026-11-23.2"


def test_a_delivery_cannot_be_dated_before_the_newest(paths: DatasetPaths) -> None:
    folder(paths, "2026-11-23__D", sealed=True)
    with pytest.raises(UserDataError, match="cannot be dated 2026-11-22"):
        next_snapshot_name(paths, date(2026, 11, 22))


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.EROFS])
def test_a_file_system_without_modes_costs_no_delivery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    (tmp_path / "a.dcm").touch()
    monkeypatch.setattr(Path, "chmod", refuse)
    make_read_only(tmp_path)


def test_a_snapshot_that_is_on_record_is_there(paths: DatasetPaths) -> None:
    """Else an older label counts, and the next delivery takes its name."""
    folder(paths, "2026-11-22__D", sealed=True)
    folder(paths, "2026-11-23__D", sealed=True)
    note_snapshots(paths)
    require_whole(paths)
    shutil.rmtree(paths.rawdata / "2026-11-23__D")
    with pytest.raises(UserDataError, match="2026-11-23__D: on record, and not in .* restore it"):
        require_whole(paths)


def test_what_comes_in_while_a_snapshot_is_ahead_of_the_clock_is_of_its_day(paths: DatasetPaths) -> None:
    """Receiver and worker may be in two zones, or one of them has booted with another date."""
    assert day_of_arrival(paths) == date.today()
    ahead = date.today() + timedelta(days=1)
    (paths.rawdata / f"{ahead}__D").mkdir(parents=True)
    assert day_of_arrival(paths) == ahead
    assert next_snapshot_name(paths, day_of_arrival(paths)).day == ahead
