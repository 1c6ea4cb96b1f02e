"""What this process may use of the machine: cores and GPUs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

DRIVER, DEVICES = Path("/proc/driver/nvidia/gpus"), Path("/dev")
WINDOWS_CUDA = Path("/usr/lib/wsl/lib/libcuda.so.1")
"""Beside a device that Windows shows for the GPUs of any maker."""


def cores() -> int:
    """The CPU cores this process may use, which on a cluster is the allocation, not the node."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> list[str]:
    """The GPUs this process may use, by number or UUID, without importing torch.

    The driver lists them below ``/proc``, which some containers do not see; their devices they see. Under
    Windows (WSL 2) there is one device for all of them, and one is taken to be there.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [part.strip() for part in visible.split(",") if part.strip() not in ("", "-1")]
    listed = len(list(DRIVER.glob("*"))) or len(list(DEVICES.glob("nvidia[0-9]*")))
    listed = listed or int((DEVICES / "dxg").exists() and WINDOWS_CUDA.exists())
    return [str(number) for number in range(listed)]


def gpu_of_this_worker() -> dict[str, str]:
    """The environment that gives a program the GPU of its Dask worker.

    Workers of a ``LocalCluster`` are named 0, 1, … and see all GPUs of the machine; without this every
    fold would train on the first. A worker with one GPU, as under Slurm, keeps what it was given.
    """
    available, number = gpus(), _number_on_this_machine()
    if len(available) < 2 or number is None:
        return {}
    return {"CUDA_VISIBLE_DEVICES": available[number % len(available)]}


def take_no_more() -> str | None:
    """Give this job's worker no other task: it is about to be ended. Its name; None where it goes on.

    Called from a task, before it returns: the scheduler hears of it before it hears of the result, and
    cannot begin in between what would be killed. A worker of a ``LocalCluster``, though it be in a job that
    somebody has begun by hand, is replaced by nobody and goes on.
    """
    from distributed import get_worker
    from distributed.core import Status

    if this_worker() is None or _number_on_this_machine() is not None:
        return None
    worker = get_worker()
    worker.loop.add_callback(setattr, worker, "status", Status.closing_gracefully)
    return str(worker.name)


def _number_on_this_machine() -> int | None:
    """Which worker of a ``LocalCluster`` this is; None in a job of its own, and outside of workers."""
    name = this_worker()
    return int(name) if name is not None and name.isdigit() else None


def this_worker() -> str | None:
    """The name of the Dask worker in which this runs; None outside."""
    if "distributed" not in sys.modules:  # every worker has imported it, and it takes a quarter of a second
        return None
    from distributed import get_worker

    try:
        return str(get_worker().name)
    except ValueError:
        return None
