"""The files of a delivery."""

from __future__ import annotations

import os
from pathlib import Path

from tasks.errors import UserDataError
from tasks.ledger.snapshots import MANIFEST


def files_below(folder: Path) -> list[Path]:
    """All files, in a stable order, through links to folders too; a manifest is no delivery.

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
        folders[:] = [name for name in folders if (here / name).resolve() not in visited]
        found += [here / name for name in names if name != MANIFEST]
    return sorted(found)
