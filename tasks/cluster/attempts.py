"""Work that is fanned out: the flow, not Dask, decides what runs again, and how often.

Dask would run a task again behind Prefect's back whose worker was lost, up to four times, while the UI
still shows the first run. Here the first loss ends an attempt, which becomes a crashed task run, and the
next attempt is a task run of its own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectHTTPStatusError
from prefect.futures import PrefectFuture
from prefect.logging import get_run_logger
from prefect.states import Crashed

from tasks.cluster.asked import cluster_of_this_flow, hear_of_the_lost, show_queue
from tasks.cluster.placement import take_no_more
from tasks.cluster.retries import TRANSIENT_ERRNOS
from tasks.errors import ConfigError, ExternalToolError, IterSegError

Key = TypeVar("Key")
LOOK_EVERY_S = 0.1
BEGINS_AGAIN_S = 15.0
RESULT_S = 120.0
"""For the result of a task that is done, which lies with its worker: one that hangs is not waited for."""
SHOWN_LETTERS = 200
NOT_FOUND = 404
SHARE_TOO_SMALL = (
    "its share of `gpu_hours` ends before an epoch, or a case that is validated, does; raise `gpu_hours`"
)
MARK_TRIES = 5
"""A server on SQLite is too busy now and then when a worker was lost and everything is said at once."""


@dataclass
class _Attempt:
    number: int
    future: PrefectFuture[Any]
    failures: int = 0
    reached: tuple[int, int] = (-1, 0)
    elsewhere: bool = False
    """Whether an earlier attempt failed, and its worker was not lost: this one runs on another worker."""
    noted: tuple[int, int] = (-1, 0)
    """How far the work had come when the last one was lost, or before the first."""
    further: bool = False
    """Whether it, or one before, got further."""
    failure: Exception | None = None
    """What ended the attempt before."""


@dataclass(frozen=True)
class Stopped:
    """What a task returns that was told to stop, and has saved what it did for an attempt that goes on."""

    reached: tuple[int, int]
    """How far it got: epochs that are trained, and then cases that are validated."""
    worker: str | None
    """Where it ran: that worker takes nothing more and must be ended. None where it goes on."""
    budget_spent: bool
    """Whether there is nothing left for an attempt that would go on."""


class LostError(IterSegError):
    """The worker of a task is gone, with its job or its machine."""


class NotBegunError(LostError):
    """The worker of a task has not begun it: Prefect's server or a disk did not answer."""


class BrokenError(IterSegError):
    """A program failed on a worker that takes nothing more: its node or GPU may be broken.

    Such a node fails in seconds what it is given, and is idle again: it would be given everything.
    """

    def __init__(self, error: IterSegError, worker: str) -> None:
        super().__init__(str(error))
        self.error, self.worker = error, worker

    def __reduce__(self) -> tuple[type[BrokenError], tuple[IterSegError, str]]:
        return type(self), (self.error, self.worker)


@contextmanager
def a_broken_node_takes_no_more(*, uses_device: bool = True) -> Iterator[None]:
    """Around a program of a task: what fails in a job of its own may do better in another one's.

    Unless the data are at fault, or it was killed: then the node was well. A disk or a memory that is full
    may be the node's own; what passes by itself is tried again where it was.

    Parameters
    ----------
    uses_device
        Whether a wrong choice may be the node's fault, which lacks the GPU that was chosen.
    """
    try:
        yield
    except (ExternalToolError, ConfigError) as error:
        killed = isinstance(error, ExternalToolError) and error.returncode < 0
        chosen = isinstance(error, ConfigError) and not uses_device
        worker = None if killed or chosen else take_no_more()
        if worker is None:
            raise
        raise BrokenError(error, worker) from error
    except OSError as error:
        passing = error.errno is None or error.errno in TRANSIENT_ERRNOS
        worker = None if passing else take_no_more()
        if worker is None:
            raise
        raise BrokenError(IterSegError(str(error)), worker) from error


