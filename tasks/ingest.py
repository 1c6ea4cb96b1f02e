"""Ingest: from any folder of DICOM to a sealed snapshot, every file accounted for."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from prefect import task

from tasks.delivery import files_below
from tasks.dicom.cases import case_id_of
from tasks.dicom.headers import read_header
from tasks.dicom.reasons import Reason
from tasks.errors import CaseRejected, UserDataError
from tasks.ledger.files import read_json, sha256_of_file, whole_folder
from tasks.ledger.paths import DatasetPaths, DatedName
from tasks.ledger.snapshots import (
    FileRow,
    PatientHash,
    Snapshot,
    count_reasons,
    count_states,
    known_instances,
    load_snapshots,
    next_snapshot_name,
    seal,
    unsealed_folders,
)
from tasks.progress import progress
from tasks.retries import RETRIED
from tasks.settings import load_dataset_settings
from tasks.state import case_row, state_at


@task(task_run_name="take-delivery", **RETRIED)
def take_delivery(dataset_id: str, source: Path, day: date) -> dict[str, Any]:
    """Copy a folder of DICOM into a new snapshot, one series a folder.

    The source is only read. A delivery that brings nothing new makes no snapshot.

    Returns
    -------
    ``snapshot`` (a name, or None), ``files`` (counts by fate) and ``reasons`` (counts by code).
    """
    return _take(DatasetPaths.of(dataset_id), files_below(source), source, day)


def _take(paths: DatasetPaths, files: list[Path], source: Path, day: date) -> dict[str, Any]:
    rows = describe(files, source, paths)
    name = None
    if any(row.state == "taken" for row in rows):
        name = next_snapshot_name(paths, day)
        with whole_folder(paths.rawdata / str(name)) as folder:
            seal(folder, [_copy(row, source, folder) for row in progress(rows, "copy")], "copied")
    return _report(name, rows)


def _report(name: DatedName | None, rows: list[FileRow]) -> dict[str, Any]:
    return {
        "snapshot": str(name) if name else None,
        "files": count_states(rows),
        "reasons": count_reasons(rows),
    }


@task(task_run_name="seal-folders-filled-by-hand", **RETRIED)
def seal_by_hand(dataset_id: str) -> list[dict[str, Any]]:
    """Take dated folders that a user filled as they are: their manifest is written, nothing moves.

    An empty folder is left open. What was put into a folder after it was sealed, such as a corrected
    segmentation, is taken as a delivery of its own, since a sealed snapshot never changes.
    """
    paths = DatasetPaths.of(dataset_id)
    reports = []
    for name, folder in unsealed_folders(paths).items():
        files = files_below(folder)
        if files:
            rows = describe(files, folder, paths)
            seal(folder, rows, "by hand")
            reports.append(_report(name, rows))
    for snapshot in load_snapshots(paths):
        later = _added_later(snapshot)
        if later:
            newest = load_snapshots(paths)[-1].name.day
            report = _take(paths, later, snapshot.folder, newest)
            reports += [report] if report["snapshot"] else []
    return reports


def _added_later(snapshot: Snapshot) -> list[Path]:
    if snapshot.origin != "by hand":
        return []
    known = {row.path for row in snapshot.files}
    files = files_below(snapshot.folder)
    return [file for file in files if file.relative_to(snapshot.folder).as_posix() not in known]


@task(task_run_name="account", **RETRIED)
def account_of_series(dataset_id: str) -> list[dict[str, Any]]:
    """Every series of the dataset and what it will be: one row each, as ``--json`` shows them."""
    paths = DatasetPaths.of(dataset_id)
    settings = load_dataset_settings(paths.config, dataset_id)
    assembly, _ = state_at(paths, settings)
    for case in assembly.images:
        if case.state == "pending":
            case.settle("done", None)
    # Without paths: in a folder that was filled by hand they may be made from patients' names.
    return [case_row(case) for case in [*assembly.images, *assembly.segmentations]]


def describe(files: list[Path], root: Path, paths: DatasetPaths) -> list[FileRow]:
    """The fate of each file, before anything is copied."""
    snapshots = load_snapshots(paths)
    hash_patient = PatientHash(paths.patient_key, first=not snapshots)
    rows = [_describe_file(path, root, hash_patient) for path in progress(files, "read")]
    return list(_settle(rows, known_instances(snapshots), lambda uid: _sent(paths, uid)))


def _sent(paths: DatasetPaths, sop_instance_uid: str) -> str | None:
    """The sha256 of the prediction that was written under a UID, None where none was."""
    file = paths.sent / f"{sop_instance_uid}.json"
    return str(read_json(file)["sha256"]) if file.is_file() else None


def _describe_file(path: Path, root: Path, hash_patient: Callable[[str], str]) -> FileRow:
    relative = path.relative_to(root).as_posix()
    try:
        size_bytes, digest = path.stat().st_size, sha256_of_file(path)
    except OSError as error:
        return FileRow(relative, "rejected", Reason.UNREADABLE.value, str(error.strerror), "", 0, None)
    try:
        header = read_header(path, hash_patient)
    except CaseRejected as error:
        ignored = error.reason in (Reason.NO_DICOM, Reason.OTHER_KIND)
        state = "ignored" if ignored else "rejected"
        return FileRow(relative, state, error.reason, error.detail, digest, size_bytes, None)  # type: ignore[arg-type]
    return FileRow(relative, "taken", None, "", digest, size_bytes, header.as_json())


def _settle(
    rows: list[FileRow], known: Mapping[str, str], sent: Callable[[str], str | None]
) -> Iterator[FileRow]:
    """Tell copies from conflicts: one SOP instance UID with two contents names no instance."""
    contents: dict[str, set[str]] = {uid: {digest} for uid, digest in known.items()}
    for row in rows:
        if row.header is not None:
            uid = row.header["sop_instance_uid"]
            contents.setdefault(uid, {own} if (own := sent(uid)) else set()).add(row.sha256)
    seen: Counter[str] = Counter(known.keys())
    for row in rows:
        if row.header is None:
            yield row
            continue
        uid = row.header["sop_instance_uid"]
        if sent(uid) == row.sha256:
            yield replace(row, state="ignored", reason=Reason.OWN_PREDICTION.value)
        elif known.get(uid) == row.sha256 or (len(contents[uid]) == 1 and seen[uid]):
            yield replace(row, state="duplicate")
        elif len(contents[uid]) > 1:
            detail = f"SOP instance {uid} exists with other content"
            yield replace(row, state="rejected", reason=Reason.UID_CONFLICT.value, detail=detail)
        else:
            yield row
        seen[uid] += 1


def _copy(row: FileRow, source: Path, folder: Path) -> FileRow:
    """Copy a taken file to a place made from UIDs alone; UIDs are digits and dots, nothing else."""
    if row.state != "taken" or row.header is None:
        return row
    series = f"{row.header['kind']}_{case_id_of(row.header['series_instance_uid'])}"
    target = folder / series / f"{row.header['sop_instance_uid']}.dcm"
    target.parent.mkdir(exist_ok=True)
    try:
        shutil.copyfile(source / row.path, target)
    except OSError as error:
        # Its own message names the source, which may be called after a patient.
        raise OSError(error.errno, error.strerror) from None
    if sha256_of_file(target) != row.sha256:
        raise UserDataError("a source file changed while it was read; wait until the transfer is complete")
    return replace(row, path=target.relative_to(folder).as_posix())
