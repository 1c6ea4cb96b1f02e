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

from tasks.dicom.cases import case_id_of
from tasks.dicom.headers import read_header
from tasks.dicom.reasons import Reason
from tasks.errors import CaseRejected, UserDataError
from tasks.ledger.files import sha256_of_file, whole_folder
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.snapshots import (
    MANIFEST,
    FileRow,
    PatientHash,
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
    paths = DatasetPaths.of(dataset_id)
    files = files_below(source)
    rows = describe(files, source, paths)
    taken = [row for row in rows if row.state == "taken"]
    name = None
    if taken:
        name = next_snapshot_name(paths, day)
        with whole_folder(paths.rawdata / str(name)) as folder:
            seal(folder, [_copy(row, source, folder) for row in progress(rows, "copy")])
    return {
        "snapshot": str(name) if name else None,
        "files": count_states(rows),
        "reasons": count_reasons(rows),
    }


@task(task_run_name="seal-folders-filled-by-hand", **RETRIED)
def seal_by_hand(dataset_id: str) -> list[dict[str, Any]]:
    """Take dated folders that a user filled as they are: their manifest is written, nothing moves."""
    paths = DatasetPaths.of(dataset_id)
    reports = []
    for name, folder in unsealed_folders(paths).items():
        rows = describe(files_below(folder), folder, paths)
        seal(folder, rows)
        reports.append({"snapshot": str(name), "files": count_states(rows), "reasons": count_reasons(rows)})
    return reports


@task(task_run_name="account", **RETRIED)
def account_of_series(dataset_id: str) -> list[dict[str, Any]]:
    """Every series of the dataset and what it will be: one row each, as ``--json`` shows them."""
    paths = DatasetPaths.of(dataset_id)
    settings = load_dataset_settings(paths.config, dataset_id)
    assembly, _ = state_at(paths, settings)
    rows = []
    for case in assembly.images:
        label = case.segmentation.path if case.segmentation else None
        if case.state == "pending":
            case.settle("done", None)
        rows.append(case_row(case, case.files[0].path.parent, label))
    return rows + [case_row(case, None, case.files[0].path) for case in assembly.segmentations]


def files_below(folder: Path) -> list[Path]:
    """All files, in a stable order; a manifest is no delivery."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in found if path.name != MANIFEST)


def describe(files: list[Path], root: Path, paths: DatasetPaths) -> list[FileRow]:
    """The fate of each file, before anything is copied."""
    hash_patient = PatientHash(paths.patient_key)
    known = known_instances(load_snapshots(paths))
    rows = [_describe_file(path, root, hash_patient) for path in progress(files, "read")]
    return list(_settle(rows, known, lambda uid: (paths.sent / f"{uid}.json").is_file()))


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
    rows: list[FileRow], known: Mapping[str, str], was_sent: Callable[[str], bool]
) -> Iterator[FileRow]:
    """Tell copies from conflicts: one SOP instance UID with two contents names no instance."""
    contents: dict[str, set[str]] = {uid: {digest} for uid, digest in known.items()}
    for row in rows:
        if row.header is not None:
            contents.setdefault(row.header["sop_instance_uid"], set()).add(row.sha256)
    seen: Counter[str] = Counter(known.keys())
    for row in rows:
        if row.header is None:
            yield row
            continue
        uid = row.header["sop_instance_uid"]
        if was_sent(uid):
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
