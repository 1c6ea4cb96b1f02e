"""A task that has ended, as what fans tasks out sees it."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from distributed import KilledWorker

NOT_BEGUN = RuntimeError("Failed to reach API at http://login1:4200/api/")
"""What Dask says of a task that Prefect could not begin on a worker."""

BEGIN_TIMED_OUT = TimeoutError(110, "Connection timed out")
"""The same of a disk that was away; Dask raises what a worker raised."""


class Ended:
    """The future of a task that ended with a result or with an exception, or whose worker was lost."""

    def __init__(self, outcome: Any) -> None:
        self.outcome, self.task_run_id, self.wrapped_future = outcome, uuid4(), self
        self.status = "error" if outcome is BEGIN_TIMED_OUT else "finished"

    def done(self) -> bool:
        return True

    def release(self) -> None:
        pass

    def result(self, timeout: float, *, raise_on_failure: bool) -> Any:
        assert timeout and not raise_on_failure
        if isinstance(self.outcome, KilledWorker | TimeoutError) or self.outcome is NOT_BEGUN:
            raise self.outcome
        return self.outcome
