"""What a Dask worker of the stage ``train`` loads: the training's imports begin while it still connects."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Any

from tasks.nnunet.fold import imported_early

_waits = ExitStack()


def dask_setup(_worker: Any) -> None:
    """Called by ``dask worker --preload``: a program waits for the fold that this job is for."""
    cpus = os.environ.get("SLURM_CPUS_PER_TASK", "")
    if cpus.isdigit():  # as many threads as the fold is given; with others it would be of no use
        _waits.enter_context(imported_early(int(cpus)))


def dask_teardown(_worker: Any) -> None:
    """Called when the worker ends: a program that got no fold ends, too."""
    _waits.close()
