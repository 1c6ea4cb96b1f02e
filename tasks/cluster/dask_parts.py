"""What a cluster of jobs gives Dask to work with: a scheduler, and a job."""

from __future__ import annotations

import asyncio
import shlex

from dask_jobqueue.slurm import SLURMJob
from distributed.core import Status
from distributed.scheduler import Scheduler, TaskState

from tasks.cluster.slurm_queue import CONTROLLER_IS_AWAY, HERE_AND_NOW

CANCEL_TRIES = 3
"""A job that is not cancelled keeps its GPU, where its worker hangs, until its walltime."""
CANCEL_AGAIN_S = 2.0


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
            self._is_refused(str(error).split("stderr:\n")[-1].strip())
            raise
        except OSError as error:  # no process can be begun, or the script has no room in the temporary folder
            self._is_refused(f"sbatch {HERE_AND_NOW}: {error.strerror}")
            raise
        except ValueError as error:  # it has answered, and without the number of a job
            self._is_refused(" ".join(str(error).split()))
            raise

    def _is_refused(self, words: str) -> None:
        self.refused.append(words)
        self.status = Status.failed

    async def close(self) -> None:
        """Cancel it."""
        await super().close()  # type: ignore[no-untyped-call]
        # dask-jobqueue leaves it running, and the cluster's own end stumbles over that.
        self.status = Status.closed

    @classmethod
    async def _close_job(cls, job_id: str | None, cancel_command: str) -> None:
        """Cancel a job; dask-jobqueue would try it once, and pass over what scancel says."""
        for left in reversed(range(CANCEL_TRIES if job_id else 0)):
            try:
                await cls._call([*shlex.split(cancel_command), job_id])  # type: ignore[no-untyped-call]
                return
            except RuntimeError as error:
                if not any(known in str(error) for known in CONTROLLER_IS_AWAY):
                    return  # it is gone
            except OSError:  # no process can be begun
                pass
            if left:
                await asyncio.sleep(CANCEL_AGAIN_S)
