"""The key of a dataset, held to be the one under which its patients were booked."""

from __future__ import annotations

from tasks.errors import UserDataError
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.pseudonyms import Pseudonyms
from tasks.ledger.snapshots import load_snapshots, noted_snapshots


def pseudonyms_of(paths: DatasetPaths) -> Pseudonyms:
    """The pseudonyms of a dataset; its key is made where nothing was ever delivered.

    Raises
    ------
    UserDataError
        Where the key is lost, damaged, or another than the one with which a snapshot was put on
        record: every patient would be a stranger, and could change from one fold to another.
    """
    noted = noted_snapshots(paths)
    found = Pseudonyms(paths.patient_key, first=not noted and not load_snapshots(paths))
    for snapshot, entry in noted.items():
        if entry.get("key_mark", found.mark) != found.mark:  # records of before have none
            raise UserDataError(
                f"{paths.patient_key} is not the key with which {snapshot} was taken; restore that one from "
                "the backup: under another one every patient is a stranger, and would change folds"
            )
    return found
