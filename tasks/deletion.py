"""Deletion: the data of all that is withdrawn; the accounts keep a blank row for each file."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from prefect import task

from tasks.cluster.retries import RETRIED
from tasks.delivery import added_later, content_of, is_large_and_no_dicom, not_accounted
from tasks.dicom.case import case_id_of
from tasks.dicom.reasons import Reason
from tasks.errors import UserDataError
from tasks.intake import Intake
from tasks.ledger.accounts import FileRow, read_account, write_account
from tasks.ledger.files import (
    json_files,
    read_json,
    remove_scratch,
    remove_temporaries,
    sha256_of_file,
    write_json,
)
from tasks.ledger.inbox import Inbox
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.snapshots import (
    MANIFEST,
    Snapshot,
    accounted,
    load_snapshots,
    make_read_only,
    make_writable,
    note_snapshots,
)
from tasks.ledger.withdrawals import load_withdrawals
from tasks.simulated_lab import remove_lab
from tasks.staged import any_content_name

RECEIVED_BY_NOW_S = 600.0
"""What a killed receiver left is older than that; what one is writing now is not."""


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
        gone = {"rawdata": sum(_delete_raw(snapshot, doomed) for snapshot in load_snapshots(paths))}
        gone["rawdata"] += _delete_added_later(paths, doomed)
    except PermissionError as error:  # whose path may be made of a name
        raise UserDataError(
            f"a file of the raw data cannot be deleted ({error.strerror}): another account filled that "
            "folder. Run the command again as that user, or have the folder given to this one"
        ) from None
    except OSError as error:
        raise OSError(error.errno, error.strerror) from None
    # All that hold such rows: a run may have been killed between a manifest and its note.
    note_snapshots(
        paths,
        rewritten=[
            str(s.name) for s in load_snapshots(paths) if any(r.state == "withdrawn" for r in s.files)
        ],
    )
    gone["rawdata"] += _delete_set_aside(paths, doomed)
    gone["rawdata"] += _delete_waiting(paths)
    gone["rawdata"] += sum(_delete_named(paths.inbox, case) for case in doomed.cases)
    remove_scratch(paths.rawdata)
    for place, root in (("procdata", paths.procdata), ("results", paths.results)):
        remove_temporaries(root)  # what a killed writer left is not called after its case
        gone[place] = sum(_delete_named(root, case) for case in doomed.cases)
    if paths.simulations.is_dir():  # they have links to everybody's images, and can be played again
        gone["simulations"] = sum(path.is_file() for path in paths.simulations.rglob("*"))
        for lab in paths.simulations.glob("*/"):
            remove_lab(lab)
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
    patients: frozenset[str] = frozenset()

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
        # What refers to an image that is out shows it, whoever's it is; also to one that is gone by now.
        out += [
            header
            for _, header in headers
            if any(
                uid in series or case_id_of(uid) in withdrawn.cases
                for uid in header.get("referenced_series", [])
            )
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
            frozenset(withdrawn.patients),
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
            or row.patient in self.patients  # not taken: a dose, a report, a slice that was cut short
            or (row.header is not None and row.header["sop_instance_uid"] in self.instances)
        )


def _blank(row: FileRow) -> FileRow:
    return row._replace(
        path="",
        state="withdrawn",
        reason=Reason.WITHDRAWN.value,
        detail="",
        header=None,
        source_sha256="",
        patient="",
    )


def _delete_raw(snapshot: Snapshot, doomed: _Doomed) -> int:
    """Delete the files of a snapshot that are out, and blank their rows."""
    rows = [row for row in snapshot.files if doomed.includes(row)]
    if not rows:
        return 0
    make_writable(snapshot.folder)
    deleted = 0
    # In a folder that a user filled, copies and rejected files lie there too.
    for row in rows if snapshot.origin == "by hand" else [row for row in rows if row.state == "taken"]:
        file = snapshot.folder / row.path
        if file.is_file():
            _unlink(file, snapshot.folder)
            deleted += 1
    _rewrite(snapshot.folder / MANIFEST, doomed)
    make_read_only(snapshot.folder)
    return deleted


def _delete_added_later(paths: DatasetPaths, doomed: _Doomed) -> int:
    """Delete what lies in folders since they were sealed.

    What was put there has copies in snapshots of their own; a backup brings back what was deleted.
    """
    deleted = 0
    for snapshot in load_snapshots(paths):
        if not (added := added_later(snapshot) or not_accounted(snapshot)):
            continue
        intake = Intake.of(paths, deidentify_all=False)
        out = [file for file in added if _is_out(file, intake, doomed)]
        if out:
            make_writable(snapshot.folder)
            for file in out:
                _unlink(file, snapshot.folder)
            make_read_only(snapshot.folder)
        deleted += len(out)
    return deleted


def _is_out(file: Path, intake: Intake, doomed: _Doomed) -> bool:
    """Whether a file that no account of its folder names is of what is withdrawn."""
    try:
        if is_large_and_no_dicom(file):
            return sha256_of_file(file) in doomed.digests
        content = content_of(file)
    except OSError:  # nobody can read whose it is
        return False
    return sha256(content).hexdigest() in doomed.digests or intake.is_withdrawn(content)


def _rewrite(account: Path, doomed: _Doomed) -> None:
    rows, about = read_account(account)
    write_account(account, (_blank(row) if doomed.includes(row) else row for row in rows), about)


def _delete_waiting(paths: DatasetPaths) -> int:
    """Delete what came over the network, is of what was withdrawn, and no delivery has seen yet."""
    inbox = Inbox(paths.inbox)
    remove_temporaries(paths.inbox, RECEIVED_BY_NOW_S)
    if not (files := inbox.all()):
        return 0
    intake = Intake.of(paths, deidentify_all=False)
    doomed = [file for file in files if intake.is_withdrawn(file.read_bytes())]
    inbox.remove(doomed)
    return len(doomed)


def _delete_set_aside(paths: DatasetPaths, doomed: _Doomed) -> int:
    deleted = 0
    for uid in doomed.instances:
        for file in paths.set_aside.glob(any_content_name(uid)):
            file.unlink()
            deleted += 1
    for account in json_files(paths.deliveries):
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


def _unlink(file: Path, root: Path) -> None:
    """Delete a file, and folders that become empty with it; of what lies elsewhere only the link."""
    if _is_elsewhere(file.parent, root):
        raise UserDataError(
            f"a folder in {root} is a link, and files behind it are of what is withdrawn. Delete them where "
            "they are, take the link away, and run the command again"
        )
    file.unlink()
    folder = file.parent
    while folder != root and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def _is_elsewhere(folder: Path, root: Path) -> bool:
    return not folder.resolve().is_relative_to(root.resolve())
