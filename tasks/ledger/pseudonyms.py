"""Keyed pseudonyms: the same patient or UID is the same stranger, for ever, under one key.

The key is made once and stays in the raw data. Whoever lacks it can neither find out who a pseudonym
is nor make one that passes for ours: each carries a keyed check, so that what has been replaced
before is recognised without a table, and is never replaced twice.
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from tasks.errors import UserDataError
from tasks.ledger.files import sync, temporary_beside

KEY_BYTES = 32
PATIENT_DIGITS = 16
CHECK_DIGITS = 8
"""32 bits: a foreign PatientID or UID passes for ours once in four billion."""
UID_ROOT = "2.25."
"""UIDs made of a UUID's 128 bits (PS3.5 B.2)."""
UID_CONTENT_BITS = 96
UID_CHECK_BITS = 32
PATIENT_ID = re.compile(rf"ITERSEG-([0-9a-f]{{{PATIENT_DIGITS}}})-([0-9a-f]{{{CHECK_DIGITS}}})")


class Pseudonyms:
    """Hashes and pseudonyms under the key of a dataset.

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

    @property
    def mark(self) -> str:
        """What tells this key from another one, and nothing else of it."""
        return self._digest("mark")[:PATIENT_DIGITS]

    def patient(self, identity: str) -> str:
        """The hash that stands for an identity in the ledger.

        ``identity`` is ``patient:<PatientID>``, or ``study:<UID>`` where no PatientID is given. A
        PatientID that :meth:`patient_id` made gives the hash it was made from: a patient whose scans
        come with and without a name stays one patient.
        """
        match = PATIENT_ID.fullmatch(identity.removeprefix("patient:"))
        if match and hmac.compare_digest(match[2], self._digest(f"check:{match[1]}")[:CHECK_DIGITS]):
            return match[1]
        return self._digest(identity)[:PATIENT_DIGITS]

    def patient_id(self, identity: str) -> str:
        """The PatientID that a de-identified file carries instead of its own (34 characters)."""
        patient = self.patient(identity)
        return f"ITERSEG-{patient}-{self._digest(f'check:{patient}')[:CHECK_DIGITS]}"

    def uid(self, uid: str) -> str:
        """The UID that stands for a UID; one that this method made stands for itself."""
        if not uid or self.is_own_uid(uid):
            return uid
        content = int(self._digest(f"uid:{uid}"), 16) >> (256 - UID_CONTENT_BITS)
        return f"{UID_ROOT}{content << UID_CHECK_BITS | self._uid_check(content)}"

    def is_own_uid(self, uid: str) -> bool:
        """Whether :meth:`uid` made this UID under this key."""
        digits = uid.removeprefix(UID_ROOT)
        if digits == uid or not digits.isdecimal() or len(digits) > 39:
            return False
        value = int(digits)
        return value % (1 << UID_CHECK_BITS) == self._uid_check(value >> UID_CHECK_BITS)

    def _uid_check(self, content: int) -> int:
        return int(self._digest(f"uid-check:{content}"), 16) >> (256 - UID_CHECK_BITS)

    def _digest(self, text: str) -> str:
        return hmac.new(self._key, text.encode(), sha256).hexdigest()


def _make_key(path: Path) -> None:
    """Whole or not at all: half a key would be taken for a damaged one. One made meanwhile stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as stream:
            stream.write(secrets.token_hex(KEY_BYTES) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        _name_once(temporary, path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _name_once(temporary: Path, path: Path) -> None:
    """Give a file its name, unless another has it: a key that somebody uses already is never replaced."""
    try:
        os.link(temporary, path)
    except OSError:  # there is one, or no links on this file system: who makes the name may fill it
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            os.replace(temporary, path)


def _read_key(path: Path) -> bytes:
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (FileNotFoundError, ValueError):  # any other failure of the disk may pass, and nothing is lost
        key = b""
    if len(key) != KEY_BYTES:
        raise UserDataError(
            f"{path} is lost or damaged; restore it from the backup: without it patients cannot be "
            "told apart as before, and would change folds"
        )
    return key
