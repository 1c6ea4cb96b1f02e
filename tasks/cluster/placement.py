"""What this process may use of the machine: cores and GPUs."""

from __future__ import annotations

import os


def cores() -> int:
    """The CPU cores this process may use, which on a cluster is the allocation, not the node."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> list[str]:
    """The GPUs this process may use, by number or UUID, without importing torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [part.strip() for part in visible.split(",") if part.strip() not in ("", "-1")]
    try:
        return [str(number) for number, _ in enumerate(os.listdir("/proc/driver/nvidia/gpus"))]
    except OSError:
        return []


def gpu_of_this_worker() -> dict[str, str]:
    """The environment that gives a program the GPU of its Dask worker.

    Workers of a ``LocalCluster`` are named 0, 1, … and see all GPUs of the machine; without this every
    fold would train on the first. A worker with one GPU, as under Slurm, keeps what it was given.
    """
    available = gpus()
    name = this_worker()
    # One whose name is no number is a job with one GPU, or no worker at all.
    if len(available) < 2 or name is None or not name.isdigit():
        return {}
    number = int(name)
    return {"CUDA_VISIBLE_DEVICES": available[number % len(available)]}


def take_no_more() -> None:
    """Give this job's worker no other task: it is about to be ended.

    Called from a task, before it returns: the scheduler hears of it before it hears of the result, and
    cannot begin in between what would be killed.
    """
    from distributed import get_worker
    from distributed.core import Status

    if "SLURM_JOB_ID" not in os.environ:
        return
    worker = get_worker()
    worker.loop.add_callback(setattr, worker, "status", Status.closing_gracefully)


def this_worker() -> str | None:
    """The name of the Dask worker in which this runs; None outside."""
    from distributed import get_worker

    try:
        return str(get_worker().name)
    except ValueError:
        return None
