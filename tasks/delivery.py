"""The files of a delivery, and whether it has arrived."""

from __future__ import annotations

import os
import time
from datetime import date
from hashlib import sha256
from pathlib import Path

from tasks.dicom.headers import DICOM_SUFFIXES
from tasks.dicom.reasons import Reason
from tasks.errors import ConfigError, UserDataError
from tasks.ledger.accounts import FileRow
from tasks.ledger.snapshots import MANIFEST, Snapshot
from tasks.shown.progress import waiting

ARRIVAL_TIMEOUT_S = 600.0
"""How long a run waits for a folder that is still being filled before it gives up."""
LOOK_EVERY_S = 0.5
LARGE_BYTES = 1 << 28
"""Films and archives lie beside deliveries: of so large a file it is asked what it is before it is read, and
one that is no DICOM is not read again. A slice has a thousandth of that."""

RECYCLE_BINS = ("$recycle.bin", "recycler", "#recycle", "@recycle", ".recycle", ".trashes", ".trash")
"""Where Windows, macOS, Linux and network storage keep what was deleted; Linux adds a user's number."""
OF_THE_DISK = ("lost+found", "system volume information", ".snapshot", ".snapshots", ".zfs", "@eadir")
"""Folders at the root of a disk that hold nobody's delivery; some of them nobody may read."""

Signature = dict[str, tuple[int, int]]
"""Path → (bytes, time of the last change in ns) of each file."""


def files_below(folder: Path) -> list[Path]:
    """All files, in a stable order, through links to folders too; a manifest is no delivery.

    Nor is what a disk keeps for itself (:data:`OF_THE_DISK`), where a whole disk is delivered.

    Raises
    ------
    UserDataError
        Where a sub-folder cannot be read: what is in it would be missing in silence.
    """

    def refuse(error: OSError) -> None:
        raise UserDataError(f"a folder of the delivery cannot be read: {error.strerror}")

    found: list[Path] = []
    visited: set[Path] = set()
    for parent, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        here = Path(parent)
        visited.add(here.resolve())
        # A link back to where we are would never end.
        folders[:] = [
            name
            for name in folders
            if not (here == folder and name.lower() in OF_THE_DISK) and (here / name).resolve() not in visited
        ]
        found += [here / name for name in names if name != MANIFEST]
    return sorted(found)


def was_deleted(path: Path, root: Path) -> bool:
    """Whether a file below a folder lies in a recycle bin: somebody did not want it."""
    parts = (part.lower() for part in path.relative_to(root).parts[:-1])
    return any(part in RECYCLE_BINS or part.startswith(".trash-") for part in parts)


def refuse_a_day_to_come(day: date, what: str) -> None:
    """Later deliveries have later dates: one of a day to come would keep all others out till then.

    Raises
    ------
    ConfigError
        Naming ``what`` is dated so.
    """
    if day > date.today():
        raise ConfigError(
            f"{what}: a delivery cannot be of a day to come, it would keep all others out till then"
        )


def is_large_and_no_dicom(path: Path) -> bool:
    """Archives and films lie beside deliveries, and need not be held in memory to be passed over."""
    if path.stat().st_size < LARGE_BYTES or path.suffix.lower() in DICOM_SUFFIXES:
        return False
    with path.open("rb") as stream:
        return stream.read(132)[128:] != b"DICM"


def content_of(path: Path) -> bytes:
    """What a file of a delivery holds; OSError also for a pipe, which would be waited for, for ever."""
    if path.exists() and not path.is_file():
        raise OSError(0, "it is no regular file")
    return path.read_bytes()


def signature_of(files: list[Path]) -> Signature:
    """What changes when one of the files does."""
    signature: Signature = {}
    for path in files:
        try:
            stat = path.stat()
        except OSError:
            continue  # a dangling link, or gone again: reading it tells
        signature[str(path)] = (stat.st_size, max(stat.st_mtime_ns, stat.st_ctime_ns))
    return signature


def arrived(folder: Path, quiet_s: float) -> list[Path]:
    """The files below a folder, once nothing there has changed for a while.

    A copy in progress is waited for. The clock of this machine tells a folder that has long been quiet;
    where a file server's clock runs ahead, the folder is watched instead.

    Raises
    ------
    UserDataError
        Where it is still being filled after :data:`ARRIVAL_TIMEOUT_S`.
    """
    began = watched_since = time.monotonic()
    files = files_below(folder)
    signature = signature_of(files)
    with waiting(f"until nothing has changed in the delivery for {quiet_s:.0f} s"):
        while not _long_quiet(signature, quiet_s) and time.monotonic() - watched_since < quiet_s:
            if time.monotonic() - began > ARRIVAL_TIMEOUT_S:
                raise UserDataError(
                    f"the delivery is still arriving after {ARRIVAL_TIMEOUT_S / 60:.0f} minutes; run it "
                    "again when the transfer is complete"
                )
            time.sleep(min(LOOK_EVERY_S, quiet_s))
            files = files_below(folder)
            if (now := signature_of(files)) != signature:
                signature, watched_since = now, time.monotonic()
    return files


def _long_quiet(signature: Signature, quiet_s: float) -> bool:
    newest_ns = max((changed_ns for _, changed_ns in signature.values()), default=0)
    return time.time() - newest_ns / 1e9 >= quiet_s


def not_accounted(snapshot: Snapshot) -> list[Path]:
    """Files that the manifest of a snapshot does not name, as a restore brings them back after a deletion."""
    known = {row.path for row in snapshot.files}
    below = files_below(snapshot.folder)
    return [file for file in below if file.relative_to(snapshot.folder).as_posix() not in known]


def added_later(snapshot: Snapshot) -> list[Path]:
    """Files that came after the seal, and files that were of no use then and are others now."""
    if snapshot.origin != "by hand":
        return []
    known = {row.path: row for row in snapshot.files}
    sealed_ns = (snapshot.folder / MANIFEST).stat().st_mtime_ns

    def may_be_another(file: Path, row: FileRow) -> bool:
        if row.state == "taken" or row.size_bytes > LARGE_BYTES:
            return False
        if row.reason == Reason.NO_DICOM:
            return _named_like_a_slice(file)
        # A prediction, or a copy of what is known, that somebody has put there to correct it.
        return row.state == "rejected" or file.stat().st_mtime_ns > sealed_ns

    def new(file: Path) -> bool:
        row = known.get(file.relative_to(snapshot.folder).as_posix())
        if row is None:
            return True
        try:
            if not may_be_another(file, row):
                return False
            return sha256(content_of(file)).hexdigest() != row.sha256
        except OSError:  # a link that leads nowhere, a pipe, or still not to be read
            return False

    return [file for file in files_below(snapshot.folder) if new(file)]


def _named_like_a_slice(file: Path) -> bool:
    """Without an ending, or with one of DICOM, or of a UID: not what a desktop keeps writing, nor a film."""
    ending = file.suffix.lower()
    return not file.name.startswith(".") and (ending in ("", *DICOM_SUFFIXES) or ending[1:].isdigit())
