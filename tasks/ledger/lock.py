"""One run at a time for a dataset."""

from __future__ import annotations

import json
import math
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tasks.errors import BusyError, UserDataError
from tasks.ledger.files import digest_of, read_json, sync, temporary_beside, write_json
from tasks.ledger.journal import now

_HELD: set[Path] = set()
"""The locks that this process holds."""


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
    if lock.resolve() in _HELD:
        yield None
        return
    mine = {**_this_process(), **(note or {})}
    killed = None if _take(lock, mine) else _taken_from_the_dead(lock, mine)
    _HELD.add(lock.resolve())
    try:
        yield killed
    finally:
        _HELD.discard(lock.resolve())
        if mine.items() <= (_holder(lock) or {}).items():  # not one that a person put in its place
            lock.unlink(missing_ok=True)


def _taken_from_the_dead(lock: Path, mine: dict[str, Any]) -> dict[str, Any] | None:
    """Take a lock that is there already; the note of who was killed with it, if anybody was."""
    killed = _holder(lock)
    if killed is not None and _is_ours(killed):
        # Nobody of this process works by it: a network's file system said that it failed, and it had not.
        write_json(lock, {**mine, "since": now()})
        return None
    if killed is not None and not _is_gone(killed):
        raise BusyError(
            f"another run works on this dataset: process {killed.get('pid')} on "
            f"{killed.get('host')}, since {killed.get('since')}. Wait for it; if that host is "
            f"down for good, remove {lock}"
        )
    if not (_take(lock, mine) if killed is None else _take_over(lock, killed, mine)):
        raise BusyError(
            f"another run has just begun to work on this dataset; wait for it. If there is none, remove "
            f"{lock.parent}/.{lock.name}.*"
        )
    return killed


def leave_to_the_next(folder: Path, dead: Mapping[str, Any]) -> None:
    """Put a dead run's lock back in the place of this process's own: what it left is still to be cleared."""
    write_json(folder / "lock.json", dict(dead))


def working_on(folder: Path) -> str | None:
    """Who holds the lock of a dataset, as far as that can be known; None where nobody does."""
    holder = _holder(folder / "lock.json")
    if holder is None or _is_gone(holder):
        return None
    return f"process {holder.get('pid')} on {holder.get('host')}, since {holder.get('since')}"


def held_for_h(folder: Path) -> float:
    """How long a living run, as far as that can be known, has held the lock of a dataset; 0 if none does."""
    holder = _holder(folder / "lock.json")
    if holder is None or _is_gone(holder) or _is_ours(holder):
        return 0.0
    try:
        since = datetime.fromisoformat(str(holder.get("since")))
    except ValueError:
        return math.inf
    # Of hosts in several zones, and over the change of clocks; one without a zone is of this one's.
    return max(1e-9, (datetime.now(UTC) - since.astimezone(UTC)).total_seconds() / 3600)


def is_lost(folder: Path, after_h: float) -> bool:
    """Whether another machine, or container, holds the lock for longer; a process of this one lives."""
    holder = _holder(folder / "lock.json") or {}
    return held_for_h(folder) > after_h and not _is_known(holder)


def _take(lock: Path, mine: dict[str, Any]) -> bool:
    """Make the lock with its content in one step: a link to a file that is already filled."""
    filled = temporary_beside(lock)
    try:
        filled.write_text(json.dumps({**mine, "since": now()}))
        sync(filled)  # a lock that a power cut has emptied says nobody's name, and is nobody's to take over
        os.link(filled, lock)
    except (FileExistsError, FileNotFoundError):  # or who holds it has cleared what was half written
        return False
    finally:
        filled.unlink(missing_ok=True)
    sync(lock.parent)
    return True


def _take_over(lock: Path, dead: Mapping[str, Any], mine: dict[str, Any]) -> bool:
    """Put a lock in the place of a dead one, in one step.

    Of several that found it only one may: who claims it first, and then finds it as it was.
    """
    claim = lock.with_name(f".{lock.name}.{digest_of(dict(dead))[:12]}")
    if not _take(claim, mine):
        claimed = _holder(claim)
        if claimed is not None and _is_gone(claimed):  # killed within these few lines: the next try is free
            aside = temporary_beside(claim)
            with suppress(FileNotFoundError):
                os.rename(claim, aside)
                if _holder(aside) == claimed:
                    aside.unlink()
        return False
    if _holder(lock) != dead:
        claim.unlink()
        return False
    with suppress(FileNotFoundError):
        os.rename(claim, lock)
    return mine.items() <= (_holder(lock) or {}).items()


def _holder(lock: Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = read_json(lock)
    except FileNotFoundError:
        return None
    except UserDataError:
        return {"host": "a damaged lock", "pid": "unknown"}
    return content


def _this_process() -> dict[str, Any]:
    """Who holds a lock. Numbers of processes are used again; with boot and start they are not."""
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "machine": _machine(),
        "boot": _boot(),
        "started": _started(os.getpid()),
        "namespace": _namespace(),
    }


def _is_ours(holder: Mapping[str, Any]) -> bool:
    """Whether a lock is of this very process."""
    return _this_process().items() <= holder.items()


def _machine() -> str | None:
    """The id of the installation (machine-id(5)): two machines may have one name. Containers have none."""
    try:
        return Path("/etc/machine-id").read_text().strip() or None
    except OSError:
        return None


def _boot() -> str | None:
    """The id of the machine's uptime (proc(5))."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


def _namespace() -> str | None:
    """In which the numbers of processes are counted (pid_namespaces(7)): a container has one of its own."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return None


def _stat(pid: int) -> list[str]:
    """What proc_pid_stat(5) says of a process, from its state on; empty where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _started(pid: int) -> str | None:
    """When a process began, in clock ticks."""
    said = _stat(pid)
    return said[19] if said else None


def _is_known(holder: dict[str, Any]) -> bool:
    """Whether its process has its number here: on this host, and in this container."""
    here = holder.get("host") == socket.gethostname()
    return here and bool(holder.get("namespace", _namespace()) == _namespace())


def _is_gone(holder: dict[str, Any]) -> bool:
    """Only a process of this host, and of this container, can be known to be gone."""
    if holder.get("host") != socket.gethostname():
        return False  # whose boots are not ours
    pid = int(holder.get("pid") or -1)
    if pid <= 0:
        return True
    if holder.get("boot", _boot()) != _boot():
        # Of this machine before it was started anew, unless it is of another one with its name.
        return "machine" not in holder or (holder["machine"] == _machine() is not None)
    return _is_known(holder) and _has_ended(holder, pid)


def _has_ended(holder: Mapping[str, Any], pid: int) -> bool:
    """Whether the process of a number is not there any more, or another one."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    ended = _stat(pid)[:1] in (["Z"], ["X"])  # and its parent, as of a container, does not ask after it
    return ended or bool(holder.get("started", _started(pid)) != _started(pid))
