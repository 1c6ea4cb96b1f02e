"""What is made of Slurm's commands where they cannot be started, or do not answer."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from tasks.cluster.slurm_queue import queued, refusal
from tasks.errors import ConfigError, TransientError

FULL = BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
"""What fork(2) says at a user's limit of processes, as login nodes have one."""


@pytest.mark.parametrize("ask", [lambda: queued("iterseg-x"), lambda: refusal("#!/bin/bash")])
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (FULL, "could not be started on this machine: Resource temporarily unavailable"),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), "Cannot allocate memory"),
        (subprocess.TimeoutExpired("squeue", 60), "does not answer"),
    ],
)
def test_what_passes_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, ask: Callable[[], Any], error: Exception, words: str
) -> None:
    def run(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("tasks.cluster.slurm_queue.subprocess.run", run)
    with pytest.raises(TransientError, match=words):
        ask()


def test_a_machine_without_slurm_is_no_matter_of_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigError, match="there is no squeue on this machine"):
        queued("iterseg-x")
    assert "there is no sbatch" in str(refusal("#!/bin/bash"))
