"""One run at a time for a dataset."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from tasks.errors import BusyError
from tasks.ledger.files import read_json, temporary_beside


@contextmanager
def dataset_lock(folder: Path, note: Mapping[str, Any] | None = None) -> Iterator[dict[str, Any] | None]:
    """Hold the lock of a dataset while its files are changed; the same process may enter again.

    The lock is a file made by a hard link, which is atomic on NFS and Lustre too (link(2)). One left by
    a process of this host that is gone is taken over.

    Parameters
    ----------
    note
        What the lock shall say of its holder besides host, process and start.

    Yields
    ------
    What the lock says of a former holder that was killed; None after one that ended well.

    Raises
    ------
    BusyError
        Where another run holds it, naming its host, process and start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / "lock.json"
    mine = {"host": socket.gethostname(), "pid": os.getpid()}
    holder = None
    if not _take(lock, {**mine, **(note or {})}):
        holder = _holder(lock)
        if holder is not None and {k: holder.get(k) for k in mine} == mine:
            yield None
            return
        if holder is not None and not _is_gone(holder):
            raise BusyError(
                f"another run works on this dataset: process {holder.get('pid')} on "
                f"{holder.get('host')}, since {holder.get('since')}. Wait for it; if that host is "
                f"down for good, remove {lock}"
            )
        # Of several that find the dead one's lock, only one renames it away.
        with suppress(FileNotFoundError):
            os.rename(lock, temporary_beside(lock))
        if not _take(lock, {**mine, **(note or {})}):
            raise BusyError("another run has just begun to work on this dataset; wait for it")
    try:
        yield holder
    finally:
        lock.unlink(missing_ok=True)


def _take(lock: Path, mine: dict[str, Any]) -> bool:
    """Make the lock with its content in one step: a link to a file that is already filled."""
    filled = temporary_beside(lock)
    filled.write_text(json.dumps({**mine, "since": datetime.now().isoformat(timespec="seconds")}))
    try:
        os.link(filled, lock)
    except FileExistsError:
        return False
    finally:
        filled.unlink()
    return True


def _holder(lock: Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = read_json(lock)
    except FileNotFoundError:
        return None
    except json.JSONDecodeError:
        return {"host": "a damaged lock", "pid": "unknown"}
    return content


def _is_gone(holder: dict[str, Any]) -> bool:
    """Only a process of this host can be known to be gone."""
    if holder.get("host") != socket.gethostname():
        return False
    pid = int(holder.get("pid") or -1)
    if pid <= 0:
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
