"""Withdraw: a patient or a case is out of every later iteration, and what is to be known of that."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from datetime import date
from pathlib import Path
from typing import Any

from prefect import task
from prefect.logging import get_run_logger

from tasks.cluster.retries import RETRIED
from tasks.copies import cases_with, scans_of
from tasks.dicom.case import case_id_of
from tasks.dicom.headers import IMAGE_KINDS, identity_in, identity_with
from tasks.dicom.image import read_series
from tasks.errors import CaseRejected, UserDataError
from tasks.ledger.dataset_key import pseudonyms_of
from tasks.ledger.files import read_json
from tasks.ledger.images import fingerprint_of
from tasks.ledger.inbox import Inbox
from tasks.ledger.iterations import load_iterations
from tasks.ledger.models import latest_model, load_models
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.predictions import case_of
from tasks.ledger.scans import load_scans
from tasks.ledger.snapshots import accounted, load_snapshots
from tasks.ledger.store import Store
from tasks.ledger.withdrawals import add_withdrawal, load_withdrawals, withdrawn_before


@task(task_run_name="withdraw", **RETRIED)
def withdraw_from_ledger(
    dataset_id: str, day: date, *, patient_id: str | None, case_id: str | None
) -> dict[str, Any]:
    """Put a patient, by PatientID, or a single case on the list of what is out.

    Returns
    -------
    ``cases`` that are out by this, ``models`` that have learned from them, ``in_use`` (whether the model
    in use is one of these), ``new`` (False where it had been done before), ``also_in``: other
    datasets of the home that have the patient or the case, and where they are not out; and ``copies``:
    dataset → cases that hold the voxels of a withdrawn patient's scan under another identity.

    Raises
    ------
    UserDataError
        Where nothing is here of such a patient or case: a typing error must not pass for a withdrawal.
    """
    paths = DatasetPaths.of(dataset_id)
    rows = _rows_of_dataset(paths)
    wanted = None if patient_id is None else _pseudonym(paths, patient_id)
    cases = {case for case, patient in rows if (case == case_id if wanted is None else patient == wanted)}
    # Whose accounts are blank already: a deletion may have been cut off, and is asked for again.
    cases |= withdrawn_before(paths.withdrawals, wanted, case_id)
    if not cases and not (wanted is not None and _knows(paths, wanted)):
        what = "patient with this PatientID" if patient_id is not None else f"case {case_id}"
        raise UserDataError(f"{dataset_id} has no {what}; nothing is withdrawn")
    # Of a case alone they are not: it may be the wrong one of two of the same scan.
    scans = set() if wanted is None else _scans_of(paths, cases, wanted)
    new = add_withdrawal(paths.withdrawals, day, sorted(cases), wanted, scans)
    copies = {} if wanted is None else _copies(paths, cases)
    learned = _models_that_learned_from(paths, cases | set(copies.get(dataset_id, [])))
    current = latest_model(paths)
    in_use = current is not None and current.model_id in learned
    also_in = [other.dataset_id for other in paths.others if _has(other, patient_id, case_id)]
    return {
        "cases": sorted(cases),
        "models": learned,
        "in_use": in_use,
        "new": new,
        "also_in": also_in,
        "copies": copies,
    }


def _scans_of(paths: DatasetPaths, cases: Collection[str], patient: str) -> set[str]:
    """The fingerprints of a patient's scans, also where the store is empty, as after a restore."""
    store, known = Store(paths.store), load_scans(paths.scans).patients
    found = scans_of(store, cases) | {scan for scan, whose in known.items() if whose == patient}
    files: dict[str, list[Path]] = defaultdict(list)
    for snapshot in load_snapshots(paths):
        for row in snapshot.taken:
            if row.header is not None and row.header["kind"] in IMAGE_KINDS:
                files[case_id_of(row.header["series_instance_uid"])].append(snapshot.folder / row.path)
    for case in sorted(set(cases) & files.keys()):
        if store.images(case):
            continue
        try:
            found.add(fingerprint_of(read_series(files[case]).image))
        except CaseRejected:
            continue  # nothing could ever be made of it
        except OSError as error:  # what is withdrawn is withdrawn all the same
            get_run_logger().warning(
                "%s: its voxels are not known, and would not be under another name (%s)", case, error.strerror
            )
    return found


