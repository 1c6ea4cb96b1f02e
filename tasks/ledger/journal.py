"""Append-only records in one file, each entry naming the one before it by digest.

What was said once cannot be changed or taken out unseen: the chain breaks. Whatever is made from a
journal's state keeps the digest of its last entry, so that the end of the chain is held too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tasks.errors import UserDataError
from tasks.ledger.files import digest_of, read_json, write_json

VERSION = 2
Entry = dict[str, Any]


def now() -> str:
    """The time of an entry or a record: UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Journal:
    """The entries of one file, oldest first. Entries are plain JSON objects with a key ``parent``."""

    path: Path

    def entries(self) -> list[Entry]:
        """Every entry, the chain of digests checked.

        Raises
        ------
        UserDataError
            Where the file was changed by other hands, or is of a version that is not read.
        """
        if not self.path.is_file():
            return []
        try:
            content = read_json(self.path)
            version, entries = content["version"], content["entries"]
            whole = bool(entries) and [None, *digests_of(entries)[:-1]] == [e["parent"] for e in entries]
        except (UserDataError, KeyError, TypeError):
            version, entries, whole = VERSION, [], False
        if version != VERSION:
            raise UserDataError(
                f"{self.path} was written by another version of IterSeg, in format {version}; this one reads "
                f"{VERSION}"
            )
        if not whole:
            raise UserDataError(
                f"{self.path} was changed or damaged: its entries do not follow from each other. "
                "Restore it from the backup"
            )
        found: list[Entry] = entries
        return found

    def append(self, content: Mapping[str, Any]) -> None:
        """Add an entry; the file is replaced in one step."""
        entries = self.entries()
        parent = digest_of(entries[-1]) if entries else None
        write_json(self.path, {"version": VERSION, "entries": [*entries, {"parent": parent, **content}]})

    def head(self) -> str | None:
        """The digest of the last entry; None where there is none."""
        entries = self.entries()
        return digest_of(entries[-1]) if entries else None

    def has_been_at(self, head: str | None) -> bool:
        """Whether the journal once ended with an entry of this digest: it has only grown since."""
        return head is None or head in digests_of(self.entries())


def digests_of(entries: list[Entry]) -> list[str]:
    """The digest of each entry."""
    return [digest_of(entry) for entry in entries]
