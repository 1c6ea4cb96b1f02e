"""Receive: instances from the network into the inbox, without their identity unless told otherwise."""

from __future__ import annotations

import threading
from collections import Counter
from hashlib import sha256
from typing import Literal

from tasks.dicom.case import case_id_of
from tasks.errors import CaseRejected
from tasks.intake import Intake
from tasks.ledger.inbox import Inbox
from tasks.ledger.paths import DatasetPaths
from tasks.staged import DICOM_SUFFIX, content_name

REFUSED = "refused: "
"""Before the code in :attr:`InboxTransfers.stored`."""


class InboxTransfers:
    """Puts instances into the inbox; one for a receiver or a retrieval.

    What a dataset knows is read again with every transfer: a segmentation may refer to an image that
    came in an hour ago.

    Parameters
    ----------
    via
        How they come: what an earlier process left open when it was killed is told by it from what
        another one is storing now.
    known
        sha256 of contents, as they are kept, that need not come again.
    """

    def __init__(
        self,
        dataset_id: str,
        *,
        deidentify: bool,
        via: Literal["store", "web"] = "store",
        known: frozenset[str] = frozenset(),
    ) -> None:
        self._via, self._known = via, known
        self._paths = DatasetPaths.of(dataset_id)
        self._deidentify = deidentify
        self._lock = threading.Lock()
        self._intakes: dict[str, Intake] = {}
        self.inbox = Inbox(self._paths.inbox)
        self.stored: Counter[str] = Counter()
        """How many instances had which fate since the start."""
        self.check()

    def check(self) -> None:
        """Raise at once what would stop every transfer: a lost key, a missing recipe."""
        Intake.of(self._paths, deidentify_all=self._deidentify)

    def store(self, transfer: str, content: bytes) -> None:
        """Keep an instance under names made of UIDs; raises CaseRejected for what IterSeg cannot use."""
        intake = self._intake(transfer)
        try:
            header, kept = intake.accept(content, DICOM_SUFFIX, may_change=True)
        except CaseRejected as error:
            with self._lock:
                self.stored[f"{REFUSED}{error.reason}"] += 1
            row = intake.refused("", error, content)
            self.inbox.refuse(row.sha256, row._asdict())
            raise
        digest = sha256(kept).hexdigest()
        if digest in self._known:
            return
        series = case_id_of(header.series_instance_uid)
        self.inbox.begin(f"{self._via}-{transfer}", series)
        self.inbox.put(series, content_name(header.sop_instance_uid, digest), kept)
        with self._lock:
            self.stored["stored"] += 1

    def end(self, transfer: str, *, whole: bool) -> None:
        """Make the transfer's series ready, or hold them."""
        with self._lock:
            self._intakes.pop(transfer, None)
        self.inbox.end(f"{self._via}-{transfer}", whole=whole)

    def begin(self) -> None:
        """At the start, when nobody else stores this way: hold what was half there when one was killed."""
        self.inbox.cut_off(f"{self._via}-")

    def _intake(self, transfer: str) -> Intake:
        with self._lock:
            if transfer not in self._intakes:
                self._intakes[transfer] = Intake.of(self._paths, deidentify_all=self._deidentify)
            return self._intakes[transfer]
