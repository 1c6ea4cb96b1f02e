"""Where disk or file system fails, nothing that was sent is lost, and nothing counts as whole that is not."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from dicom_factory import Series
from dicom_network import send
from receiving import DAY, held, listening, ready

import tasks.intake
from tasks.errors import ConfigError
from tasks.ingest import take_delivery, take_inbox
from tasks.ledger.inbox import Inbox
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.pseudonyms import Pseudonyms
from tasks.receive import InboxTransfers


def test_a_transfer_that_could_not_be_kept_whole_is_held(
    paths: DatasetPaths, series: Series, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sender is told that the disk is full, and may still release as if nothing had been."""
    put = Inbox.put
    stored: list[str] = []

    def full(self: Inbox, folder: str, name: str, content: bytes) -> None:
        if len(stored) == 3:
            raise OSError(28, "No space left on device")
        stored.append(name)
        put(self, folder, name, content)

    monkeypatch.setattr(Inbox, "put", full)
    with listening(paths) as receiver:
        assert set(send(receiver.port, series.files)) == {0, 0xA700}
        assert held(paths) == [3]
        assert Inbox(paths.inbox).ready() == []


def test_a_transfer_of_which_an_instance_failed_in_any_way_is_held(
    paths: DatasetPaths, series: Series, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as the first one, as the recipe is being written: the rest would count as a whole series."""
    store, called = InboxTransfers.store, []

    def fails_once(self: InboxTransfers, transfer: str, content: bytes) -> None:
        called.append(transfer)
        if len(called) == 1:
            raise ConfigError("a recipe that is half written")
        store(self, transfer, content)

    monkeypatch.setattr(InboxTransfers, "store", fails_once)
    with listening(paths) as receiver:
        statuses = send(receiver.port, series.files)
        assert (statuses[0] != 0, set(statuses[1:])) == (True, {0})
        assert held(paths) == [5]
        assert Inbox(paths.inbox).ready() == []


def test_what_cannot_be_read_for_a_moment_stays_in_the_inbox(
    paths: DatasetPaths, series: Series, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sender was told that it is safe; a series without it would be a shorter one."""
    with listening(paths) as receiver:
        send(receiver.port, series.files)
        files = ready(paths, 6)
    read = tasks.intake.content_of

    def fails(path: Path) -> bytes:
        if path == files[-1]:
            raise OSError(errno.EIO, "Input/output error", str(path))
        return read(path)

    with monkeypatch.context() as patched:
        patched.setattr(tasks.intake, "content_of", fails)
        with pytest.raises(OSError, match="Input/output error") as raised:
            take_inbox.fn("D", DAY)
    assert str(files[-1]) not in str(raised.value)
    assert Inbox(paths.inbox).ready() == files
    report = take_inbox.fn("D", DAY)
    assert report is not None
    assert report["files"]["taken"] == 6


def test_a_key_that_cannot_be_read_for_a_moment_is_not_lost(
    paths: DatasetPaths, series: Series, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_delivery.fn("D", series.folder, DAY)

    def fails(*_: object, **__: object) -> str:
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(Path, "read_text", fails)
    with pytest.raises(OSError, match="Stale file handle"):
        Pseudonyms(paths.patient_key, first=False)
