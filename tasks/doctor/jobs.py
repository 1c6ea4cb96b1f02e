"""What Slurm, and the machines it runs jobs on, lack before a job is queued."""

from __future__ import annotations

import shutil
from pathlib import Path

from tasks.cluster.dask_config import forget_other_configuration
from tasks.cluster.slurm_job import job_options, script_of
from tasks.cluster.slurm_queue import refusal, slurm
from tasks.doctor.verdicts import Verdict
from tasks.errors import TransientError
from tasks.ledger.paths import DatasetPaths
from tasks.settings.cluster import STAGES, ClusterSettings


def examine_jobs(settings: ClusterSettings, name: str, paths: DatasetPaths) -> list[Verdict]:
    """Look at everything that jobs need besides this machine; nothing is queued."""
    there = _slurm()
    # Where Slurm is not there it says nothing of jobs.
    written = scripts(settings, paths).items() if there.good else ()
    return [there, *(_jobs(stage, script, name) for stage, script in written), _shared(paths)]


def scripts(settings: ClusterSettings, paths: DatasetPaths) -> dict[str, str]:
    """The job script of each stage, as sbatch gets it but for the addresses of a run."""
    forget_other_configuration()
    return {stage: script_of(job_options(settings, stage, paths)) for stage in STAGES}


def _slurm() -> Verdict:
    needed = ("sbatch", "squeue", "scancel", "scontrol", "sinfo")
    missing = [name for name in needed if shutil.which(name) is None]
    if missing:
        said = f"there is no {', '.join(missing)}"
        return Verdict("Slurm", False, said, "run the flow where jobs can be submitted")
    try:
        said = slurm("sinfo", "--noheader", "--format=%P %D nodes, %G, %l")
    except TransientError as error:
        return Verdict("Slurm", False, str(error), "is slurmctld up, and SLURM_CONF right?")
    return Verdict("Slurm", True, "; ".join(said.splitlines()))


def _jobs(stage: str, script: str, name: str) -> Verdict:
    try:
        said = refusal(script)
    except TransientError as error:
        return Verdict(f"jobs of stage {stage}", False, str(error), "is slurmctld up?")
    if said is None:
        return Verdict(f"jobs of stage {stage}", True, "Slurm would take them")
    mend = f"mend what they ask for in config/clusters/{name}.yaml, at its top or below `stages: {stage}`"
    return Verdict(f"jobs of stage {stage}", False, said, mend)


def _shared(paths: DatasetPaths) -> Verdict:
    """Whether the data lie where other machines may see them; this cannot be proved from here."""
    home = str(paths.home.resolve())
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    above = [(len(at), kind) for at, kind in mounts if f"{home}/".startswith(f"{at.rstrip('/')}/")]
    kind = max(above)[1]
    said = f"{home} is on {kind}"
    if kind in ("tmpfs", "overlay"):
        return Verdict("the data", False, said, "put ITERSEG_HOME on a file system that every node mounts")
    return Verdict("the data", True, said)
