"""No program that IterSeg starts outlives the process that started it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PARENT = "ITERSEG_PARENT_PID"
"""The environment variable by which a program knows who started it."""

PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Linux: be killed when the starting process is gone (prctl(2), PR_SET_PDEATHSIG)."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = os.environ.get(PARENT)
    # The parent may have ended before the call above.
    if parent is not None and os.getppid() != int(parent):
        sys.exit("the process that started this one is gone")
