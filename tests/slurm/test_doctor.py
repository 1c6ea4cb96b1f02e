"""What Slurm has against a cluster's file is said before a job is queued."""

from __future__ import annotations

import pytest
from slurm_lab import SlurmLab
from tests_support import iterseg

pytestmark = pytest.mark.slurm


def doctor(lab: SlurmLab) -> dict[str, dict[str, str]]:
    answer = iterseg(lab.home, "doctor", "--cluster", "slurm", "--json", **lab.environment)
    found = {verdict["what"]: verdict for verdict in answer.report["verdicts"]}
    assert answer.returncode == (0 if all(verdict["good"] for verdict in found.values()) else 2)
    return found


def test_a_cluster_that_fits_is_well(lab: SlurmLab) -> None:
    found = doctor(lab)
    assert all(verdict["good"] for verdict in found.values()), found
    assert "gpu:1" in found["Slurm"]["said"]
    assert lab.slurm.jobs() == []


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"partition": "moon"}, "invalid partition"),
        ({"stages": {"train": {"gres": "gpu:9"}}}, "Requested node configuration is not available"),
        ({"memory_gb": 4000}, "Requested node configuration is not available"),
    ],
)
def test_what_slurm_refuses_is_told_in_its_words(lab: SlurmLab, wrong: dict[str, object], words: str) -> None:
    lab.cluster(**wrong)
    found = doctor(lab)["jobs of stage train"]
    assert not found["good"]
    assert words in found["said"]
    refused = lab.run("train")
    assert refused.returncode == 2
    assert words in refused.stderr
    assert lab.slurm.jobs() == []
