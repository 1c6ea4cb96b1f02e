"""What is on its way in over the network: whole series are ready, everything else is held.

A folder for each series. While a transfer stores into it a marker lies there; a transfer that ends
well takes it away, one that is cut off leaves it, and the series is held until it is sent again, by a
transfer that began after that. A killed receiver leaves its markers too. The files themselves are
whole: the sender was told so.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.ledger.files import json_files, read_json, whole_file, write_json

OPEN, CUT, REFUSED = ".open-", ".cut-", ".refused"


@dataclass(frozen=True)
class Inbox:
    """The inbox of a dataset, below its raw data."""

    root: Path

    def begin(self, transfer: str, series: str) -> None:
        """A transfer is about to store into a series."""
        folder = self.root / series
        marker = folder / f"{OPEN}{transfer}"
        while not marker.exists():  # an ingest may take the empty folder away in between
            folder.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):
                marker.write_text("\n".join(cut.name for cut in folder.glob(f"{CUT}*")))

    def put(self, series: str, name: str, content: bytes) -> None:
        """Store a file, durable when this returns; the same name and content again changes nothing."""
        target = self.root / series / name
        if target.is_file() and target.stat().st_size == len(content):
            return
        with whole_file(target) as temporary:
            temporary.write_bytes(content)

    def end(self, transfer: str, *, whole: bool) -> None:
        """A transfer has ended: its series are ready now, or held if it was cut off."""
        for marker in list(self.root.glob(f"*/{OPEN}{transfer}")):
            if whole:
                # One that was cut off meanwhile may have had slices that this one has not.
                for cut in marker.read_text().split():
                    marker.with_name(cut).unlink(missing_ok=True)
                marker.unlink(missing_ok=True)
            else:
                os.replace(marker, marker.with_name(f"{CUT}{transfer}"))

    def refuse(self, digest: str, row: dict[str, Any]) -> None:
        """Note what was not taken, for the account of the next delivery."""
        write_json(self.root / REFUSED / f"{digest}.json", row)

    def refused(self) -> dict[Path, dict[str, Any]]:
        """What was not taken since the last delivery: the note, and what it says."""
        return {file: read_json(file) for file in json_files(self.root / REFUSED)}

    def cut_off(self, prefix: str) -> None:
        """At the start of whoever names transfers so: what was open when they were killed."""
        for marker in list(self.root.glob(f"*/{OPEN}{prefix}*")):
            os.replace(marker, marker.with_name(CUT + marker.name.removeprefix(OPEN)))

    def ready(self) -> list[Path]:
        """The files of all series that arrived whole."""
        return sorted(file for folder in self._folders() if not _marked(folder) for file in _files(folder))

    def all(self) -> list[Path]:
        """All files that are here, also of series that are held or still come in."""
        return [file for folder in self._folders() for file in _files(folder)]

    def held(self) -> dict[str, int]:
        """Series that did not arrive whole → how many files are there."""
        return {
            folder.name: len(list(_files(folder)))
            for folder in self._folders()
            if any(folder.glob(f"{CUT}*"))
        }

    def quiet_for_s(self) -> float:
        """How long ago anything changed."""
        times = []
        for folder in (self.root, *self._folders()):
            with suppress(FileNotFoundError):
                times.append(folder.stat().st_mtime)
        return max(0.0, time.time() - max(times)) if times else 0.0

    def remove(self, files: list[Path]) -> None:
        """Take files out that a snapshot holds now."""
        for file in files:
            file.unlink(missing_ok=True)
        for folder in {file.parent for file in files}:
            with suppress(OSError):  # not empty, or the receiver has just begun to fill it again
                folder.rmdir()

    def _folders(self) -> list[Path]:
        if not self.root.is_dir():
            return []
        return sorted(p for p in self.root.iterdir() if p.is_dir() and p.name != REFUSED)


def _marked(folder: Path) -> bool:
    return any(True for _ in folder.glob(f"{OPEN}*")) or any(True for _ in folder.glob(f"{CUT}*"))


def _files(folder: Path) -> Iterator[Path]:
    with suppress(FileNotFoundError):  # an ingest has just taken the series, and its folder away
        yield from (path for path in folder.iterdir() if not path.name.startswith("."))
