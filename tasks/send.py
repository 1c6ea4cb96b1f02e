"""Send: predictions to where people look at them, each once to each destination."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from prefect import task
from prefect.logging import get_run_logger

from tasks.cluster.retries import RETRIED
from tasks.conversion import CaseToConvert
from tasks.convert import told_without_names
from tasks.dicom.sender import Peer, store_dimse, store_web
from tasks.errors import ConfigError, IterSegError, TransientError, UserDataError
from tasks.ledger.files import read_json
from tasks.ledger.journal import Journal, now
from tasks.ledger.marks import Mark, load_marks
from tasks.ledger.models import ModelRecord
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.predictions import object_file, record_file
from tasks.settings.output import Destination

FATES = ("sent", "known", "refused", "locked", "outdated")
"""What becomes of a case."""
WRITTEN_EVERY_S = 60.0


@task(task_run_name="send-to-{destination.name}", **RETRIED)
def send_predictions(
    dataset_id: str, destination: Destination, cases: Sequence[CaseToConvert], model: ModelRecord
) -> dict[str, int]:
    """Send what a model predicted for some images, and the images where the destination wants them.

    What was sent is on record within a minute, and at the end: what a killed run has sent since is sent
    again, and is the same there. What fails for good, such as an object that is refused, does not stop the
    others.

    Returns
    -------
    How many cases were ``sent`` now, had been ``known`` there, were ``refused``, are ``locked``, and have an
    ``outdated`` prediction, which stays here.

    Raises
    ------
    TransientError
        Where the destination cannot be reached, hangs or is full; the task is tried again, and goes on.
    ConfigError
        Where it refuses access.
    """
    paths = DatasetPaths.of(dataset_id)
    folder, marks = paths.predictions(model.model_id), load_marks(paths.marks)
    counts = dict.fromkeys(FATES, 0)
    with _Delivered(Journal(paths.delivered(destination.name)), destination.address) as delivered:
        for case in cases:
            if not record_file(folder, case.case_id).is_file():
                continue  # it could not be predicted
            locked = marks.get(case.case_id, Mark()).locked
            counts[_fate_of(destination, case, folder, delivered, locked=locked)] += 1
    return counts


def _fate_of(
    destination: Destination, case: CaseToConvert, folder: Path, delivered: _Delivered, *, locked: bool
) -> str:
    record = read_json(record_file(folder, case.case_id))
    if record["image_key"] != case.image_key:
        return "outdated"  # the image has grown since
    if locked:
        return "locked"  # somebody is at it: nothing new appears under their hands
    wanted = {uid: object_file(folder, case.case_id, kind) for kind, uid in record["objects"].items()}
    files = [file for uid, file in wanted.items() if uid not in delivered.known]
    uids = list(wanted)
    # An image before what refers to it: viewers look for it at once.
    if destination.images and case.image_key not in delivered.known:
        files, uids = [*map(Path, case.files), *files], [case.image_key, *uids]
    if not files:
        return "known"
    try:
        with told_without_names(case):
            _store(destination, files)
    except UserDataError as error:
        get_run_logger().error("case %s: %s", case.case_id, error)
        return "refused"
    delivered.note(uids)
    return "sent"


class _Delivered:
    """What a destination has; written down now and then, since each entry writes the whole file anew."""

    def __init__(self, journal: Journal, at: str) -> None:
        # Under the same name another server may stand by now; older entries do not say which it was.
        entries = journal.entries()
        self.known = {uid for entry in entries if entry.get("to", at) == at for uid in entry["uids"]}
        self._journal, self._at = journal, at
        self._new: list[str] = []
        self._written = time.monotonic()

    def note(self, uids: Sequence[str]) -> None:
        """That these are there now."""
        self.known |= set(uids)
        self._new += uids
        if time.monotonic() - self._written >= WRITTEN_EVERY_S:
            self._write()

    def _write(self) -> None:
        if self._new:
            self._journal.append({"when": now(), "to": self._at, "uids": self._new})
        self._new, self._written = [], time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._write()


def _store(destination: Destination, files: Sequence[Path]) -> None:
    if destination.dicomweb is not None:
        store_web(destination.dicomweb, files, destination.name)
        return
    store_dimse(Peer.of(destination), files)


def send_to_all(
    dataset_id: str,
    destinations: Sequence[Destination],
    cases: Sequence[CaseToConvert],
    model: ModelRecord,
    *,
    again: str = "",
) -> dict[str, dict[str, int]]:
    """Send to each destination; one that is away does not keep the others waiting.

    Parameters
    ----------
    again
        What tries again, where ``iterseg send`` would not: it sends what the model in use predicted of the
        dataset's own images.

    Returns
    -------
    Destination → the counts of :func:`send_predictions`.

    Raises
    ------
    IterSegError
        After all were tried, where something did not get to where it should; of the kind that says who can
        mend it.
    """
    found: dict[str, dict[str, int]] = {}
    trouble: list[str] = []
    kinds: set[type[IterSegError]] = set()
    for destination in destinations:
        try:
            found[destination.name] = send_predictions(dataset_id, destination, cases, model)
        except (TransientError, ConfigError, UserDataError) as error:
            trouble.append(f"{destination.name}: {error}")
            kinds.add(type(error))
            continue
        if refused := found[destination.name]["refused"]:
            trouble.append(f"{destination.name} refused the objects of {refused} cases; the log says why")
            kinds.add(UserDataError)
    if trouble:
        kind = next(kind for kind in (ConfigError, UserDataError, TransientError) if kind in kinds)
        raise kind(
            f"predictions are written, but not all are where people look: {'; '.join(trouble)}. "
            f"{again or f'`iterseg send {dataset_id}`'} tries again"
        )
    return found
