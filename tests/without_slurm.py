"""What a cluster without Slurm is told, and what it would tell sbatch."""

from __future__ import annotations

from tasks.cluster.slurm import WatchedCluster

FAILED = {"JobState": "FAILED", "Reason": "NonZeroExitCode", "ExitCode": "7:0"}
"""Of a job that ended by itself, in the words of scontrol(1)."""


def directives(cluster: WatchedCluster) -> list[str]:
    found: list[str] = cluster.new_spec["options"]["job_extra_directives"]
    return found
