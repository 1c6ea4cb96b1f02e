"""Run a command where a network namespace is new: `unshare -n python with_loopback.py PARENT COMMAND…`."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence


def alone(*command: str) -> list[str]:
    """A command in a network of its own, with a loopback and nothing else; it goes with this process."""
    return ["unshare", "-n", sys.executable, __file__, str(os.getpid()), *command]


def may_be_alone() -> bool:
    """Whether this user may make a network namespace."""
    return subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False).returncode == 0


def _become(parent: str, command: Sequence[str]) -> None:
    """Be killed with whoever started it, bring loopback up, be the command."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != int(parent):
        sys.exit(1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        # SIOCSIFFLAGS with IFF_UP | IFF_RUNNING: as `ip link set lo up`, which may not be installed.
        fcntl.ioctl(handle, 0x8914, struct.pack("16sH14x", b"lo", 0x1 | 0x40))
    os.execvp(command[0], command)


if __name__ == "__main__":
    _become(sys.argv[1], sys.argv[2:])
