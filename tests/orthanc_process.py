"""What `dicom_network` starts in a network namespace of its own, before it is Orthanc."""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import signal
import socket
import struct
import sys


def become_orthanc(configuration: str, parent: str) -> None:
    """In the new namespace: bring loopback up, be killed with the tests, become Orthanc."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != int(parent):
        sys.exit(1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        # SIOCSIFFLAGS with IFF_UP | IFF_RUNNING: as `ip link set lo up`, which may not be installed.
        fcntl.ioctl(handle, 0x8914, struct.pack("16sH14x", b"lo", 0x1 | 0x40))
    program = shutil.which("Orthanc", path="/usr/sbin:/usr/bin:/usr/local/bin")
    assert program is not None
    os.execv(program, [program, configuration])


if __name__ == "__main__":
    become_orthanc(sys.argv[1], sys.argv[2])
