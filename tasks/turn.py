"""One run at a time for a dataset, and what a run that was killed left behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterParentFlowRunId,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import ObjectNotFound
from prefect.logging import get_logger
from prefect.runtime import flow_run
from prefect.states import Crashed

from tasks.cluster.slurm_queue import fence
from tasks.ledger.lock import dataset_lock, leave_to_the_next
from tasks.ledger.paths import DatasetPaths
from tasks.settings.cluster import ClusterSettings
from tasks.settings.dataset import DatasetSettings
from tasks.versions import code_version, require_release

WHY = "its process was killed; the next run of the dataset found it so"
UNFINISHED = [
    StateType.RUNNING,
    StateType.PENDING,
    StateType.SCHEDULED,
    StateType.PAUSED,
    StateType.CANCELLING,
]


@contextmanager
def turn_of(
    paths: DatasetPaths, cluster: ClusterSettings | None = None, settings: DatasetSettings | None = None
) -> Iterator[None]:
    """Hold the dataset's lock while a flow works on it.

    Where a run before was killed, its jobs are cancelled and waited for, and its runs in the UI, which
    would be Running for ever, become Crashed.

    Parameters
    ----------
    cluster
        Where the flow's work runs, if it has any.
    settings
        The dataset's, where the flow's results are made by code that shall be known.

    Raises
    ------
    ConfigError
        Where only released code may run, and this is none.
    BusyError
        Where another run holds it.
    TransientError
        Where a job of the killed run does not end.
    """
    if settings is not None and settings.released_code_only:
        require_release()
    mine = flow_run.get_id()
    _record_commit(mine)
    jobs = cluster is not None and cluster.kind == "slurm"
    with dataset_lock(paths.lock_folder, {"flow_run": mine, "jobs": jobs}) as killed:
        if killed is not None:
            _bury(killed.get("flow_run"), mine)
            if killed.get("jobs"):
                try:
                    fence(paths)
                except BaseException:
                    leave_to_the_next(paths.lock_folder, killed)
                    raise
        yield


def _record_commit(flow_run_id: str | None) -> None:
    """Let the run in the UI say which code it ran."""
    if flow_run_id is None:
        return
    try:
        with get_client(sync_client=True) as client:
            client.update_flow_run_labels(UUID(flow_run_id), {"iterseg.code": code_version()})
    except Exception as error:  # what is shown is worth less than what is to be done
        get_logger(__name__).warning("the commit could not be shown: %s", type(error).__name__)


def _bury(flow_run_id: str | None, mine: str | None) -> None:
    """Mark a flow run, its parts, the flow it was a part of, and their tasks as crashed, if they are open.

    But not this very run, which may be the killed one, started again in the UI.
    """
    if flow_run_id is None:
        return
    try:
        with get_client(sync_client=True) as client:
            run = client.read_flow_run(UUID(flow_run_id))
            while run.parent_task_run_id is not None:
                parent: Any = client.read_task_run(run.parent_task_run_id)
                run = client.read_flow_run(parent.flow_run_id)
            _mark(client, run, mine)
    except ObjectNotFound:
        pass  # of another server
    except Exception as error:  # what is shown is worth less than what is to be done
        get_logger(__name__).warning("a killed run could not be marked: %s", type(error).__name__)


def _mark(client: SyncPrefectClient, run: FlowRun, mine: str | None) -> None:
    children = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[run.id]))
    for child in client.read_flow_runs(flow_run_filter=children):
        _mark(client, child, mine)
    unfinished = TaskRunFilter(state=TaskRunFilterState(type=TaskRunFilterStateType(any_=UNFINISHED)))
    of_run = FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))
    for task_run in client.read_task_runs(flow_run_filter=of_run, task_run_filter=unfinished):
        client.set_task_run_state(task_run.id, Crashed(message=WHY), force=True)
    if str(run.id) != mine and (run.state is None or not run.state.is_final()):
        client.set_flow_run_state(run.id, Crashed(message=WHY), force=True)
