"""Work in pieces: each is a task run, many run at once, and the results come in the order of the pieces."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any, TypeVar, cast

from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from prefect.tasks import Task
from prefect.utilities.annotations import quote

from tasks.cluster.attempts import run_all
from tasks.shown.artifacts import artifact_key, progress_artifact
from tasks.shown.progress import progress

Key = TypeVar("Key")
Piece = TypeVar("Piece")
Value = TypeVar("Value")
SHOW_EVERY_S = 5.0


def opaque(value: Value) -> Value:
    """A large argument of a task: Prefect else looks for results of other tasks in every part of it.

    For 1,000 cases that took 0.3 s an argument.
    """
    return cast(Value, quote(value))


def run_chunks(
    task: Task[Any, Any],
    pieces: Sequence[Piece],
    arguments: Callable[[int, Piece], tuple[Any, ...]],
    what: str,
    attempts: int,
    *,
    here: bool = False,
    shown: bool = False,
) -> list[Any]:
    """Run a task for each piece of some cases; its results in the order of the pieces.

    Parameters
    ----------
    arguments
        From a piece's number (from 1) and the piece to the arguments of the task.
    here
        In this process, one after another: for less work than the start of a worker.
    shown
        Whether the UI shows how many are done of those that run here; of workers' it always does.

    Raises
    ------
    Exception
        What ended a piece, whatever it is.
    """
    numbered = dict(enumerate(pieces, start=1))
    if here:
        show = _shown_pieces(what, len(numbered)) if shown and numbered else lambda _: None
        results = []
        for number, piece in numbered.items():
            results.append(task(*arguments(number, piece)))
            show(number)
        return results
    submit = {
        f"{what}-{number}": submitting(task, f"{what}-{number}", arguments(number, piece))
        for number, piece in numbered.items()
    }
    return list(successes(submit, attempts, what).values())


def run_one(task: Task[Any, Any], name: str, arguments: tuple[Any, ...], attempts: int) -> Any:
    """Run a single task, which shows by itself how far it is; its result, or raises what ended it."""
    with closing(run_all({name: submitting(task, name, arguments)}, attempts)) as outcomes:
        ((_, outcome),) = outcomes
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def successes(
    submit: Mapping[Key, Callable[[int], PrefectFuture[Any]]], attempts: int, what: str
) -> dict[Key, Any]:
    """The results of :func:`run_all`, in the order of ``submit``; raises what ended the first that failed."""
    if not submit:
        return {}
    found: dict[Key, Any] = {}
    show = _shown_pieces(what, len(submit))
    # Closed at once: those that still run are marked while there is a cluster to ask.
    with closing(run_all(submit, attempts)) as outcomes:
        for key, outcome in progress(outcomes, what, total=len(submit)):
            if isinstance(outcome, Exception):
                raise outcome
            found[key] = outcome
            show(len(found))
    return {key: found[key] for key in submit}


def _shown_pieces(what: str, total: int) -> Callable[[int], None]:
    """Show in the UI how many pieces are done, and how long the others may take."""
    show = progress_artifact(artifact_key("progress", what, str(flow_run.parameters.get("dataset_id"))))
    began = time.monotonic()
    last = -math.inf

    def pieces_done(done: int) -> None:
        nonlocal last
        now = time.monotonic()
        if done < total and now - last < SHOW_EVERY_S:
            return
        last = now
        left_min = (now - began) * (total - done) / done / 60 if done else 0.0
        left = f", about {math.ceil(left_min)} min left" if left_min else ""
        show(100.0 * done / total, f"{what}: {done} of {total} pieces{left}")

    pieces_done(0)
    return pieces_done


def submitting(
    task: Task[Any, Any], name: str, arguments: tuple[Any, ...]
) -> Callable[[int], PrefectFuture[Any]]:
    """What submits an attempt of a task under a name that says which attempt it is."""
    # Dask takes the wrapper of a large argument for a tuple.
    plain = tuple(value.unquote() if isinstance(value, quote) else value for value in arguments)

    def submit(attempt: int) -> PrefectFuture[Any]:
        called = name if attempt == 1 else f"{name}-attempt-{attempt}"
        return task.with_options(task_run_name=called).submit(*plain)

    return submit
