"""A receiver for a test, and what it has taken in."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.dicom.receiver import Address, Receiver
from tasks.ledger.inbox import Inbox
from tasks.ledger.paths import DatasetPaths
from tasks.receive import InboxTransfers


@contextmanager
def listening(paths: DatasetPaths, *, deidentify: bool = True) -> Iterator[Receiver]:
    transfers = InboxTransfers("D", deidentify=deidentify)
    with Receiver(Address("127.0.0.1", 0, "ITERSEG", ["PACS", "VIEWER"]), transfers) as receiver:
        yield receiver


def ready(paths: DatasetPaths, count: int) -> list[Path]:
    """The inbox, once the receiver's threads have said the last word."""
    for _ in range(100):
        files = Inbox(paths.inbox).ready()
        if len(files) >= count:
            return files
        time.sleep(0.05)
    return files
