"""What comes in over the network is whole, from whom it may come, and without its patient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from dicom_factory import Series, ball, edit, write_multi_frame, write_rois, write_segments, write_series
from dicom_network import send
from pydicom.uid import JPEGLSLossless
from receiving import DAY, listening, ready

from tasks.dicom.receiver import Address, Receiver
from tasks.errors import ConfigError, UserDataError
from tasks.ingest import take_delivery, take_inbox
from tasks.ledger.inbox import Inbox
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.snapshots import load_snapshots
from tasks.ledger.withdrawals import add_withdrawal
from tasks.receive import InboxTransfers
from tasks.settings.dataset import DatasetSettings
from tasks.state import state_at

SHAPE = (6, 20, 24)
MASK = ball(SHAPE, (3, 8, 8), 3)


def test_a_transfer_becomes_a_snapshot(paths: DatasetPaths, series: Series, tmp_path: Path) -> None:
    drawn = write_rois(tmp_path / "rt", series, {"GTV": MASK})
    with listening(paths) as receiver:
        assert set(send(receiver.port, [*series.files, drawn])) == {0}
        assert len(ready(paths, 7)) == 7
        report = take_inbox.fn("D", DAY)
    assert report is not None
    assert report["files"] == {"taken": 7, "duplicate": 0, "rejected": 0, "ignored": 0}
    assembly, snapshot = state_at(paths, DatasetSettings())
    assert [case.state for case in assembly.images] == ["pending"]
    assert snapshot.origin == "received"
    assert not list(paths.inbox.iterdir())
    stored = [p for p in paths.rawdata.rglob("*") if p.is_file()]
    assert not [p for p in stored if b"XYZZY" in p.read_bytes()]


def test_the_same_transfer_twice_changes_nothing(paths: DatasetPaths, series: Series) -> None:
    with listening(paths) as receiver:
        for _ in range(2):
            send(receiver.port, series.files)
            ready(paths, 6)
            take_inbox.fn("D", DAY)
    assert len(load_snapshots(paths)) == 1
    assert take_inbox.fn("D", DAY) is None


def test_a_segmentation_that_comes_later_finds_its_image(
    paths: DatasetPaths, series: Series, tmp_path: Path
) -> None:
    with listening(paths) as receiver:
        send(receiver.port, series.files)
        ready(paths, 6)
        take_inbox.fn("D", DAY)
        send(receiver.port, [write_rois(tmp_path / "rt", series, {"GTV": MASK})], calling="VIEWER")
        ready(paths, 1)
        take_inbox.fn("D", DAY)
    assembly, _ = state_at(paths, DatasetSettings())
    assert [case.state for case in assembly.images] == ["pending"]


def test_every_kind_that_is_used_is_accepted_in_its_own_encoding(paths: DatasetPaths, tmp_path: Path) -> None:
    series = write_series(tmp_path / "ct", (6, 64, 72))
    frames = write_multi_frame(tmp_path / "multi", series, "enhanced CT")
    seg = write_segments(tmp_path / "seg", series, ball((6, 64, 72), (3, 8, 8), 3).astype(int), ["GTV"])
    for file in series.files:
        edit(file, lambda ds: ds.compress(JPEGLSLossless, generate_instance_uid=False))
    with listening(paths) as receiver:
        assert set(send(receiver.port, [*series.files, frames, seg])) == {0}
        ready(paths, 8)
        report = take_inbox.fn("D", DAY)
    assert report is not None
    assert report["files"]["taken"] == 8


def test_identities_stay_where_that_was_chosen(paths: DatasetPaths, series: Series) -> None:
    with listening(paths, deidentify=False) as receiver:
        send(receiver.port, series.files)
        files = ready(paths, 6)
    assert all(b"XYZZY-0815" in file.read_bytes() for file in files)


@pytest.mark.parametrize(
    ("names", "why"),
    [({"calling": "STRANGER"}, "is not listed"), ({"called": "OTHER"}, "calls another title")],
)
def test_nobody_else_is_listened_to(
    paths: DatasetPaths, series: Series, names: dict[str, str], why: str
) -> None:
    with listening(paths) as receiver, pytest.raises(ConnectionRefusedError):
        send(receiver.port, series.files, **names)  # type: ignore[arg-type]
    assert not paths.inbox.exists(), why


def _bad_uid(ds: Any) -> None:
    ds.SeriesInstanceUID = "../../escape"


def _burned_in(ds: Any) -> None:
    ds.BurnedInAnnotation = "YES"


@pytest.mark.parametrize("change", [_bad_uid, _burned_in])
def test_an_instance_that_cannot_be_used_is_refused_to_its_sender(
    paths: DatasetPaths, series: Series, change: Any
) -> None:
    edit(series.files[2], change)
    with listening(paths) as receiver:
        statuses = send(receiver.port, series.files)
        assert [status for status in statuses if status] == [0xC000]
        assert len(ready(paths, 5)) == 5


def test_a_localizer_is_set_aside_and_the_rest_goes_on(
    paths: DatasetPaths, series: Series, tmp_path: Path
) -> None:
    scout = write_series(tmp_path / "scout", (1, 20, 24), name="scout").files[0]
    edit(scout, lambda ds: setattr(ds, "ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"]))
    edit(scout, lambda ds: setattr(ds, "SeriesInstanceUID", series.uids["series"]))
    with listening(paths) as receiver:
        send(receiver.port, [*series.files, scout])
        ready(paths, 7)
        report = take_inbox.fn("D", DAY)
    assert report is not None
    assert report["reasons"] == {"localizer": 1}
    assembly, _ = state_at(paths, DatasetSettings())
    assert [len(case.files) for case in assembly.images] == [6]


def test_a_withdrawn_patient_is_refused(paths: DatasetPaths, series: Series) -> None:
    transfers = InboxTransfers("D", deidentify=True)
    patient = transfers._intake("x").pseudonyms.patient("patient:XYZZY-0815")
    add_withdrawal(paths.withdrawals, DAY, [], patient)
    with listening(paths) as receiver:
        assert set(send(receiver.port, series.files)) == {0xC000}
    assert Inbox(paths.inbox).ready() == []
    report = take_inbox.fn("D", DAY)
    assert report is not None
    assert (report["snapshot"], report["reasons"]) == (None, {"withdrawn": 6})


@pytest.mark.parametrize(
    ("address", "words"),
    [
        (Address("127.0.0.1", 0, "ITERSEG", []), "--allow"),
        (Address("127.0.0.1", 0, "A TITLE THAT IS TOO LONG", ["PACS"]), "no AE title"),
        (Address("127.0.0.1", 0, "ITERSEG", [""]), "no AE title"),
        (Address("203.0.113.7", 11112, "ITERSEG", ["PACS"]), "cannot listen on 203.0.113.7:11112"),
    ],
)
def test_an_address_that_cannot_be_is_said(paths: DatasetPaths, address: Address, words: str) -> None:
    with pytest.raises(ConfigError, match=words), Receiver(address, InboxTransfers("D", deidentify=True)):
        pass


def test_without_a_recipe_nothing_is_received(home: Path) -> None:
    with pytest.raises(ConfigError, match=r"deidentification\.yaml does not exist"):
        InboxTransfers("D", deidentify=True)


def test_with_a_lost_key_nothing_is_received(paths: DatasetPaths, series: Series) -> None:
    take_delivery.fn("D", series.folder, DAY)
    paths.patient_key.unlink()
    with pytest.raises(UserDataError, match="restore it from the backup"):
        InboxTransfers("D", deidentify=True)


def test_what_was_refused_is_in_the_account(paths: DatasetPaths, series: Series) -> None:
    edit(series.files[0], _burned_in)
    with listening(paths) as receiver:
        send(receiver.port, series.files)
        ready(paths, 5)
        report = take_inbox.fn("D", DAY)
    assert report is not None
    assert report["files"] == {"taken": 5, "duplicate": 0, "rejected": 1, "ignored": 0}
    assert report["reasons"] == {"burned-in-annotation": 1}
    (row,) = (row for row in load_snapshots(paths)[0].files if row.state == "rejected")
    assert len(row.sha256) == 64
    assert take_inbox.fn("D", DAY) is None