def run_all(
    submit: Mapping[Key, Callable[[int], PrefectFuture[Any]]],
    attempts: int,
    most: int | None = None,
    how_far: Callable[[Key], tuple[int, int]] = lambda _: (-1, 0),
) -> Generator[tuple[Key, Any], None, None]:
    """Run tasks at the same time, and again where a worker or a program was lost.

    Parameters
    ----------
    submit
        For each piece of work a function that submits an attempt, given its number (1, 2, …).
    attempts
        How often a piece of work may be lost, or fail where a node may be to blame, which is tried once more
        elsewhere. An attempt that was told to stop and got further than the one before is none of them, and
        one that was lost, or failed, and got further is the first again: a training of days is lost now and
        then.
    most
        How many attempts there may be in all; what would need more is left as it is, unless it got no
        further: a fold that fails each night must not pass for one that waits for the next.
    how_far
        How far a piece of work that was lost had come: numbers that grow.

    Yields
    ------
    As each piece of work ends, its key with its result, or with the exception that ended it; what was
    left, with None.

    Raises
    ------
    IterSegError
        Where the cluster can start no worker any more.
    """
    begun = list(submit)[:most]
    running = {key: _Attempt(1, submit[key](1), noted=how_far(key)) for key in begun}
    left = math.inf if most is None else most - len(begun)
    yield from ((key, None) for key in submit if key not in running)
    cluster = cluster_of_this_flow()
    try:
        while running:
            ended = [key for key, attempt in running.items() if _done(attempt.future)]
            if not ended:
                show_queue(cluster)
                time.sleep(LOOK_EVERY_S)
            outcomes = {key: _outcome(running[key].future) for key in ended}
            _let_it_pass(cluster, outcomes.values())
            for key, outcome in outcomes.items():
                attempt = running.pop(key)
                if isinstance(outcome, Stopped) and outcome.worker is not None:
                    # Whatever follows: it takes nothing more, and while it lives nobody gets its job.
                    cluster.end_worker(outcome.worker)
                if isinstance(outcome, BrokenError):
                    cluster.blame(outcome.worker)
                    cluster.end_worker(outcome.worker)
                _note_how_far(attempt, outcome, partial(how_far, key))
                following = _next(attempt, outcome, attempts, str(key))
                if following is None or left < 1:
                    yield key, _final(attempt, outcome, for_good=following is None)
                    continue
                left -= 1
                following.failure = _failure(attempt, outcome)
                following.future = submit[key](following.number)
                running[key] = following
    finally:
        for attempt in running.values():
            if not _done(attempt.future):
                mark_crashed(attempt.future.task_run_id, "the flow ended before it")


def _next(attempt: _Attempt, outcome: Any, attempts: int, what: str) -> _Attempt | None:
    """The attempt that follows, without its future yet; None where the outcome is final."""
    failures, reached, elsewhere = attempt.failures, attempt.reached, attempt.elsewhere
    if isinstance(outcome, Stopped):
        if outcome.budget_spent:
            return None
        failures += outcome.reached <= reached
        reached = outcome.reached
        why = f"stopped after {reached[0]} epochs"
        why += f" and {reached[1]} validated cases" if reached[1] else ""
    elif _lost(outcome):
        failures += 1
        why = str(outcome)
    elif isinstance(outcome, BrokenError) and not elsewhere:
        failures, elsewhere = failures + 1, True
        why = f"{outcome} (on {outcome.worker}; another worker tries it)"
    else:
        return None
    if failures >= attempts:
        return None
    get_run_logger().warning("%s, attempt %s: %s; it goes on", what, attempt.number, why)
    noted = attempt.noted, attempt.further
    return _Attempt(attempt.number + 1, attempt.future, failures, reached, elsewhere, *noted)


def _note_how_far(attempt: _Attempt, outcome: Any, how_far: Callable[[], tuple[int, int]]) -> None:
    """One that got further before it was lost, failed or stopped forgets the losses before it."""
    stopped = isinstance(outcome, Stopped)
    if not stopped and not _lost(outcome) and not isinstance(outcome, BrokenError):
        return
    if (come := how_far()) > attempt.noted:
        attempt.noted, attempt.further = come, True
        if not stopped:  # :func:`_next` counts by what it reached
            attempt.failures, attempt.elsewhere = 0, False


