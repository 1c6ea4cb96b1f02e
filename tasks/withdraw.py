"""Withdraw: a patient or a case is out of every later iteration, and their data can be deleted."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from prefect import task
from prefect.logging import get_run_logger

from tasks.dicom.case import case_id_of
from tasks.dicom.headers import IMAGE_KINDS
from tasks.dicom.reasons import Reason
from tasks.errors import UserDataError
from tasks.ledger.dataset_key import pseudonyms_of
from tasks.ledger.files import read_json, remove_temporaries, write_json
from tasks.ledger.iterations import load_iterations
from tasks.ledger.models import latest_model, load_models
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.snapshots import (
    MANIFEST,
    FileRow,
    Snapshot,
    accounted,
    load_snapshots,
    make_read_only,
    make_writable,
    note_snapshots,
)
from tasks.ledger.withdrawals import add_withdrawal, load_withdrawals, withdrawn_before
from tasks.retries import RETRIED


@task(task_run_name="withdraw", **RETRIED)
def withdraw_from_ledger(
    dataset_id: str, day: date, *, patient_id: str | None, case_id: str | None
) -> dict[str, Any]:
    """Put a patient, by PatientID, or a single case on the list of what is out.

    Returns
    -------
    ``cases`` that are out by this, ``models`` that have learned from them, ``in_use`` (whether the model
    in use is one of these), ``new`` (False where it had been done before), and ``also_in``: other
    datasets of the home that have the patient or the case, and where they are not out.

    Raises
    ------
    UserDataError
        Where the dataset has no such patient or case: a typing error must not pass for a withdrawal.
    """
    paths = DatasetPaths.of(dataset_id)
    rows = _rows_of_dataset(paths)
    wanted = None if patient_id is None else _pseudonym(paths, patient_id)
    cases = {case for case, patient in rows if (case == case_id if wanted is None else patient == wanted)}
    # Whose accounts are blank already: a deletion may have been cut off, and is asked for again.
    cases |= withdrawn_before(paths.withdrawals, wanted, case_id)
    if not cases:
        what = "patient with this PatientID" if patient_id is not None else f"case {case_id}"
        raise UserDataError(f"{dataset_id} has no {what}; nothing is withdrawn")
    new = add_withdrawal(paths.withdrawals, day, sorted(cases), wanted)
    learned = _models_that_learned_from(paths, cases)
    current = latest_model(paths)
    in_use = current is not None and current.model_id in learned
    also_in = [other.dataset_id for other in paths.others if _has(other, patient_id, case_id)]
    return {"cases": sorted(cases), "models": learned, "in_use": in_use, "new": new, "also_in": also_in}


def _pseudonym(paths: DatasetPaths, patient_id: str) -> str:
    return pseudonyms_of(paths).patient(f"patient:{patient_id.strip()}")


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
    """Case and patient of every image series that was ever taken."""
    return [
        (case_id_of(row.header["series_instance_uid"]), row.header["patient"])
        for snapshot in load_snapshots(paths)
        for row in snapshot.taken
        if row.header is not None and row.header["kind"] in IMAGE_KINDS
    ]


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


@task(task_run_name="delete-withdrawn", **RETRIED)
def delete_withdrawn(dataset_id: str) -> dict[str, int]:
    """Delete the data of all that is withdrawn: raw, converted, preprocessed, predicted, pictured, listed.

    The accounts keep one row for each file, as withdrawn and without its header or path. Weights of
    models that have learned from a case are not changed by this. One that was cut off goes on where it is
    called again: what is to go is written down first, since the accounts that tell it are blanked.

    Returns
    -------
    How many files of ``rawdata``, ``procdata``, ``results`` and ``simulations`` are gone.
    """
    paths = DatasetPaths.of(dataset_id)
    doomed = _Doomed.of(paths)
    write_json(paths.doomed, doomed.as_json())
    gone = _delete(paths, doomed)
    paths.doomed.unlink()
    return gone


def _delete(paths: DatasetPaths, doomed: _Doomed) -> dict[str, int]:
    try:
        deleted = {str(snapshot.name): _delete_raw(snapshot, doomed) for snapshot in load_snapshots(paths)}
    except PermissionError as error:  # whose path may be made of a name
        raise UserDataError(
            f"a file of the raw data cannot be deleted ({error.strerror}): another account filled that "
            "folder. Run the command again as that user, or have the folder given to this one"
        ) from None
    # All that hold such rows: a run may have been killed between a manifest and its note.
    note_snapshots(
        paths,
        rewritten=[
            str(s.name) for s in load_snapshots(paths) if any(r.state == "withdrawn" for r in s.files)
        ],
    )
    gone = {"rawdata": sum(count or 0 for count in deleted.values())}
    gone["rawdata"] += _delete_set_aside(paths, doomed)
    gone["rawdata"] += sum(_delete_named(paths.inbox, case) for case in doomed.cases)
    for place, root in (("procdata", paths.procdata), ("results", paths.results)):
        remove_temporaries(root)  # what a killed writer left is not called after its case
        gone[place] = sum(_delete_named(root, case) for case in doomed.cases)
    if paths.simulations.is_dir():  # they have links to everybody's images, and can be played again
        gone["simulations"] = sum(path.is_file() for path in paths.simulations.rglob("*"))
        for folder in paths.simulations.glob("*/data/rawdata/*/*/"):
            make_writable(folder, files=False)  # they are links: the snapshots' own files stay as they are
        shutil.rmtree(paths.simulations)
    for file in (paths.report, paths.worklist, paths.outcomes):  # each is written anew
        if file.is_file() and any(case in file.read_text(encoding="utf-8") for case in doomed.cases):
            file.unlink()
            gone["results"] += 1
    return gone


@dataclass(frozen=True)
class _Doomed:
    """What is withdrawn, as the rows of the accounts name it."""

    cases: frozenset[str] = frozenset()
    instances: frozenset[str] = frozenset()
    digests: frozenset[str] = frozenset()

    @classmethod
    def of(cls, paths: DatasetPaths) -> _Doomed:
        withdrawn = load_withdrawals(paths.withdrawals)
        before = cls.from_json(read_json(paths.doomed)) if paths.doomed.is_file() else cls()
        headers = [(row, row.header) for row in accounted(paths) if row.header is not None]
        out = [
            header
            for _, header in headers
            if withdrawn.hold(header["patient"], case_id_of(header["series_instance_uid"]))
        ]
        series = {header["series_instance_uid"] for header in out}
        images = {header["sop_instance_uid"] for header in out}
        # What refers to an image that is out shows it, whoever's it is.
        out += [
            header
            for _, header in headers
            if series & set(header.get("referenced_series", []))
            or images & set(header.get("referenced_instances", []))
        ]
        instances = frozenset(header["sop_instance_uid"] for header in out)
        rows = [row for row, header in headers if header["sop_instance_uid"] in instances]
        # Copies of what came in lie in accounts too, by the content that they had before de-identification.
        digests = {digest for row in rows for digest in (row.sha256, row.source_sha256)} - {""}
        return cls(
            before.cases | frozenset(map(case_id_of, series)) | withdrawn.cases.keys(),
            before.instances | instances,
            before.digests | digests,
        )

    def as_json(self) -> dict[str, list[str]]:
        """Plain lists."""
        return {key: sorted(value) for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, content: dict[str, list[str]]) -> _Doomed:
        """From what :meth:`as_json` gave."""
        return cls(**{key: frozenset(value) for key, value in content.items()})

    def includes(self, row: FileRow) -> bool:
        """Whether a file is out; a copy of one is, too."""
        return row.state != "withdrawn" and (
            row.sha256 in self.digests
            or row.reason == Reason.WITHDRAWN.value  # delivered after the withdrawal
            or (row.header is not None and row.header["sop_instance_uid"] in self.instances)
        )


def _blank(row: FileRow) -> FileRow:
    return replace(
        row,
        path="",
        state="withdrawn",
        reason=Reason.WITHDRAWN.value,
        detail="",
        header=None,
        source_sha256="",
    )


def _delete_raw(snapshot: Snapshot, doomed: _Doomed) -> int | None:
    """Delete the files of a snapshot that are out, and blank their rows; None where none is."""
    rows = [row for row in snapshot.files if doomed.includes(row)]
    if not rows:
        return None
    make_writable(snapshot.folder)
    deleted = 0
    # In a folder that a user filled, copies and rejected files lie there too.
    for row in rows if snapshot.origin == "by hand" else [row for row in rows if row.state == "taken"]:
        file = snapshot.folder / row.path
        if file.is_file():
            file.unlink()
            deleted += 1
            _remove_empty(file.parent, snapshot.folder)
    _rewrite(snapshot.folder / MANIFEST, doomed)
    make_read_only(snapshot.folder)
    return deleted


def _rewrite(account: Path, doomed: _Doomed) -> None:
    content = read_json(account)
    rows = [FileRow(**row) for row in content["files"]]
    content["files"] = [asdict(_blank(row) if doomed.includes(row) else row) for row in rows]
    write_json(account, content)


def _delete_set_aside(paths: DatasetPaths, doomed: _Doomed) -> int:
    deleted = 0
    for uid in doomed.instances:
        for file in paths.set_aside.glob(f"{uid}.????????.dcm"):
            file.unlink()
            deleted += 1
    for account in paths.deliveries.glob("[!.]*.json"):
        _rewrite(account, doomed)
    return deleted


def _delete_named(root: Path, case_id: str) -> int:
    """Everything that is called after a case: its folder in the store, links, predictions."""
    deleted = 0
    for path in sorted(root.rglob(f"{case_id}*")):
        if path.is_dir() and not path.is_symlink():
            deleted += sum(file.is_file() for file in path.rglob("*"))
            shutil.rmtree(path)
        elif path.is_symlink() or path.is_file():
            path.unlink()
            deleted += 1
    return deleted


def _remove_empty(folder: Path, root: Path) -> None:
    while folder != root and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
