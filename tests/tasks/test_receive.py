"""What comes in over the network is whole, from whom it may come, and without its patient."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from dicom_factory import Series, ball, edit, write_multi_frame, write_rois, write_segments, write_series
from dicom_network import send
from pydicom.uid import JPEGLSLossless
from pynetdicom.pdu import A_RELEASE_RQ
from receiving import DAY, listening, ready, with_recipe

from tasks.dicom.receiver import Address, Receiver
from tasks.errors import ConfigError, UserDataError
from tasks.ingest import take_delivery, take_inbox
from tasks.ledger.inbox import Inbox
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.snapshots import load_snapshots
from tasks.ledger.withdrawals import add_withdrawal
from tasks.processes.embedded_server import free_port
from tasks.receive import InboxTransfers
from tasks.settings.dataset import DatasetSettings
from tasks.state import state_at

SHAPE = (6, 20, 24)
MASK = ball(SHAPE, (3, 8, 8), 3)


@pytest.fixture
def paths(home: Path) -> DatasetPaths:
    return with_recipe(home)


@pytest.fixture
def series(tmp_path: Path) -> Series:
    return write_series(tmp_path / "ct", SHAPE, patient="XYZZY-0815")


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


def test_a_transfer_that_is_cut_off_is_not_there_until_it_is_sent_again(
    paths: DatasetPaths, series: Series
) -> None:
    """Half a series would be a shorter one, and nothing in it says so."""
    with listening(paths) as receiver:
        assert send(receiver.port, series.files, cut_after=4) == [0, 0, 0, 0]
        assert ready(paths, 1) == []
        assert list(Inbox(paths.inbox).held().values()) == [4]
        assert take_inbox.fn("D", DAY) is None
        send(receiver.port, series.files[4:])
        assert len(ready(paths, 6)) == 6
    assert Inbox(paths.inbox).held() == {}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # of the rude sender
def test_a_sender_that_hangs_up_with_its_last_word_has_sent_all(paths: DatasetPaths, series: Series) -> None:
    with listening(paths) as receiver:
        send(receiver.port, series.files, hang_up=True)
        assert len(ready(paths, 6)) == 6
    assert Inbox(paths.inbox).held() == {}


@pytest.mark.parametrize(
    ("said", "storing", "whole"), [(True, False, True), (False, False, False), (True, True, False)]
)
def test_the_close_of_a_connection_ends_a_transfer_as_its_last_word_says(
    said: bool, storing: bool, whole: bool
) -> None:
    """In whichever order pynetdicom's threads tell it."""
    ended: list[bool] = []
    transfers: Any = SimpleNamespace(end=lambda _, *, whole: ended.append(whole))
    receiver = Receiver(Address("127.0.0.1", 0, "ITERSEG", ["PACS"]), transfers)
    event: Any = SimpleNamespace(assoc=threading.Thread(), pdu=A_RELEASE_RQ())
    receiver._names[id(event.assoc)] = "transfer"
    if storing:
        receiver._storing.add(id(event.assoc))
    if said:
        receiver._heard(event)
    receiver._closed(event)
    if storing:
        assert ended == [], "what it stores would begin it again, and nobody would end that"
        receiver._stored(event)
    receiver._end(event, whole=True)  # what comes after it changes nothing
    assert ended == [whole]


@pytest.mark.parametrize("already_storing", [True, False])
def test_a_transfer_that_breaks_while_an_instance_is_stored_is_held_and_freed_by_the_next(
    paths: DatasetPaths, series: Series, already_storing: bool
) -> None:
    """A sender that waited too long for the answer: it says so in another thread, and sends again later."""
    transfers = InboxTransfers("D", deidentify=True)
    receiver = Receiver(Address("127.0.0.1", 0, "ITERSEG", ["PACS"]), transfers)
    receiver._begun.set()
    event: Any = SimpleNamespace(assoc=threading.Thread())
    store = transfers.store

    def slowly(transfer: str, content: bytes) -> None:
        if already_storing:
            receiver._gone(event, whole=False)
        store(transfer, content)

    transfers.store = slowly  # type: ignore[method-assign]
    if not already_storing:  # the instance had come whole, and waits to be stored
        receiver._closed(event)
    with patch("tasks.dicom.receiver._file_of", lambda _: series.files[0].read_bytes()):
        assert receiver._store(event) == 0
    assert (transfers.inbox.ready(), sum(transfers.inbox.held().values())) == ([], 1)
    for file in series.files:
        store("again", file.read_bytes())
    transfers.end("again", whole=True)
    assert (len(transfers.inbox.ready()), transfers.inbox.held()) == (6, {})