def _final(attempt: _Attempt, outcome: Any, *, for_good: bool) -> Any:
    """The outcome of the last attempt; None for what waits for the next night and got further in this."""
    if isinstance(outcome, Stopped) and outcome.budget_spent:
        within = None if outcome.worker is None else ConfigError(SHARE_TOO_SMALL)
        return None if attempt.further else attempt.failure or within
    return _failure(attempt, outcome) if for_good or not attempt.further else None


def _failure(attempt: _Attempt, outcome: Any) -> Any:
    """An outcome in words that say what to do."""
    if isinstance(outcome, Stopped):
        return ConfigError(
            "a job ends before an epoch, or a case that is validated, does; raise `walltime` (or lower "
            "`stop_before_s`) in config/clusters/"
        )
    if isinstance(outcome, BrokenError):
        return outcome.error
    if isinstance(outcome, LostError):
        return LostError(f"{outcome}, {attempt.number} times; the logs of the jobs tell more")
    return outcome


def _lost(outcome: Any) -> bool:
    """Whether nobody's data or choices are at fault: a worker is gone, or a program was killed."""
    return isinstance(outcome, LostError) or (
        isinstance(outcome, ExternalToolError) and outcome.returncode < 0
    )


def _done(future: PrefectFuture[Any]) -> bool:
    return bool(future.wrapped_future.done())  # type: ignore[attr-defined]


def _outcome(future: PrefectFuture[Any]) -> Any:
    """The result of a task, or the exception that ended it; a lost worker is one of them.

    A worker that cannot reach Prefect's server begins no task: that costs an attempt, and not what runs.
    """
    from distributed import (
        KilledWorker,  # late, as the task runner: where nothing was submitted nobody needs it
    )

    try:
        outcome = future.result(timeout=RESULT_S, raise_on_failure=False)
    except KilledWorker:
        outcome = LostError("its worker was lost")
        mark_crashed(future.task_run_id, "its worker was lost, with its job or its machine")
    except Exception as error:  # not of the task, whose own are in its state: of how it was begun
        if isinstance(error, TimeoutError) and future.wrapped_future.status != "error":  # type: ignore[attr-defined]
            outcome = LostError("its worker is done and does not hand its result over")
        else:
            words = (str(error).splitlines() or [""])[0][:SHOWN_LETTERS]
            outcome = NotBegunError(f"it could not be begun ({type(error).__name__}: {words})")
        mark_crashed(future.task_run_id, str(outcome))
    # Dask would compute a finished task again whose worker goes while somebody holds its result.
    future.wrapped_future.release()  # type: ignore[attr-defined]
    return outcome


def mark_crashed(task_run_id: UUID, why: str) -> None:
    """Say in the UI that a task run is over whose worker can no longer say so."""
    for left in reversed(range(MARK_TRIES)):
        try:
            with get_client(sync_client=True) as client:
                client.set_task_run_state(task_run_id, Crashed(message=why), force=True)
            return
        except Exception as error:  # the server is busy or away: what runs is worth more than what is shown
            unknown = isinstance(error, PrefectHTTPStatusError) and error.response.status_code == NOT_FOUND
            # One that no worker began, or could tell of before it was lost, is not in the UI at all.
            silent = isinstance(error, httpx.TimeoutException)
            if (silent or not left) and not unknown:
                words = (str(error).splitlines() or [type(error).__name__])[0]
                get_run_logger().warning("a lost task could not be marked: %s", words)
            if silent:  # for minutes, as it is with Prefect's own tries
                return
            time.sleep(LOOK_EVERY_S)


def _let_it_pass(cluster: Any, outcomes: Iterable[Any]) -> None:
    """Wait for what would be the end of the next attempts too."""
    found = list(outcomes)
    if any(isinstance(outcome, NotBegunError) for outcome in found):
        time.sleep(BEGINS_AGAIN_S)  # Prefect's server restarts, or a disk is away
    if any(map(_lost, found)):
        hear_of_the_lost(cluster)
