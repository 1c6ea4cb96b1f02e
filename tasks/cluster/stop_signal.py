"""What a Dask worker under Slurm loads first: SIGUSR1, sent before the walltime, asks to end in time.

Slurm sends it ``stop_before_s`` seconds before the job ends (sbatch(1), ``--signal``), and an
administrator may send it to clear a node. The training that runs ends with its epoch, or validated case, and
saves.
"""

from __future__ import annotations

import signal
from typing import Any

from tasks.processes.program import ask_to_stop


def dask_setup(_worker: Any) -> None:
    """Called by ``dask worker --preload``, in the main thread."""
    signal.signal(signal.SIGUSR1, lambda *_: ask_to_stop())
