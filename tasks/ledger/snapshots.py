"""What arrived when. A snapshot whose manifest is written is sealed and never changes."""

from __future__ import annotations

import hmac
import os
import secrets
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from tasks.errors import UserDataError
from tasks.ledger.files import read_json, write_json
from tasks.ledger.paths import DatasetPaths, DatedName, dated_folders

MANIFEST = "manifest.json"
PATIENT_HASH_DIGITS = 16
KEY_BYTES = 32

Origin = Literal["copied", "by hand"]
FileState = Literal["taken", "duplicate", "rejected", "ignored"]


@dataclass(frozen=True)
class FileRow:
    """What became of one file of a delivery.

    ``path`` is relative to the snapshot for files that lie in it, and the source's otherwise; it may
    hold names and therefore stays in the raw data. ``header`` is :meth:`Header.as_json`.
    """

    path: str
    state: FileState
    reason: str | None
    detail: str
    sha256: str
    size_bytes: int
    header: dict[str, Any] | None


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


def count_states(rows: Iterable[FileRow]) -> dict[str, int]:
    """How many files had which fate; the numbers add up to the files found."""
    counts = Counter(row.state for row in rows)
    return {state: counts[state] for state in ("taken", "duplicate", "rejected", "ignored")}


def count_reasons(rows: Iterable[FileRow]) -> dict[str, int]:
    """How many files were set aside for which reason."""
    return dict(sorted(Counter(row.reason for row in rows if row.reason).items()))


def seal(folder: Path, rows: Iterable[FileRow], origin: Origin) -> None:
    """Write the manifest of a folder; from then on it is a snapshot."""
    files = [asdict(row) for row in rows]
    write_json(folder / MANIFEST, {"version": 1, "origin": origin, "files": files})


def is_sealed(folder: Path) -> bool:
    """Whether the manifest of a folder is written."""
    return (folder / MANIFEST).is_file()


def unsealed_folders(paths: DatasetPaths) -> dict[DatedName, Path]:
    """Dated folders that a user filled by hand and that no manifest describes yet."""
    folders = dated_folders(paths.rawdata, paths.dataset_id)
    return {name: folder for name, folder in folders.items() if not is_sealed(folder)}


def load_snapshots(paths: DatasetPaths, until: date | None = None) -> list[Snapshot]:
    """The sealed snapshots of a dataset up to a date, oldest first."""
    found = []
    for name, folder in dated_folders(paths.rawdata, paths.dataset_id).items():
        if is_sealed(folder) and (until is None or name.day <= until):
            content = read_json(folder / MANIFEST)
            rows = tuple(FileRow(**row) for row in content["files"])
            found.append(Snapshot(name, folder, rows, content["origin"]))
    return found


def known_instances(snapshots: Iterable[Snapshot]) -> dict[str, str]:
    """SOPInstanceUID → sha256 of everything the snapshots hold."""
    return {
        row.header["sop_instance_uid"]: row.sha256
        for snapshot in snapshots
        for row in snapshot.taken
        if row.header is not None
    }


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
            f"{day}, before it. Leave --date out or give a later one"
        )
    name = DatedName(day, 1, paths.dataset_id)
    while name in names:
        name = name.next()
    return name


class PatientHash:
    """Turns an identity into a keyed hash; the key is made once and stays in the raw data.

    Parameters
    ----------
    key_file
        Where the key lies.
    first
        Whether the dataset has no snapshot yet. Only then is a key made: under a new one every
        patient would be a stranger, and could change from one fold to another.

    Raises
    ------
    UserDataError
        Where the key is lost or damaged.
    """

    def __init__(self, key_file: Path, *, first: bool) -> None:
        if first and not key_file.exists():
            _make_key(key_file)
        self._key = _read_key(key_file)

    def __call__(self, identity: str) -> str:
        """The hash of an identity, the same for ever under one key."""
        digest = hmac.new(self._key, identity.encode(), sha256).hexdigest()
        return digest[:PATIENT_HASH_DIGITS]


def _make_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as stream:
        stream.write(secrets.token_hex(KEY_BYTES) + "\n")
        stream.flush()
        os.fsync(stream.fileno())


def _read_key(path: Path) -> bytes:
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise UserDataError(
            f"{path} is lost or damaged; restore it from the backup: without it patients cannot be "
            "told apart as before, and would change folds"
        )
    return key
