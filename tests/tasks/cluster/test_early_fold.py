"""In a Slurm job a program imports what a training needs while the job's worker still connects."""

from __future__ import annotations

from collections.abc import Iterator

import psutil
import pytest
from tests_support import wait_until

from tasks.cluster.early_fold import dask_setup, dask_teardown


def waiting() -> list[psutil.Process]:
    return [p for p in psutil.Process().children() if "tasks.nnunet.fold" in p.cmdline()]


@pytest.fixture(autouse=True)
def _gone_afterwards() -> Iterator[None]:
    yield
    dask_teardown(None)


def test_it_begins_with_the_worker_and_ends_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")
    dask_setup(None)
    # A moment after it began the system does not know its command yet.
    wait_until(lambda: bool(waiting()), 30)
    (program,) = waiting()
    assert program.environ()["OMP_NUM_THREADS"] == "3"
    dask_teardown(None)
    assert not program.is_running()


def test_where_slurm_does_not_say_how_many_threads_none_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    dask_setup(None)
    assert waiting() == []
