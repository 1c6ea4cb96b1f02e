"""Ingest: from any folder of DICOM, or the inbox, to a sealed snapshot, every file accounted for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from prefect import task

from tasks.cluster.retries import RETRIED
from tasks.delivery import added_later, arrived, files_below, refuse_a_day_to_come, signature_of
from tasks.dicom.headers import identity_of_study
from tasks.errors import UserDataError
from tasks.intake import Intake
from tasks.ledger.accounts import FileRow, count_reasons, count_states
from tasks.ledger.dataset_key import pseudonyms_of
from tasks.ledger.dated import misnamed_folders
from tasks.ledger.files import commit_folder, remove_scratch, scratch_folder
from tasks.ledger.inbox import Inbox
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.snapshots import (
    MANIFEST,
    Origin,
    accounted,
    day_of_arrival,
    load_snapshots,
    make_read_only,
    next_snapshot_name,
    note_snapshots,
    record_delivery,
    seal,
    unsealed_folders,
)
from tasks.settings.dataset import load_dataset_settings
from tasks.staged import place
from tasks.state import rows_of_series, state_at


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
    ``snapshot`` (a name, or None), ``manifest`` (where the account stands, paths included; None: all was
    known), ``files`` (counts by fate), ``reasons`` (counts by code) and ``rows`` (the fate of each file,
    without its path).
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
    remove_scratch(paths.rawdata)
    intake = Intake.of(paths, deidentify_all=deidentify)
    with scratch_folder(paths.rawdata) as folder:
        before = signature_of(files)
        rows = intake.settle(intake.stage_all(files, root, folder, ours=origin == "received"))
        rows = [*place(rows, folder, paths.set_aside), *refused]
        if signature_of(files) != before:
            raise UserDataError(
                "a source file changed while it was read; wait until the transfer is complete"
            )
        if not any(row.state == "taken" for row in rows):
            return _report(None, rows, record_delivery(paths, rows, day, root))
        seal(folder, rows, origin)
        commit_folder(folder, paths.snapshot(name))
    make_read_only(paths.snapshot(name))
    note_snapshots(paths)
    return _report(str(name), rows, paths.snapshot(name) / MANIFEST)


def _report(name: str | None, rows: Sequence[FileRow], account: Path | None) -> dict[str, Any]:
    return {
        "snapshot": name,
        "manifest": None if account is None else str(account),
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
    settings = load_dataset_settings(paths.config, dataset_id)
    reports = []
    for name, folder in unsealed_folders(paths).items():
        refuse_a_day_to_come(name.day, f"the folder {name}")
        if settings.deidentify_folders:
            continue  # files there would stay as they are: `passed_over` says so
        files = arrived(folder, settings.arrival_quiet_s)
        if files:
            intake = Intake.of(paths, deidentify_all=False)
            rows = intake.settle(intake.stage_all(files, folder, None))
            seal(folder, rows, "by hand")
            make_read_only(folder)
            note_snapshots(paths)
            reports.append(_report(str(name), rows, folder / MANIFEST))
    for snapshot in load_snapshots(paths):
        later = added_later(snapshot)
        if later:
            # Of today: under the day of the newest label it would be another one of one date.
            day = day_of_arrival(paths)
            wanted = settings.deidentify_folders
            report = _take(paths, later, snapshot.folder, day, "copied", deidentify=wanted)
            # Copies of what is known may lie there for ever, and are no news.
            reports += [report] if report["snapshot"] or report["manifest"] else []
    return reports


def passed_over(dataset_id: str) -> list[str]:
    """What lies in the raw data and is not taken, with what to do, in sentences that name nobody."""
    paths = DatasetPaths.of(dataset_id)
    said = []
    if misnamed := misnamed_folders(paths.rawdata, dataset_id):
        said.append(
            f"passed over in {paths.rawdata}: {misnamed} folder{'s' * (misnamed > 1)}. One filled by hand is "
            f"called <YYYY-MM-DD>__{dataset_id}, the second of a day <YYYY-MM-DD>.2__{dataset_id}"
        )
    if load_dataset_settings(paths.config, dataset_id).deidentify_folders:
        said += [
            f"{name} passed over: it was filled by hand, where files stay as they are, and "
            "`deidentify_folders` wants no identities. Move it away and give it to "
            f"`iterseg ingest {dataset_id} --from`"
            for name, folder in unsealed_folders(paths).items()
            if files_below(folder)
        ]
    return said


def without_patient_id(dataset_id: str) -> str | None:
    """That studies came without a PatientID, in a sentence that names nobody; None where at most one did.

    Of files that lost their identity on their way in nobody can tell.
    """
    paths = DatasetPaths.of(dataset_id)
    pseudonyms = pseudonyms_of(paths)
    whose = {
        row.header["study_instance_uid"]: row.header["patient"]
        for row in accounted(paths)
        if row.state == "taken" and row.header is not None
    }
    unnamed = [uid for uid, patient in whose.items() if patient == pseudonyms.patient(identity_of_study(uid))]
    if len(unnamed) < 2:
        return None
    return (
        f"{len(unnamed)} studies have no PatientID: each counts as a patient of its own, and two of one "
        "person may lie on both sides of a fold or of the test set. Give each person an ID before ingest"
    )


@task(task_run_name="account", **RETRIED)
def account_of_series(dataset_id: str) -> list[dict[str, Any]]:
    """Every series of the dataset and what it will be: one row each, as ``--json`` shows them."""
    paths = DatasetPaths.of(dataset_id)
    settings = load_dataset_settings(paths.config, dataset_id)
    assembly, _ = state_at(paths, settings)
    return rows_of_series(assembly)
