"""A cursor that is garbage does not make the event loop wait for another thread's lock."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import gc, sqlite3, sys, threading, time
from tasks.processes.prefect_server import collect_garbage_aside

file, aside = sys.argv[1], sys.argv[2] == "aside"
settings = {"timeout": 6, "isolation_level": None, "check_same_thread": False}
holder, other = (sqlite3.connect(file, **settings) for _ in range(2))
holder.execute("pragma journal_mode = wal")
holder.execute("create table t (x)")
gc.disable()
held = other.execute("values (1), (2)")
next(held)  # read in part, as by a task that was cancelled
garbage = [held]
garbage.append(garbage)
del held, garbage
holder.execute("begin immediate")  # the one write lock

told = []
def write():
    try:
        other.execute("insert into t values (3)")
    except sqlite3.OperationalError:  # in whatever words: they are asked of a connection that two threads use
        told.append("gave up")

thread = threading.Thread(target=write)
thread.start()
time.sleep(0.5)  # it waits for the lock now
collect_garbage_aside() if aside else gc.enable()
until = time.monotonic() + 2.5
while time.monotonic() < until:  # what an event loop does makes garbage, too
    kept = [[] for _ in range(100_000)]
holder.execute("commit")
thread.join()
print(told)
"""
"""What stops a server of Prefect, without Prefect: one connection writes, another waits in a thread."""


@pytest.mark.parametrize(
    ("way", "told"),
    [("aside", "[]"), ("as Python does", "['gave up']")],
)
def test_garbage_waits_alone(tmp_path: Path, way: str, told: str) -> None:
    """The second case shows that the first one can fail; if it ever passes, the module may go."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "db"), way],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.strip() == told
