"""Retrieve: series that the dataset does not have yet, from a DICOMweb server into the inbox."""

from __future__ import annotations

from collections import Counter
from typing import Any
from uuid import uuid4

from prefect import task
from prefect.logging import get_run_logger

from tasks.cluster.retries import RETRIED
from tasks.dicom.case import case_ids_of
from tasks.dicom.headers import IMAGE_KINDS
from tasks.dicom.reasons import Reason
from tasks.dicom.web import DicomWeb, RemoteSeries
from tasks.errors import CaseRejected, IterSegError
from tasks.ledger.dataset_key import pseudonyms_of
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.snapshots import accounted
from tasks.ledger.withdrawals import load_withdrawals
from tasks.receive import REFUSED, InboxTransfers
from tasks.shown.progress import progress


@task(task_run_name="retrieve", **RETRIED)
def retrieve_series(dataset_id: str, url: str, studies: list[str], *, deidentify: bool) -> dict[str, Any]:
    """Fetch every series that holds an instance which the dataset does not know, and every prediction.

    A prediction may have become a correction under its own UID; one that is as it was stays out.
    A series is fetched whole or, where the server sends fewer instances than it lists, held in the
    inbox until a later run completes it. One that fails does not stop the others.

    Parameters
    ----------
    url
        The root of the server's services.
    studies
        StudyInstanceUIDs; empty: all that the server shows.
    deidentify
        Whether instances lose their identity on the way in.

    Returns
    -------
    ``series`` (how many were fetched, known, withdrawn, of another modality, incomplete or failed) and
    ``refused`` (instances by code).
    """
    paths = DatasetPaths.of(dataset_id)
    # What two contents were sent of is asked for again: the server may have been put in order.
    rows = [row for row in accounted(paths) if row.reason != Reason.UID_CONFLICT]
    transfers = InboxTransfers(
        dataset_id, deidentify=deidentify, via="web", known=frozenset(row.sha256 for row in rows)
    )
    transfers.begin()
    server = DicomWeb(url)
    known = {row.header["sop_instance_uid"] for row in rows if row.header is not None}
    pseudonyms = pseudonyms_of(paths)
    wanted: list[str | None] = [*studies] or [None]
    remote = [series for study in wanted for series in server.series(study)]
    withdrawn = load_withdrawals(paths.withdrawals).cases
    counts: Counter[str] = Counter()
    for series in progress(remote, "retrieve"):
        uid = series.series_instance_uid
        if any(case_id in withdrawn for case_id in case_ids_of(uid, pseudonyms.uid)):
            counts["withdrawn"] += 1
            continue
        if not series.wanted:
            counts["other modality"] += 1
            continue
        try:
            instances = server.instances(series)
        except IterSegError as error:
            get_run_logger().warning("a series could not be listed: %s", error)
            counts["failed"] += 1
            continue
        all_known = bool(instances) and all(one in known or pseudonyms.uid(one) in known for one in instances)
        # A viewer may have saved a correction under the UID of what it corrects.
        if all_known and series.modality in IMAGE_KINDS:
            counts["known"] += 1
            continue
        stored = transfers.stored["stored"]
        try:
            # A series of which the server lists nothing is fetched too, and never taken for whole.
            whole = _fetch(server, series, max(1, len(instances)), transfers)
        except IterSegError as error:
            get_run_logger().warning("a series could not be fetched: %s", error)
            counts["failed"] += 1
            continue
        as_before = all_known and transfers.stored["stored"] == stored
        counts["known" if as_before else "fetched" if whole else "incomplete"] += 1
    refused = {k.removeprefix(REFUSED): n for k, n in transfers.stored.items() if k.startswith(REFUSED)}
    return {"series": dict(counts), "refused": refused}


def _fetch(server: DicomWeb, series: RemoteSeries, expected: int, transfers: InboxTransfers) -> bool:
    transfer, received = uuid4().hex, 0
    try:
        for content in server.retrieve(series):
            received += 1
            try:
                transfers.store(transfer, content)
            except CaseRejected:
                continue  # counted; the others of the series go on
    except BaseException:
        transfers.end(transfer, whole=False)
        raise
    transfers.end(transfer, whole=received >= expected)
    return received >= expected
