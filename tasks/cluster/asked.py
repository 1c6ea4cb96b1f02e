"""What a flow asks the cluster that it runs on, whichever that is."""

from __future__ import annotations

import time
from typing import Any

from prefect.context import FlowRunContext
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from tasks.shown.artifacts import show_jobs
from tasks.shown.events import tell_event

LOOK_EVERY_S = 0.1
ACCOUNTED_S = 12.0
"""In which Slurm tells what became of a job whose worker is gone: others are kept away from its node then."""


def show_queue(cluster: Any) -> None:
    """A task that waits for its job is not in the UI: the flow's table of jobs is."""
    jobs, waiting = cluster.check(), cluster.queue_is_full()
    dataset_id = str(flow_run.parameters.get("dataset_id"))
    try:
        if jobs is not None:
            show_jobs(dataset_id, jobs, cluster.logs_url)
        if waiting:
            reason = waiting[0]["reason"]
            tell_event("iterseg.queue.full", dataset_id, waiting=len(waiting), reason=reason)
    except Exception as error:  # the server is away: what runs goes on
        get_run_logger().warning("the jobs could not be shown: %s", type(error).__name__)


def hear_of_the_lost(cluster: Any) -> None:
    """Else the next attempt would be on the node that has killed the last one, which is idle again."""
    deadline = time.monotonic() + ACCOUNTED_S
    show_queue(cluster)
    while cluster.misses_jobs() and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY_S)
        show_queue(cluster)


class Everlasting:
    """A cluster whose workers nobody takes away."""

    logs_url = None

    def check(self) -> None:
        """Nothing changes."""

    def queue_is_full(self) -> list[dict[str, str]]:
        """There is no queue."""
        return []

    def misses_jobs(self) -> bool:
        """There are none."""
        return False

    def end_worker(self, name: str) -> None:
        """Nobody ends it early."""

    def blame(self, name: str) -> None:
        """There is no other machine."""


def cluster_of_this_flow() -> Any:
    """The cluster of the flow that runs here, if it wants to be asked."""
    context = FlowRunContext.get()
    cluster = getattr(context.task_runner, "_cluster", None) if context else None
    return cluster if hasattr(cluster, "check") else Everlasting()
