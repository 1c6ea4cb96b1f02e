"""Ingest: from any folder of DICOM, or the inbox, to a sealed snapshot, every file accounted for."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from prefect import task

from tasks.delivery import arrived, files_below, refuse_a_day_to_come, signature_of
from tasks.errors import UserDataError
from tasks.intake import Intake, place
from tasks.ledger.files import commit_folder, scratch_folder
from tasks.ledger.inbox import Inbox
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.snapshots import (
    FileRow,
    Origin,
    Snapshot,
    count_reasons,
    count_states,
    load_snapshots,
    make_read_only,
    next_snapshot_name,
    note_snapshots,
    record_delivery,
    seal,
    unsealed_folders,
)
from tasks.retries import RETRIED
from tasks.settings import load_dataset_settings
from tasks.state import case_row, state_at


@task(task_run_name="take-delivery", **RETRIED)
def take_delivery(dataset_id: str, source: Path, day: date, deidentify: bool | None = None) -> dict[str, Any]:
    """Copy a folder of DICOM into a new snapshot, one series a folder.

    The source is only read, once it has been quiet for ``arrival_quiet_s``. A delivery that brings
    nothing new makes no snapshot.

    Parameters
    ----------
    deidentify
        Whether files lose their identity on the way; None: as the dataset's YAML has it.

    Returns
    -------
    ``snapshot`` (a name, or None), ``files`` (counts by fate), ``reasons`` (counts by code) and
    ``rows`` (the fate of each file, without its path).
    """
    paths = DatasetPaths.of(dataset_id)
    settings = load_dataset_settings(paths.config, dataset_id)
    files = arrived(source, settings.arrival_quiet_s)
    chosen = settings.deidentify_folders if deidentify is None else deidentify
    return _take(paths, files, source, day, "copied", deidentify=chosen)


@task(task_run_name="take-inbox", **RETRIED)
def take_inbox(dataset_id: str, day: date) -> dict[str, Any] | None:
    """Take the series that arrived whole over the network, and note what was refused; None: nothing came."""
    paths = DatasetPaths.of(dataset_id)
    inbox = Inbox(paths.inbox)
    files, refused = inbox.ready(), inbox.refused()
    if not files and not refused:
        return None
    rows = [FileRow(**row) for row in refused.values()]
    # They lost their identity when they were received, if they were to.
    report = _take(paths, files, inbox.root, day, "received", deidentify=False, refused=rows)
    inbox.remove([*files, *refused])
    return report


@task(task_run_name="take-accepted", **RETRIED)
def take_accepted(dataset_id: str, files: Sequence[Path], day: date) -> dict[str, Any]:
    """Predictions that a person has accepted become labels, in a snapshot of their own; returns as above."""
    paths = DatasetPaths.of(dataset_id)
    return _take(paths, list(files), paths.results, day, "copied", deidentify=False)


def _take(
    paths: DatasetPaths,
    files: list[Path],
    root: Path,
    day: date,
    origin: Origin,
    *,
    deidentify: bool,
    refused: Sequence[FileRow] = (),
) -> dict[str, Any]:
    name = next_snapshot_name(paths, day)
    _remove_what_a_killed_run_left(paths)
    intake = Intake.of(paths, deidentify_all=deidentify)
    with scratch_folder(paths.rawdata) as folder:
        before = signature_of(files)
        rows = intake.settle(intake.stage_all(files, root, folder))
        rows = [*place(rows, folder, paths.set_aside), *refused]
        if signature_of(files) != before:
            raise UserDataError(
                "a source file changed while it was read; wait until the transfer is complete"
            )
        if not any(row.state == "taken" for row in rows):
            record_delivery(paths, rows, day)
            return _report(None, rows)
        seal(folder, rows, origin)
        commit_folder(folder, paths.rawdata / str(name))
    make_read_only(paths.rawdata / str(name))
    note_snapshots(paths)
    return _report(str(name), rows)


def _remove_what_a_killed_run_left(paths: DatasetPaths) -> None:
    for left in paths.rawdata.glob(".scratch.*.tmp"):
        shutil.rmtree(left, ignore_errors=True)


def _report(name: str | None, rows: Sequence[FileRow]) -> dict[str, Any]:
    return {
        "snapshot": name,
        "files": count_states(rows),
        "reasons": count_reasons(rows),
        "rows": [file_row(name, number, row) for number, row in enumerate(rows, start=1)],
    }


def file_row(snapshot: str | None, number: int, row: FileRow) -> dict[str, Any]:
    """A file as users see it.

    Its path may be made of a patient's name: it stands in the manifest, at this number, and nowhere else.
    """
    header = row.header or {}
    return {
        "snapshot": snapshot,
        "number": number,
        "state": row.state,
        "reason": row.reason,
        "detail": row.detail,
        "kind": header.get("kind"),
        "series_instance_uid": header.get("series_instance_uid"),
        "sop_instance_uid": header.get("sop_instance_uid"),
        "sha256": row.sha256,
    }


@task(task_run_name="seal-folders-filled-by-hand", **RETRIED)
def seal_by_hand(dataset_id: str) -> list[dict[str, Any]]:
    """Take dated folders that a user filled as they are: their manifest is written, nothing moves.

    A folder that is still being filled is waited for, an empty one is left open. What was put into a
    folder after it was sealed, such as a corrected segmentation, is taken as a delivery of its own,
    since a sealed snapshot never changes.
    """
    paths = DatasetPaths.of(dataset_id)
    quiet_s = load_dataset_settings(paths.config, dataset_id).arrival_quiet_s
    reports = []
    for name, folder in unsealed_folders(paths).items():
        refuse_a_day_to_come(name.day, f"the folder {name}")
        files = arrived(folder, quiet_s)
        if files:
            intake = Intake.of(paths, deidentify_all=False)
            rows = intake.settle(intake.stage_all(files, folder, None))
            seal(folder, rows, "by hand")
            make_read_only(folder)
            note_snapshots(paths)
            reports.append(_report(str(name), rows))
    for snapshot in load_snapshots(paths):
        later = _added_later(snapshot)
        if later:
            newest = load_snapshots(paths)[-1].name.day
            report = _take(paths, later, snapshot.folder, newest, "copied", deidentify=False)
            reports += [report] if report["snapshot"] else []
    return reports


def _added_later(snapshot: Snapshot) -> list[Path]:
    """Files that came after the seal, and files that were damaged then and are others now."""
    if snapshot.origin != "by hand":
        return []
    known = {row.path: row for row in snapshot.files}

    def new(file: Path) -> bool:
        row = known.get(file.relative_to(snapshot.folder).as_posix())
        return row is None or (row.state == "rejected" and file.stat().st_size != row.size_bytes)

    return [file for file in files_below(snapshot.folder) if new(file)]


@task(task_run_name="account", **RETRIED)
def account_of_series(dataset_id: str) -> list[dict[str, Any]]:
    """Every series of the dataset and what it will be: one row each, as ``--json`` shows them."""
    paths = DatasetPaths.of(dataset_id)
    settings = load_dataset_settings(paths.config, dataset_id)
    assembly, _ = state_at(paths, settings)
    for case in assembly.images:
        if case.state == "pending":
            case.settle("done", None, case.detail)
    # Without paths: in a folder that was filled by hand they may be made from patients' names.
    return [case_row(case) for case in [*assembly.images, *assembly.segmentations]]
