"""A measuring that was stopped goes on with the parts that it lacks, as long as the code is the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tasks.ledger.files import read_json, write_json


class Begun:
    """Which parts of a whole measuring are done; the file is there until all are."""

    def __init__(self, file: Path, commit: str) -> None:
        self._file, self._commit = file, commit

    def left(self, parts: Sequence[str]) -> list[str]:
        """The parts that are still to be measured."""
        return [part for part in parts if part not in self._finished()]

    def end(self, part: str, parts: Sequence[str]) -> None:
        """Note that a part is measured."""
        finished = [*self._finished(), part]
        if set(parts) <= set(finished):
            self._file.unlink(missing_ok=True)
        else:
            write_json(self._file, {"commit": self._commit, "finished": finished})

    def _finished(self) -> list[str]:
        known = read_json(self._file) if self._file.is_file() else {}
        return list(known["finished"]) if known.get("commit") == self._commit else []
