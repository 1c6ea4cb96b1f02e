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
    """Linux: be killed when the starting process is gone (prctl(2), PR_SET_PDEATHSIG), and so each fork.

    A fork does not inherit it: nnU-Net's augmentation workers would wait for work for ever, and hold handles
    of the GPU and the pipe to whoever listens.
    """
    if not sys.platform.startswith("linux"):
        return
    prctl = ctypes.CDLL(None).prctl
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = os.environ.get(PARENT)
    # The parent may have ended before the call above.
    if parent is not None and os.getppid() != int(parent):
        sys.exit("the process that started this one is gone")
    forking = [0]

    def fork_dies_too() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != forking[0]:  # as above
            os._exit(1)

    os.register_at_fork(before=lambda: forking.__setitem__(0, os.getpid()), after_in_child=fork_dies_too)
