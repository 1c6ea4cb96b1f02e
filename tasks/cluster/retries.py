"""Which failures are tried again: those that nobody needs to mend."""

from __future__ import annotations

import errno
from typing import Any

from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task, exponential_backoff

from tasks.errors import TransientError

TRANSIENT_ERRNOS = {errno.ESTALE, errno.EIO, errno.ETIMEDOUT, errno.EAGAIN, errno.EINTR}
"""What a network file system says when it hiccups."""


def only_transient(task: Task[Any, Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Retry a TransientError or a hiccup of the file system, and nothing else."""
    try:
        state.result(raise_on_failure=True)
    except TransientError:
        return True
    except OSError as error:
        return error.errno in TRANSIENT_ERRNOS
    except BaseException:
        return False
    return False


RETRIED: dict[str, Any] = {
    "retries": 3,
    "retry_delay_seconds": exponential_backoff(backoff_factor=2),
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": only_transient,
    # Idempotence belongs to the files, by digest: Prefect's cache keys ignore a file's content.
    "cache_policy": NO_CACHE,
}
"""Options of every task."""