def test_a_fetch_that_was_killed_is_made_good_by_the_next(paths: DatasetPaths, series: Series) -> None:
    """And a receiver that stores meanwhile is not cut off by it."""
    killed = InboxTransfers("D", deidentify=True, via="web")
    killed.store("1", series.files[0].read_bytes())
    storing = InboxTransfers("D", deidentify=True)
    storing.store("1", series.files[1].read_bytes())
    again = InboxTransfers("D", deidentify=True, via="web")
    again.begin()
    assert sum(again.inbox.held().values()) == 2
    for file in series.files:
        again.store("2", file.read_bytes())
    again.end("2", whole=True)
    assert again.inbox.ready() == [], "the receiver has not ended"
    storing.end("1", whole=True)
    assert len(again.inbox.ready()) == 6


def test_what_a_killed_receiver_was_receiving_is_held(paths: DatasetPaths) -> None:
    inbox = Inbox(paths.inbox)
    inbox.begin("store-1", "case1")
    inbox.put("case1", "1.dcm", b"x")
    assert inbox.ready() == []
    assert inbox.held() == {}
    with listening(paths):
        assert inbox.held() == {"case1": 1}
    inbox.begin("store-2", "case1")
    inbox.end("store-2", whole=True)
    assert [path.name for path in inbox.ready()] == ["1.dcm"]


def test_nothing_is_stored_before_it_is_known_what_was_cut_off(series: Series) -> None:
    """It would be cut off with it."""
    port, begun, stored = free_port(), threading.Event(), []

    class Slow:
        def begin(self) -> None:
            sender.start()
            time.sleep(1.0)
            begun.set()

        def store(self, transfer: str, content: bytes) -> None:
            stored.append(begun.is_set())

        def end(self, transfer: str, *, whole: bool) -> None: ...

    sender = threading.Thread(target=send, args=(port, series.files))
    with Receiver(Address("127.0.0.1", port, "ITERSEG", ["PACS"]), Slow()):
        sender.join()
    assert stored == [True] * len(series.files)


def test_a_receiver_that_cannot_begin_keeps_no_sender_waiting(series: Series) -> None:
    port = free_port()

    class Broken:
        def begin(self) -> None:
            sender.start()
            time.sleep(1.0)
            raise OSError(116, "Stale file handle")

        def store(self, transfer: str, content: bytes) -> None: ...

        def end(self, transfer: str, *, whole: bool) -> None: ...

    sender = threading.Thread(target=send, args=(port, series.files[:1]), daemon=True)
    with (
        pytest.raises(OSError, match="Stale"),
        Receiver(Address("127.0.0.1", port, "ITERSEG", ["PACS"]), Broken()),
    ):
        pass
    sender.join(timeout=20)
    assert not sender.is_alive()


def test_a_second_receiver_by_mistake_cuts_nothing_off(paths: DatasetPaths, series: Series) -> None:
    """What the first one has stored of an association that goes on was promised to its sender."""
    with listening(paths) as receiver:
        transfers = InboxTransfers("D", deidentify=True)
        transfers.store("going on", series.files[0].read_bytes())
        place = Address("127.0.0.1", receiver.port, "ITERSEG", ["PACS"])
        with pytest.raises(ConfigError, match="cannot listen on"), Receiver(place, transfers):
            pass
        transfers.end("going on", whole=True)
    assert Inbox(paths.inbox).held() == {}
    assert len(Inbox(paths.inbox).ready()) == 1


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
