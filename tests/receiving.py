"""A receiver for a test, and what it has taken in."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from tasks.dicom.receiver import Address, Receiver
from tasks.ledger.inbox import Inbox
from tasks.ledger.paths import DatasetPaths
from tasks.receive import InboxTransfers

DAY = date(2026, 11, 23)
RECIPE = Path(__file__).parents[1] / "config" / "deidentification.yaml"


def with_recipe(home: Path) -> DatasetPaths:
    """A dataset of which identities can be removed."""
    shutil.copy(RECIPE, home / "config")
    return DatasetPaths.of("D")


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


def held(paths: DatasetPaths) -> list[int]:
    """How many files of each series are held, once the receiver's threads have said the last word."""
    for _ in range(100):
        if found := Inbox(paths.inbox).held():
            return list(found.values())
        time.sleep(0.05)
    return []
