"""No program that IterSeg starts outlives the process that started it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PARENT = "ITERSEG_PARENT_PID"
"""The environment variable by which a program knows who started it."""

PR_SET_PDEATHSIG = 1
_forking: int | None = None
"""The process that forks, as its child finds it."""


def die_with_parent() -> None:
    """Linux: be killed when the starting process is gone (prctl(2), PR_SET_PDEATHSIG), and so each fork.

    A fork does not inherit it: nnU-Net's augmentation workers would wait for work for ever, and hold handles
    of the GPU and the pipe to whoever listens.
    """
    if not sys.platform.startswith("linux"):
        return
    parent = os.environ.get(PARENT)
    if not _killed_with(None if parent is None else int(parent)):
        sys.exit("the process that started this one is gone")
    os.register_at_fork(before=_about_to_fork, after_in_child=_die_with_forking)


def _killed_with(parent: int | None) -> bool:
    """Ask the system for it; False where the parent has ended before this could be said."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    return parent is None or os.getppid() == parent


def _about_to_fork() -> None:
    global _forking  # noqa: PLW0603 - a hook has no other place
    _forking = os.getpid()


def _die_with_forking() -> None:
    if not _killed_with(_forking):
        os._exit(1)
