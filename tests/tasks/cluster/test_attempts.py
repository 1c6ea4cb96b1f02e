"""What is tried again, how often, and what is not."""

from __future__ import annotations

import errno
import itertools
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from distributed import KilledWorker
from ended import BEGIN_TIMED_OUT, NOT_BEGUN, Ended
from prefect.logging import disable_run_logger

from tasks.cluster.attempts import BrokenError, LostError, Stopped, a_broken_node_takes_no_more, run_all
from tasks.errors import ConfigError, ExternalToolError, UserDataError

DONE = {"dice": 0.9}
LOST = KilledWorker("task", None, 0)
HANGS = TimeoutError("Task run 7 did not complete within 120 seconds")
KILLED = ExternalToolError("python -m fold", -9, Path("log"))
FAILED = ExternalToolError("python -m fold", 1, Path("log"))
BROKEN = BrokenError(FAILED, "w")
WRONG = UserDataError("the label is empty")


def stopped(epoch: int, validated: int = 0, *, budget_spent: bool = False) -> Stopped:
    return Stopped((epoch, validated), "w", budget_spent)


@pytest.fixture(autouse=True)
def crashed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[UUID]]:
    """The task runs that were marked as crashed."""
    marked: list[UUID] = []
    monkeypatch.setattr("tasks.cluster.attempts.BEGINS_AGAIN_S", 0)
    monkeypatch.setattr("tasks.cluster.attempts.mark_crashed", lambda run, _why: marked.append(run))
    with disable_run_logger():
        yield marked


def run(outcomes: list[Any], **limits: Any) -> tuple[Any, int]:
    """The outcome of a fold whose attempts end so, and how many there were."""
    left = list(outcomes)
    ((_, outcome),) = run_all({"fold-0": lambda _: Ended(left.pop(0))}, **{"attempts": 3, **limits})
    return outcome, len(outcomes) - len(left)


@pytest.mark.parametrize(
    ("outcomes", "attempts"),
    [
        ([DONE], 1),
        ([LOST, DONE], 2),
        ([LOST, KILLED, DONE], 3),
        ([stopped(3), stopped(6), stopped(9), stopped(12), DONE], 5),
        ([LOST, stopped(3), LOST, stopped(4), DONE], 5),
        ([stopped(4), stopped(9), stopped(9, 2), stopped(9, 3), stopped(9, 7), DONE], 6),
        ([BROKEN, DONE], 2),
        ([LOST, BROKEN, DONE], 3),
        ([NOT_BEGUN, LOST, DONE], 3),
    ],
)
def test_what_is_lost_or_told_to_stop_goes_on(outcomes: list[Any], attempts: int) -> None:
    assert run(outcomes) == (DONE, attempts)


@pytest.mark.parametrize(
    ("outcomes", "attempts", "kind", "words"),
    [
        ([LOST, LOST, LOST, DONE], 3, Exception, "its worker was lost, 3 times"),
        ([BEGIN_TIMED_OUT] * 3 + [DONE], 3, LostError, "could not be begun (TimeoutError: "),
        ([NOT_BEGUN] * 3 + [DONE], 3, LostError, "RuntimeError: Failed to reach API at http"),
        ([KILLED, KILLED, KILLED, DONE], 3, ExternalToolError, "signal 9"),
        ([FAILED, DONE], 1, ExternalToolError, "exit code 1"),
        ([BROKEN, BROKEN, DONE], 2, ExternalToolError, "exit code 1"),
        ([LOST, LOST, BROKEN, DONE], 3, ExternalToolError, "exit code 1"),
        ([WRONG, DONE], 1, UserDataError, "the label is empty"),
        ([stopped(0), stopped(0), stopped(0), stopped(0), DONE], 4, ConfigError, "raise `walltime`"),
        ([stopped(9, 2)] * 4 + [DONE], 4, ConfigError, "a case that is validated"),
    ],
)
def test_what_nobody_can_go_on_with_ends(
    outcomes: list[Any], attempts: int, kind: type[Exception], words: str
) -> None:
    outcome, count = run(outcomes)
    assert isinstance(outcome, kind)
    assert words in str(outcome)
    assert count == attempts


def test_a_worker_that_hangs_with_its_result_is_not_waited_for(crashed: list[UUID]) -> None:
    """Its process lives and its node does not answer: the scheduler knows that it is done, and no more."""
    assert run([HANGS, DONE]) == (DONE, 2)
    assert len(crashed) == 1