def _knows(paths: DatasetPaths, patient: str) -> bool:
    """Whether there is anything else of a patient: a segmentation without its image, a file not taken."""
    whose = ((row.header or {}).get("patient", row.patient) for row in accounted(paths))
    if patient in whose or patient in load_withdrawals(paths.withdrawals).patients:
        return True
    pseudonyms = pseudonyms_of(paths)
    waiting = (identity_in(file.read_bytes()) for file in Inbox(paths.inbox).all())
    return any(identity is not None and pseudonyms.patient(identity) == patient for identity in waiting)


def _copies(paths: DatasetPaths, own: set[str]) -> dict[str, list[str]]:
    """Dataset → cases that are not out and hold the voxels of a withdrawn patient's scan, by another name."""
    scans = load_withdrawals(paths.withdrawals).scans
    found: dict[str, list[str]] = {}
    for at in (paths, *paths.others):
        try:
            cases = cases_with(Store(at.store), scans, own | load_withdrawals(at.withdrawals).cases.keys())
        except (OSError, UserDataError) as error:  # what is withdrawn here is withdrawn all the same
            words = error.strerror if isinstance(error, OSError) else error
            get_run_logger().warning("whether %s has them too is not known: %s", at.dataset_id, words)
            continue
        if cases:
            found[at.dataset_id] = cases
    return found


def _pseudonym(paths: DatasetPaths, patient_id: str) -> str:
    return pseudonyms_of(paths).patient(identity_with(patient_id))


def _has(paths: DatasetPaths, patient_id: str | None, case_id: str | None) -> bool:
    """Whether a patient, or a case, is in a dataset and is not out there."""
    try:
        rows, out = _rows_of_dataset(paths), load_withdrawals(paths.withdrawals)
        wanted = _pseudonym(paths, patient_id) if rows and patient_id is not None else None
    except UserDataError as error:  # what is withdrawn here is withdrawn all the same
        get_run_logger().warning("whether %s has them too is not known: %s", paths.dataset_id, error)
        return False
    return any(
        (case == case_id if wanted is None else patient == wanted) and not out.hold(patient, case)
        for case, patient in rows
    )


def _rows_of_dataset(paths: DatasetPaths) -> list[tuple[str, str]]:
    """Case and patient of every image series that was ever taken, or predicted without being taken."""
    taken = [
        (case_id_of(row.header["series_instance_uid"]), row.header["patient"])
        for snapshot in load_snapshots(paths)
        for row in snapshot.taken
        if row.header is not None and row.header["kind"] in IMAGE_KINDS
    ]
    known = {case for case, _ in taken}
    files = paths.predicted.glob("*/[!.]*.json") if paths.predicted.is_dir() else ()
    records = [read_json(file) for file in files if case_of(file) not in known]
    # Older records do not say whose they are.
    return [*taken, *((record["case_id"], record.get("patient", "")) for record in records)]


def _models_that_learned_from(paths: DatasetPaths, cases: set[str]) -> list[str]:
    """Models whose own iteration, or an ancestor's, trained on one of the cases; imported ones as well."""
    trained = {
        name.short
        for name, iteration in load_iterations(paths).items()
        if cases & {case["case_id"] for case in iteration.training_cases()}
    }
    learned: dict[str, str] = {}
    for record in load_models(paths):  # oldest first: a parent stands before its children
        # One of ours that was exported and came back has no parent here, and names its ancestors.
        inherited = record.parent in learned or set(record.ancestors) & set(learned.values())
        if record.model_id in trained or inherited:
            learned[record.model_id] = record.digest
    return sorted(learned)
