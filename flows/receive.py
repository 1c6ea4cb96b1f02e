"""Receive: listen for DICOM, and ingest what arrived whole as soon as it is quiet.

No flow of its own: it starts an ingest flow for each delivery. Command: ``iterseg receive DATASET``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flows.ingest import ingest
from tasks.dicom.receiver import Address, Receiver
from tasks.errors import IterSegError
from tasks.ledger.lock import held_for_h
from tasks.ledger.paths import DatasetPaths
from tasks.receive import InboxTransfers

LOOK_EVERY_S = 0.5
TRY_AGAIN_S = 60.0
"""After an ingest that failed, as while a training run holds the dataset."""


@dataclass(frozen=True)
class Listening:
    """How a receiver works.

    Attributes
    ----------
    quiet_s
        How long the inbox must have been quiet before it is ingested: a study may come in several
        associations.
    ingest
        Whether it is ingested at all, or left to the next run.
    """

    dataset_id: str
    address: Address
    deidentify: bool = True
    quiet_s: float = 10.0
    ingest: bool = True


def receive(listening: Listening, say: Callable[[str], None], stop: threading.Event) -> None:
    """Listen until ``stop`` is set.

    Raises
    ------
    ConfigError, UserDataError
        Where it cannot listen, or the dataset's key is lost. What fails later is said, and tried again.
    """
    transfers = InboxTransfers(listening.dataset_id, deidentify=listening.deidentify)
    inbox = transfers.inbox
    with Receiver(listening.address, transfers) as receiver:
        address = listening.address
        who = ", ".join(address.allowed)
        say(f"listening on {address.host}:{receiver.port} as {address.ae_title}, for {who}")
        held: dict[str, int] = {}
        next_try = 0.0
        while not stop.wait(LOOK_EVERY_S):
            try:
                if (now_held := inbox.held()) != held:
                    held = now_held
                    _say_held(held, say)
                due = time.monotonic() >= next_try and inbox.quiet_for_s() >= listening.quiet_s
                if listening.ingest and due and inbox.ready():
                    done = _ingest(listening.dataset_id, say)
                    next_try = time.monotonic() + (0.0 if done else TRY_AGAIN_S)
            except OSError as error:  # what is being received goes on
                say(f"the inbox cannot be looked at now: {error.strerror}")
                next_try = time.monotonic() + TRY_AGAIN_S


def _ingest(dataset_id: str, say: Callable[[str], None]) -> bool:
    try:
        held_h = held_for_h(DatasetPaths.of(dataset_id).lock_folder)
        if held_h:
            # A flow that only finds the dataset busy would be a failed run in the UI, once a minute.
            say(f"not ingested yet: another run has held the dataset for {held_h * 60:.0f} min")
            return False
        report: dict[str, Any] = ingest(dataset_id)
    except (IterSegError, OSError) as error:
        say(f"not ingested yet: {error}")
        return False
    except Exception as error:  # such as a server that starts anew: what a PACS sends must not be refused
        say(f"not ingested yet: {type(error).__name__}")
        return False
    counts = ", ".join(f"{count} {state}" for state, count in report["files"].items() if count)
    say(f"ingested {', '.join(report['snapshots']) or 'nothing new'}: {counts}")
    return True


def _say_held(held: dict[str, int], say: Callable[[str], None]) -> None:
    for series, count in held.items():
        say(f"held {series}: the transfer was cut off after {count} instances; send it again")
