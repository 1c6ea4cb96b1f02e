"""What arrived when. A snapshot whose manifest is written is sealed and never changes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from tasks.errors import UserDataError
from tasks.ledger.accounts import FileRow, read_account, write_account
from tasks.ledger.dated import DatedName, dated_folders
from tasks.ledger.files import digest_of, json_files, sha256_of_file
from tasks.ledger.journal import Journal
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.pseudonyms import Pseudonyms

MANIFEST = "manifest.json"

Origin = Literal["copied", "by hand", "received"]
READ_ONLY = 0o555


@dataclass(frozen=True)
class Snapshot:
    """A sealed snapshot."""

    name: DatedName
    folder: Path
    files: tuple[FileRow, ...]
    origin: Origin = "copied"

    @property
    def taken(self) -> list[FileRow]:
        """The files that belong to the dataset."""
        return [row for row in self.files if row.state == "taken"]


def seal(folder: Path, rows: Iterable[FileRow], origin: Origin) -> None:
    """Write the manifest of a folder; from then on it is a snapshot."""
    write_account(folder / MANIFEST, rows, {"origin": origin})


def note_snapshots(paths: DatasetPaths, rewritten: Iterable[str] = ()) -> None:
    """Put the manifests that are not on record yet, or were rewritten by a withdrawal, on record."""
    noted = noted_snapshots(paths)
    for name, folder in dated_folders(paths.rawdata, paths.dataset_id).items():
        if is_sealed(folder) and (str(name) not in noted or str(name) in rewritten):
            digest = sha256_of_file(folder / MANIFEST)
            if noted.get(str(name), {}).get("manifest_sha256") == digest:
                continue
            row = {
                "snapshot": str(name),
                "origin": _read_manifest(folder / MANIFEST)[1],
                "manifest_sha256": digest,
                "key_mark": Pseudonyms(paths.patient_key, first=False).mark,
            }
            Journal(paths.snapshots).append(row)


def noted_snapshots(paths: DatasetPaths) -> dict[str, dict[str, Any]]:
    """Snapshot → its ``origin`` and ``manifest_sha256``, as it was last put on record."""
    return {entry["snapshot"]: entry for entry in Journal(paths.snapshots).entries()}


def require_whole(paths: DatasetPaths) -> None:
    """Raise :class:`UserDataError` where a snapshot is on record and its folder is gone.

    The label before the one that it brought would count again, and the next delivery take its name.
    """
    folders = dated_folders(paths.rawdata, paths.dataset_id).items()
    there = {str(name) for name, folder in folders if is_sealed(folder)}
    if lost := sorted(noted_snapshots(paths).keys() - there):
        raise UserDataError(
            f"{', '.join(lost)}: on record, and not in {paths.rawdata}; restore it from the backup. Who "
            "wants it gone for ever uses `iterseg withdraw`"
        )


def make_read_only(folder: Path) -> None:
    """Nothing below a sealed snapshot may change; what another account put there only they can close."""
    for path in [*folder.rglob("*"), folder]:
        if not path.is_symlink():
            with suppress(OSError):  # some file systems cannot; the manifest tells of a change all the same
                path.chmod(path.stat().st_mode & READ_ONLY)


def make_writable(folder: Path, *, files: bool = True) -> None:
    """The reverse, for a withdrawal that deletes; to delete files their folders are enough."""
    for path in [folder, *folder.rglob("*")]:
        if not path.is_symlink() and (files or path.is_dir()):
            path.chmod(path.stat().st_mode | 0o200)


def record_delivery(paths: DatasetPaths, rows: Sequence[FileRow], day: date, root: Path) -> Path | None:
    """Keep the account of a delivery that brought nothing to take; where, or None: all of it is known.

    A file is known by its content, and one that cannot be read by where it lay.
    """
    source = digest_of(str(root.resolve()))[:16]
    rows_before = accounted(paths)
    known = {row.sha256 for row in rows_before} | {row.source_sha256 for row in rows_before}
    accounts = [read_account(file) for file in json_files(paths.deliveries)]
    lay = {(about.get("source"), one.path) for account, about in accounts for one in account}
    if all(row.sha256 in known if row.sha256 else (source, row.path) in lay for row in rows):
        return None
    first = DatedName(day, 1, paths.dataset_id)
    name = first.first_free(lambda name: (paths.deliveries / f"{name}.json").exists())
    file = paths.deliveries / f"{name}.json"
    write_account(file, rows, {"source": source})
    return file


def accounted(paths: DatasetPaths) -> list[FileRow]:
    """Every row of every account: sealed snapshots, and deliveries that brought nothing to take."""
    rows = [row for snapshot in load_snapshots(paths) for row in snapshot.files]
    for file in json_files(paths.deliveries):
        rows += read_account(file)[0]
    return rows


def is_sealed(folder: Path) -> bool:
    """Whether the manifest of a folder is written."""
    return (folder / MANIFEST).is_file()


def newest_sealed(paths: DatasetPaths) -> str:
    """The name of the newest sealed snapshot; empty where there is none."""
    folders = dated_folders(paths.rawdata, paths.dataset_id)
    return next((str(name) for name in reversed(folders) if is_sealed(folders[name])), "")


def unsealed_folders(paths: DatasetPaths) -> dict[DatedName, Path]:
    """Dated folders that a user filled by hand and that no manifest describes yet."""
    folders = dated_folders(paths.rawdata, paths.dataset_id)
    return {name: folder for name, folder in folders.items() if not is_sealed(folder)}


def load_snapshots(paths: DatasetPaths, until: date | None = None) -> list[Snapshot]:
    """The sealed snapshots of a dataset up to a date, oldest first."""
    found = []
    for name, folder in dated_folders(paths.rawdata, paths.dataset_id).items():
        if is_sealed(folder) and (until is None or name.day <= until):
            found.append(Snapshot(name, folder, *_read_manifest(folder / MANIFEST)))
    return found


def _read_manifest(path: Path) -> tuple[tuple[FileRow, ...], Origin]:
    """The rows and the origin; a manifest that is as it was is not parsed again."""
    found = path.stat()
    return _parsed(path, (found.st_mtime_ns, found.st_size, found.st_ino))


@lru_cache(maxsize=512)
def _parsed(path: Path, _version: tuple[int, int, int]) -> tuple[tuple[FileRow, ...], Origin]:
    rows, about = read_account(path)
    return rows, about["origin"]


def day_of_arrival(paths: DatasetPaths) -> date:
    """The day of what comes in now: today, or that of the newest snapshot, where a clock was ahead."""
    days = [name.day for name in dated_folders(paths.rawdata, paths.dataset_id)]
    return max([date.today(), *days])


def next_snapshot_name(paths: DatasetPaths, day: date) -> DatedName:
    """The first free name of a day; the dataset's state only grows at its end.

    Raises
    ------
    UserDataError
        Where a later snapshot exists: a delivery of the past would change what has been.
    """
    names = list(dated_folders(paths.rawdata, paths.dataset_id))
    if names and names[-1].day > day:
        raise UserDataError(
            f"{paths.dataset_id} has a snapshot of {names[-1].day}; a delivery cannot be dated "
            f"{day}, before it. Leave the date out, or give a later one"
        )
    return DatedName(day, 1, paths.dataset_id).first_free(names.__contains__)