def test_those_that_could_not_be_begun_wait_once_for_all_and_not_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Eighty pieces that fail at once while the server restarts."""
    waited: list[float] = []
    monkeypatch.setattr("tasks.cluster.attempts.BEGINS_AGAIN_S", 15)
    monkeypatch.setattr("tasks.cluster.attempts.time.sleep", waited.append)
    left = {f"piece-{n}": [NOT_BEGUN, DONE] for n in range(80)}
    ended = dict(run_all({name: lambda _, n=name: Ended(left[n].pop(0)) for name in left}, 3))
    assert list(ended.values()) == [DONE] * 80
    assert waited == [15]


def counting() -> Callable[[Any], tuple[int, int]]:
    """Whoever asks finds that it has come further."""
    epochs = itertools.count()
    return lambda _: (0, next(epochs))


@pytest.mark.parametrize(
    ("outcomes", "most", "kind", "words"),
    [
        ([LOST], 1, LostError, "its worker was lost"),
        ([KILLED, KILLED], 2, ExternalToolError, "signal 9"),
        ([BROKEN], 1, ExternalToolError, "exit code 1"),
        ([stopped(0)], 1, ConfigError, "raise `walltime`"),
        ([stopped(30)], 1, ConfigError, "raise `walltime`"),  # where it was resumed
        ([stopped(30, budget_spent=True)], 9, ConfigError, "raise `gpu_hours`"),
        ([LOST, stopped(30, budget_spent=True)], 9, LostError, "its worker was lost"),
        # The next one waited in a queue till its share of the night was spent.
        ([KILLED, Stopped((0, 0), None, budget_spent=True)], 2, ExternalToolError, "signal 9"),
    ],
)
def test_a_spent_budget_does_not_hide_what_got_no_further(
    outcomes: list[Any], most: int, kind: type[Exception], words: str
) -> None:
    """Each night would end well, with no model and nobody told."""
    outcome, count = run(outcomes, most=most, how_far=lambda _: (0, 30))
    assert isinstance(outcome, kind)
    assert words in str(outcome)
    assert count == len(outcomes)


def test_a_spent_budget_leaves_the_rest_for_the_next_night() -> None:
    assert run([stopped(5, budget_spent=True), DONE], how_far=counting()) == (None, 1)
    assert run([stopped(5), DONE], most=1, how_far=counting()) == (None, 1)
    # What was gained before the last one was lost is no less for that.
    at_epoch = iter([0, 7, 7])
    assert run([LOST, KILLED], most=2, how_far=lambda _: (0, next(at_epoch))) == (None, 2)
    # It waited in the queue all night.
    assert run([Stopped((0, 0), None, budget_spent=True)]) == (None, 1)
    assert run([LOST, DONE], most=1, how_far=counting()) == (None, 1)
    assert run([BROKEN, DONE], most=1, how_far=counting()) == (None, 1)
    assert run([LOST, DONE], most=2) == (DONE, 2)
    begun: list[str] = []

    def begin(name: str) -> Ended:
        begun.append(name)
        return Ended(DONE)

    ended = dict(run_all({name: lambda _, n=name: begin(n) for name in "abc"}, 3, most=2))
    assert ended == {"a": DONE, "b": DONE, "c": None}
    assert begun == ["a", "b"]


class Cluster:
    """One of jobs that end: what it was asked to end."""

    logs_url = None

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.blamed: list[str] = []
        self.missed = 0

    def check(self) -> None: ...

    def queue_is_full(self) -> list[dict[str, str]]:
        return []

    def misses_jobs(self) -> bool:
        self.missed -= 1
        return self.missed >= 0

    def end_worker(self, name: str) -> None:
        self.ended.append(name)

    def blame(self, name: str) -> None:
        assert name not in self.ended, "whose node it was is known while it is there"
        self.blamed.append(name)


@pytest.mark.parametrize(
    ("outcomes", "ended"),
    [
        ([DONE], 0),
        ([LOST, DONE], 0),
        ([stopped(3), DONE], 1),
        ([stopped(3, budget_spent=True)], 1),  # others wait for the job in which it sits
        ([stopped(0), stopped(0), stopped(0), stopped(0)], 4),
        ([Stopped((0, 0), None, budget_spent=True)], 0),  # its share was spent before it began
    ],
)
def test_a_worker_that_takes_nothing_more_does_not_keep_its_job(
    monkeypatch: pytest.MonkeyPatch, outcomes: list[Any], ended: int
) -> None:
    """Else a night with fewer jobs than trainings stands still until the walltime."""
    cluster = Cluster()
    monkeypatch.setattr("tasks.cluster.attempts.cluster_of_this_flow", lambda: cluster)
    run(outcomes)
    assert cluster.ended == ["w"] * ended


@pytest.mark.parametrize(
    ("first", "for_ever", "looks"), [(LOST, False, 4), (LOST, True, None), (stopped(3), False, 0)]
)
def test_the_next_attempt_waits_until_it_is_known_how_the_last_job_ended(
    monkeypatch: pytest.MonkeyPatch, first: Any, for_ever: bool, looks: int | None
) -> None:
    """Its node may have to be avoided; of one that is dead nobody may hear for long."""
    cluster = Cluster()
    cluster.missed = 10**9 if for_ever else 3
    monkeypatch.setattr("tasks.cluster.attempts.cluster_of_this_flow", lambda: cluster)
    monkeypatch.setattr("tasks.cluster.asked.ACCOUNTED_S", 0.3)
    looked: list[int] = []
    monkeypatch.setattr(Cluster, "check", lambda _: looked.append(len(submitted)))
    outcomes, submitted = [first, DONE], []

    def submit(number: int) -> Ended:
        submitted.append(number)
        return Ended(outcomes[number - 1])

    assert dict(run_all({"a": submit}, 3)) == {"a": DONE}
    assert looked.count(1) == looks if looks is not None else looked.count(1) > 1


def test_a_budget_of_three_attempts_is_three_for_all_folds_together() -> None:
    left = {name: [stopped(3), DONE] for name in "ab"}
    submit = {name: lambda _, n=name: Ended(left[n].pop(0)) for name in "ab"}
    ended = dict(run_all(submit, 3, most=3, how_far=counting()))
    assert ended == {"a": DONE, "b": None}


def test_a_lost_worker_is_a_crashed_run_and_a_failed_program_is_not(crashed: list[UUID]) -> None:
    run([LOST, DONE])
    assert len(crashed) == 1
    run([KILLED, DONE])
    assert len(crashed) == 1


def test_a_node_on_which_a_fold_failed_is_given_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that has fallen off fails a fold in seconds, and is idle for the next one."""
    cluster = Cluster()
    monkeypatch.setattr("tasks.cluster.attempts.cluster_of_this_flow", lambda: cluster)
    assert run([BROKEN, DONE]) == (DONE, 2)
    assert (cluster.blamed, cluster.ended) == (["w"], ["w"])


