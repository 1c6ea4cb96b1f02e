"""What comes in over the network and is cut off counts for nothing until it is sent again."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from dicom_factory import Series
from dicom_network import send
from pynetdicom.pdu import A_RELEASE_RQ
from receiving import DAY, listening, ready

from tasks.dicom.receiver import Address, Receiver
from tasks.errors import ConfigError
from tasks.ingest import take_inbox
from tasks.ledger.inbox import Inbox
from tasks.ledger.paths import DatasetPaths
from tasks.processes.embedded_server import free_port
from tasks.receive import InboxTransfers


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
