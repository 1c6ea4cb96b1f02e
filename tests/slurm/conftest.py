from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from private_slurm import PrivateSlurm, require_slurm
from slurm_lab import SlurmLab, new_lab
from tests_support import PrefectServer


@pytest.fixture(scope="session")
def slurm() -> Iterator[PrivateSlurm]:
    """A real Slurm with two nodes of one (fake) GPU each."""
    require_slurm()
    with PrivateSlurm(nodes=2) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def server_of_nights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """A server that no other file asks: a run that a failed test has left there is in nobody else's way."""
    with PrefectServer(tmp_path_factory.mktemp("prefect-of-nights")) as server:
        yield server


@pytest.fixture(scope="session")
def prepared(
    tmp_path_factory: pytest.TempPathFactory, slurm: PrivateSlurm, prefect_server: PrefectServer
) -> SlurmLab:
    """A lab whose first iteration is prepared, by jobs, and waits for training."""
    lab = new_lab(tmp_path_factory.mktemp("prepared") / "home", slurm, prefect_server)
    done = lab.run("prepare")
    assert done.returncode == 0, done.stderr
    return lab


@pytest.fixture
def lab(prepared: SlurmLab, tmp_path: Path, slurm: PrivateSlurm) -> Iterator[SlurmLab]:
    """A copy of the prepared lab, on a cluster that is idle before and after."""
    copy = prepared.copy(tmp_path / "home")
    slurm.settle()
    yield copy
    copy.end()
    slurm.settle()
