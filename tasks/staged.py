"""Where a file lies before it is known whether another one claims its UID, and what becomes of it then."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from tasks.dicom.case import case_id_of
from tasks.dicom.headers import Header
from tasks.dicom.reasons import Reason
from tasks.ledger.accounts import FileRow
from tasks.ledger.files import whole_file

DICOM_SUFFIX = ".dcm"
CONTENT_DIGITS = 8
"""Of a file's sha256, in its name: two contents that claim one UID lie side by side."""


def staged_file(folder: Path, header: Header, digest: str) -> Path:
    """A place made of UIDs alone: digits and dots, whatever the source was called."""
    series = f"{header.kind}_{case_id_of(header.series_instance_uid)}"
    return folder / series / content_name(header.sop_instance_uid, digest)


def content_name(sop_instance_uid: str, sha256_of_content: str) -> str:
    """What a file is called before it is known whether another one claims its UID."""
    return f"{sop_instance_uid}.{sha256_of_content[:CONTENT_DIGITS]}{DICOM_SUFFIX}"


def any_content_name(sop_instance_uid: str) -> str:
    """A pattern of every :func:`content_name` of a UID."""
    return content_name(sop_instance_uid, "?" * CONTENT_DIGITS)


def place(rows: Sequence[FileRow], folder: Path, set_aside: Path) -> list[FileRow]:
    """Give staged files their names; what is not taken leaves, and conflicts are kept elsewhere."""
    placed = []
    for row in rows:
        if row.header is None or not (row.state == "taken" or row.reason == Reason.UID_CONFLICT):
            placed.append(row)
            continue
        header = Header.from_json(row.header)
        staged = staged_file(folder, header, row.sha256)
        if row.state == "taken":
            target = staged.with_name(f"{header.sop_instance_uid}{DICOM_SUFFIX}")
            os.replace(staged, target)
            placed.append(row._replace(path=target.relative_to(folder).as_posix()))
            continue
        placed.append(row)
        if staged.is_file():
            set_aside.mkdir(parents=True, exist_ok=True)
            with whole_file(set_aside / staged.name) as temporary:  # its only copy, once the inbox is cleared
                shutil.copyfile(staged, temporary)
    _remove_leftovers(folder, {folder / row.path for row in placed if row.state == "taken"})
    return placed


def _remove_leftovers(folder: Path, kept: set[Path]) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif path not in kept:
            path.unlink()


def told_apart(
    rows: Sequence[FileRow],
    known: Mapping[str, str],
    sent: Callable[[str], str | None],
    saved: Callable[[str], str] = str,
) -> Iterator[FileRow]:
    """Tell copies from conflicts, and predictions that nobody has changed from what was made of them.

    Parameters
    ----------
    known
        SOPInstanceUID → sha256 of what the dataset holds.
    sent
        From a SOPInstanceUID to the sha256 of the prediction that was written under it, if one was.
    saved
        From the sha256 of a file to what tells it from others that are saved anew, and not only carried.
    """

    def ours(row: FileRow, uid: str) -> bool:
        """A viewer may save its changes under our own UID: that is an edited prediction, and not ours."""
        return sent(uid) in {row.sha256, row.source_sha256}

    contents: dict[str, set[str]] = {uid: {digest} for uid, digest in known.items()}
    for row in rows:
        if row.state == "taken" and row.header is not None:
            uid = row.header["sop_instance_uid"]
            if not ours(row, uid):
                contents.setdefault(uid, set()).add(row.sha256)
    several = {
        uid for uid, found in contents.items() if len(found) > 1 and len({saved(one) for one in found}) > 1
    }
    seen: Counter[str] = Counter(known.keys())
    for row in rows:
        if row.state != "taken" or row.header is None:
            yield row
            continue
        uid = row.header["sop_instance_uid"]
        if ours(row, uid):  # whichever comes first: it hides nothing
            yield row._replace(state="ignored", reason=Reason.OWN_PREDICTION.value)
            continue
        if known.get(uid) == row.sha256 or (uid not in several and seen[uid]):
            yield row._replace(state="duplicate")
        elif uid in several:
            detail = f"SOP instance {uid} exists with other content"
            yield row._replace(state="rejected", reason=Reason.UID_CONFLICT.value, detail=detail)
        else:
            yield row
        seen[uid] += 1
