"""What a cluster of jobs gives Dask to work with: a scheduler, and a job."""

from __future__ import annotations

from dask_jobqueue.slurm import SLURMJob
from distributed.core import Status
from distributed.scheduler import Scheduler, TaskState


class OneEach(Scheduler):  # type: ignore[misc]
    """A scheduler whose tasks wait until a worker is free.

    Dask would give a second task to a worker that has one, to save itself time; where the worker goes, the
    task that only waited would be lost with the one that ran.
    """

    def is_rootish(self, ts: TaskState) -> bool:
        """All tasks are alike: they are queued, with ``worker-saturation`` 1."""
        return True


class WatchedJob(SLURMJob):
    """A job that remembers what sbatch had against it: Dask takes one without an id for one that waits."""

    refused: list[str]

    async def start(self) -> None:
        """Submit it."""
        try:
            await super().start()  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            self.refused.append(str(error).split("stderr:\n")[-1].strip())
            self.status = Status.failed
            raise

    async def close(self) -> None:
        """Cancel it."""
        await super().close()  # type: ignore[no-untyped-call]
        # dask-jobqueue leaves it running, and the cluster's own end stumbles over that.
        self.status = Status.closed
