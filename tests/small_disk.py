"""A disk that can be filled, for tests; mounting one needs root."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass
class Filler:
    """A file that takes all the room there is."""

    file: Path

    def write(self) -> None:
        room = os.statvfs(self.file.parent)
        with self.file.open("wb") as stream:
            os.posix_fallocate(stream.fileno(), 0, room.f_bavail * room.f_frsize)


@contextmanager
def small_disk(folder: Path, *, megabytes: int) -> Iterator[Filler]:
    """Mount a small disk at an empty folder; skipped where that is not allowed."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a small disk to fill")
    try:
        yield Filler(folder / "filler")
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
