"""How work is divided."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import dask
import pytest
from distributed import Client
from distributed.security import Security

from tasks.cluster import runner
from tasks.cluster.dask_config import QUIET
from tasks.cluster.placement import gpu_of_this_worker, take_no_more
from tasks.cluster.runner import (
    chunks,
    converted_at_once,
    is_reachable_from_nodes,
    local_cluster,
    threads_per_worker,
    worker_count,
    worth_workers,
)
from tasks.settings.cluster import Allocation, ClusterSettings

CHECKOUT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("count", "workers", "sizes"),
    [(0, 2, []), (1, 2, [1]), (3, 2, [2, 1]), (8, 2, [4, 4]), (40, 2, [5] * 8), (1000, 4, [63] * 15 + [55])],
)
def test_chunks_fill_the_workers_and_are_worth_their_scheduling(
    count: int, workers: int, sizes: list[int]
) -> None:
    pieces = chunks(range(count), workers)
    assert [len(piece) for piece in pieces] == sizes
    assert [item for piece in pieces for item in piece] == list(range(count))


def test_workers_and_threads_do_not_exceed_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.cluster.runner.cores", lambda: 8)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert worker_count(ClusterSettings(), "train") == 8
    assert threads_per_worker(ClusterSettings(), "train") == 1
    assert threads_per_worker(ClusterSettings(workers=3), "train") == 2
    assert threads_per_worker(ClusterSettings(workers=3, cpus=1), "train") == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,3")
    assert [worker_count(ClusterSettings(), stage) for stage in ("train", "predict")] == [2, 2]
    assert worker_count(ClusterSettings(), "prepare") == 8, "no GPU is needed, and none is waited for"
    assert worker_count(ClusterSettings(stages={"prepare": {"workers": 8}}), "prepare") == 8


def test_a_machine_with_many_cores_prepares_no_more_cases_at_once_than_it_has_memory_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tasks.cluster.runner.cores", lambda: 64)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    for settings in (ClusterSettings(), ClusterSettings(cpus=16)):
        assert worker_count(settings, "prepare") * converted_at_once(settings) == 8


@pytest.mark.parametrize(
    ("cpus", "memory_gb", "cases"), [(8, 32, 8), (16, 32, 8), (8, 8, 2), (4, 2, 1), (1, 64, 1)]
)
def test_a_job_converts_what_it_has_cores_and_memory_for(cpus: int, memory_gb: int, cases: int) -> None:
    given: dict[str, Any] = {"kind": "slurm", "cpus": cpus, "memory_gb": memory_gb, "walltime": "1:00:00"}
    stages = {"prepare": {"workers": 4}, "predict": {"workers": 2}}
    assert converted_at_once(ClusterSettings(**given, stages=stages)) == cases


def test_a_job_uses_what_slurm_gives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not what the machine has on which the flow runs."""
    monkeypatch.setattr("tasks.cluster.runner.cores", lambda: 64)
    given = {"kind": "slurm", "cpus": 12, "memory_gb": 64, "walltime": "1:00:00"}
    stages = {"prepare": {"workers": 4, "cpus": 3}, "predict": {"workers": 2}}
    settings = ClusterSettings(**given, stages=stages)
    assert threads_per_worker(settings, "train") == 12
    assert threads_per_worker(settings, "prepare") == 3
    assert [worker_count(settings, stage) for stage in ("prepare", "train", "predict")] == [4, 1, 2]


def test_a_worker_has_one_thread_and_keeps_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """With Dask's own setting a conversion took half as long again, and a training twice as long."""
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    with local_cluster(Allocation(), 1, __name__) as cluster, Client(cluster) as client:
        given = client.submit(lambda: dict(os.environ)).result()
    assert given["OMP_NUM_THREADS"] == "1"
    assert "MALLOC_TRIM_THRESHOLD_" not in given


