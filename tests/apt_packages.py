"""Debian packages that some tests need: installed where that is allowed, else one visible line."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest


def require_packages(what: str, packages: Sequence[str], program: str | None = None) -> None:
    """Install packages unless their program is there, or skip the test."""
    if program is not None and shutil.which(program):
        return
    if os.geteuid() != 0 and subprocess.run(["sudo", "-n", "true"], check=False).returncode != 0:
        pytest.skip(f"{what} is not installed, and this user may not install it")
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    install = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    with (Path(tempfile.gettempdir()) / "iterseg-tests-apt.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)  # apt waits for nobody, and tests may run side by side
        for command in (["apt-get", "update"], install):
            done = subprocess.run([*sudo, *command], capture_output=True, check=False)
            if done.returncode != 0:
                pytest.skip(f"{what} cannot be installed: {' '.join(command)} failed")
