"""What Dask does beside the work: nothing that nobody reads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.cluster.dask_config import QUIET
from tasks.doctor.jobs import scripts
from tasks.ledger.paths import DatasetPaths
from tasks.settings.cluster import ClusterSettings

ASKED = f"import dask, distributed; print([dask.config.get(key) for key in {list(QUIET)}])"
TOLD = "from tasks.cluster.dask_config import forget_other_configuration as forget; forget(); "


def answer(program: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    )
    return done.stdout.strip()


def without_dask() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("DASK_")}


def test_a_flow_does_not_sample_its_scheduler() -> None:
    assert answer(TOLD + ASKED, without_dask()) == str(list(QUIET.values()))


@pytest.mark.parametrize("stage", ["prepare", "train", "predict"])
def test_a_worker_in_a_job_is_not_sampled(home: Path, stage: str) -> None:
    """It reads Dask's configuration anew: what its script exports is all that reaches it."""
    settings = ClusterSettings(kind="slurm", walltime="01:00:00", cpus=1, memory_gb=2, workers=1)
    lines = scripts(settings, DatasetPaths(home, "D"))[stage].splitlines()
    exports = dict(line[len("export ") :].split("=", 1) for line in lines if line.startswith("export DASK_"))
    assert answer(ASKED, {**without_dask(), **exports}) == str(list(QUIET.values()))
    assert answer(ASKED, without_dask()) != str(list(QUIET.values()))