def test_where_something_failed_is_known_on_the_other_side_of_a_process() -> None:
    there = pickle.loads(pickle.dumps(BROKEN))
    assert (there.worker, str(there), there.error.returncode) == ("w", str(FAILED), 1)


@pytest.mark.parametrize(
    ("ends", "come", "attempts", "done"),
    [
        pytest.param(LOST, [3, 9, 15, 40], 5, True, id="each got further than the one before"),
        pytest.param(LOST, [3, 9, 9, 9], 4, False, id="from the third on none did"),
        pytest.param(LOST, [9, 3, 3, 3], 3, False, id="fewer are no progress"),
        pytest.param(BROKEN, [3, 9, 15, 40], 5, True, id="a GPU that fails each other day"),
        pytest.param(BROKEN, [3, 3], 2, False, id="a fold that fails wherever it runs"),
    ],
)
def test_a_training_of_days_may_be_lost_now_and_then(
    ends: Any, come: list[int], attempts: int, done: bool
) -> None:
    """Three preemptions of a night are not three of a week."""
    left = iter([0, *come])
    outcome, count = run([*[ends] * len(come), DONE], how_far=lambda _: (0, next(left)))
    assert (outcome == DONE, count) == (done, attempts)


@pytest.mark.parametrize(
    ("error", "worker", "raised"),
    [
        (ExternalToolError("fold", 1, Path("log")), "w", BrokenError),
        (ConfigError("there is no GPU"), "w", BrokenError),
        (ExternalToolError("fold", 1, Path("log")), None, ExternalToolError),  # on this machine alone
        (ExternalToolError("fold", -9, Path("log")), "w", ExternalToolError),  # killed: it is lost
        (UserDataError("the label is empty"), "w", UserDataError),
    ],
)
def test_what_fails_in_a_job_may_be_the_fault_of_its_node(
    monkeypatch: pytest.MonkeyPatch, error: Exception, worker: str | None, raised: type[Exception]
) -> None:
    asked: list[str | None] = []
    monkeypatch.setattr("tasks.cluster.attempts.take_no_more", lambda: asked.append(worker) or worker)
    with pytest.raises(raised), a_broken_node_takes_no_more():
        raise error
    assert bool(asked) == (raised is BrokenError or worker is None)


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), BrokenError),  # perhaps the node's own
        (OSError(errno.ENOMEM, "Cannot allocate memory"), BrokenError),
        (OSError(errno.ESTALE, "Stale file handle"), OSError),  # passes, and is tried again where it was
        (ConfigError("features_per_stage is too long"), ConfigError),  # on every node
    ],
)
def test_a_node_may_have_its_own_disk_and_nobodys_choices(
    monkeypatch: pytest.MonkeyPatch, error: Exception, raised: type[Exception]
) -> None:
    monkeypatch.setattr("tasks.cluster.attempts.take_no_more", lambda: "w")
    with pytest.raises(raised, match=str(error.args[-1])), a_broken_node_takes_no_more(uses_device=False):
        raise error
