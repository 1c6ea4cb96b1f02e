"""What Dask is told."""

from __future__ import annotations

import os

import dask

QUIET = {"distributed.worker.profile.enabled": False, "distributed.admin.tick.interval": "1s"}
"""A worker and its scheduler else look a hundred times a second at what they do, and fifty times whether they
are late, for a dashboard that nobody opens: 5 % of a core beside a training, which waits for each thread."""


def forget_other_configuration() -> None:
    """Dask's own defaults, and nothing of what a site or a user has configured for other work.

    A memory of jobs there would go before the one of the cluster's file, and limits of workers end folds.
    How much Dask says of itself stays: a command chooses that in its environment.
    """
    said = {name: value for name, value in os.environ.items() if name.startswith("DASK_LOGGING")}
    dask.config.refresh(paths=[], env=said)
    # The flow decides what runs again, not Dask behind its back: the first lost worker is told.
    dask.config.set({"distributed.scheduler.allowed-failures": 0, **QUIET})