def test_workers_are_forks_of_one_process_that_has_imported_what_they_need(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each import of Prefect takes a second, for each worker of each stage. What is set since, they know."""

    def seen_by_a_worker() -> tuple[int, bool, str | None]:
        return os.getppid(), "prefect_dask" in sys.modules, os.environ.get("ASKED")

    parents = set()
    for answer in ("before", "after"):
        monkeypatch.setenv("ASKED", answer)
        with local_cluster(Allocation(), 2, "prefect_dask") as cluster, Client(cluster) as client:
            for worker in client.scheduler_info()["workers"]:
                parent, has_it, told = client.submit(seen_by_a_worker, workers=[worker], pure=False).result()
                parents.add(parent)
                assert has_it
                assert told == answer
    assert len(parents) == 1


def test_workers_start_where_temporary_files_have_a_long_path(tmp_path: Path) -> None:
    """Unix sockets take 107 bytes."""
    far = tmp_path / ("x" * 100)
    far.mkdir()
    assert seven(tmp_path, env={**os.environ, "TMPDIR": str(far)}) == "7\n"


@pytest.mark.parametrize("name", ["tasks", "distributed", "dask"])
def test_workers_import_nothing_from_the_folder_that_the_command_was_called_in(
    tmp_path: Path, name: str
) -> None:
    """Which may be another clone, or a delivery."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / f"{name}.py").write_text("import os; print('hijacked', flush=True); os._exit(1)")
    env = {**os.environ, "PYTHONPATH": str(CHECKOUT)}  # wherever the tests found it themselves
    assert seven(tmp_path, cwd=elsewhere, env=env) == "7\n"


def seven(tmp_path: Path, **where: Any) -> str:
    """What a worker says that a script has asked."""
    code = (
        "from distributed import Client; from tasks.cluster.runner import local_cluster\n"
        "from tasks.settings.cluster import Allocation\n"
        "if __name__ == '__main__':\n"
        "    with local_cluster(Allocation(), 1, 'tasks.labels') as cluster, Client(cluster) as client:\n"
        "        print(client.submit(int, '7').result())\n"
    )
    (tmp_path / "ask.py").write_text(code)
    run = [sys.executable, str(tmp_path / "ask.py")]
    done = subprocess.run(run, capture_output=True, text=True, check=False, timeout=60, **where)
    return done.stdout


def test_a_folder_that_takes_no_sockets_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    assert runner._sockets_can_be_bound()
    monkeypatch.setattr(runner.socket, "socket", lambda _: Refusing(refuse))
    assert not runner._sockets_can_be_bound()


class Refusing:
    """A socket on such a file system."""

    def __init__(self, bind: Any) -> None:
        self.bind = bind

    def __enter__(self) -> Refusing:
        return self

    def __exit__(self, *_: object) -> None: ...


def test_nobody_else_on_this_machine_can_give_workers_work() -> None:
    """They run what they are sent, as the user whose scans they read."""
    with local_cluster(Allocation(), 1, __name__) as cluster:
        addresses = [cluster.scheduler_address, *cluster.scheduler_info["workers"]]
        assert [address.split("://")[0] for address in addresses] == ["tls", "tls"]
        with pytest.raises((OSError, TimeoutError)), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Client(cluster.scheduler_address, timeout="2s", security=Security.temporary())


def test_a_worker_of_this_machine_is_not_sampled() -> None:
    """It is told what the flow was told."""
    with (
        dask.config.set(QUIET),
        local_cluster(Allocation(), 1, __name__) as cluster,
        Client(cluster) as client,
    ):
        told = [client.submit(dask.config.get, key).result(timeout=20) for key in QUIET]
    assert told == list(QUIET.values())


def test_a_worker_that_nobody_replaces_goes_on_after_a_training_that_was_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Though it is in a job, which somebody has begun by hand for the whole run."""
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    with local_cluster(Allocation(), 1, __name__) as cluster, Client(cluster) as client:
        client.submit(take_no_more).result(timeout=20)
        assert client.submit(lambda: 7).result(timeout=20) == 7


@pytest.mark.parametrize(
    ("url", "interface", "reachable"),
    [
        ("http://127.0.0.1:4200/api", None, False),
        ("http://localhost:4200/api", "ib0", False),
        ("http://[::1]:4200/api", None, False),
        ("http://0.0.0.0:4200/api", None, False),  # what a server listens on, and proposes
        ("http://[2001:db8::7]:4200/api", None, True),
        ("http://127.0.0.1:4200/api", "lo", True),
        ("http://login1:4200/api", None, True),
    ],
)
def test_a_loopback_address_means_another_machine_on_every_node(
    url: str, interface: str | None, reachable: bool
) -> None:
    job = {"workers": 1, "cpus": 1, "memory_gb": 1, "walltime": "1:00:00"}
    slurm = ClusterSettings.model_validate({"kind": "slurm", "interface": interface, **job})
    assert is_reachable_from_nodes(url, slurm) is reachable


def test_few_small_cases_are_not_worth_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.cluster.runner.WORTH_WORKERS_BYTES", 10)
    files = [tmp_path / "a", tmp_path / "b", tmp_path / "gone"]
    files[0].write_bytes(b"12345")
    files[1].write_bytes(b"12345")
    assert not worth_workers(files)
    files[1].write_bytes(b"123456")
    assert worth_workers(files)


def test_a_file_that_cannot_be_looked_at_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name may be a patient's, and an error here would go into the UI with it."""

    def refuse(self: Path, **_: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "stat", refuse)
    assert not worth_workers([Path("Doe^John.dcm")])


class Worker:
    def __init__(self, name: object) -> None:
        self.name = name


@pytest.mark.parametrize(
    ("visible", "name", "expected"),
    [
        ("0,3", 0, "0"),
        ("0,3", 1, "3"),
        ("0,3", 2, "0"),
        ("GPU-a,GPU-b", "1", "GPU-b"),
        ("5", 1, None),
        ("", 0, None),
    ],
)
def test_folds_are_spread_over_the_gpus(
    monkeypatch: pytest.MonkeyPatch, visible: str, name: object, expected: str | None
) -> None:
    """The original fixed GPUs to 0 and 2; all workers of a LocalCluster see the same ones."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr("distributed.get_worker", lambda: Worker(name))
    assert gpu_of_this_worker().get("CUDA_VISIBLE_DEVICES") == expected


def test_who_asks_for_the_worker_outside_of_one_does_not_load_dask() -> None:
    code = "import sys; from tasks.cluster.placement import this_worker; "
    code += "assert this_worker() is None; print('distributed' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
