"""What is missing before a job is queued: each line a verdict, and the mend."""

from __future__ import annotations

import shutil
import subprocess
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from prefect.settings import PREFECT_API_URL

from tasks.cluster import is_reachable_from_nodes
from tasks.cluster_settings import STAGES, ClusterSettings
from tasks.errors import TransientError
from tasks.ledger.paths import DatasetPaths
from tasks.placement import cores, gpus
from tasks.slurm_job import job_options, script_of
from tasks.slurm_queue import refusal

ANSWER_S = 5.0


@dataclass(frozen=True)
class Verdict:
    """One thing that was looked at."""

    what: str
    good: bool
    said: str
    mend: str = ""


def examine(settings: ClusterSettings, name: str, paths: DatasetPaths) -> list[Verdict]:
    """Look at everything that a run on a cluster needs; nothing is started and nothing is queued."""
    if settings.kind == "local":
        return [_machine(settings)]
    return [
        *_commands(),
        *(_jobs(settings, stage, name, paths) for stage in STAGES),
        _server(settings),
        _shared(paths),
    ]


def scripts(settings: ClusterSettings, paths: DatasetPaths) -> dict[str, str]:
    """The job script of each stage, as sbatch gets it but for the addresses of a run."""
    return {stage: script_of(job_options(settings, stage, paths)) for stage in STAGES}


def _machine(settings: ClusterSettings) -> Verdict:
    found = f"{cores()} cores, {len(gpus())} GPUs"
    asked = settings.stage("train").workers
    return Verdict("this machine", True, f"{found}; {asked} folds at a time")


def _commands() -> list[Verdict]:
    missing = [name for name in ("sbatch", "squeue", "scancel", "scontrol") if shutil.which(name) is None]
    if missing:
        said = f"there is no {', '.join(missing)}"
        return [Verdict("Slurm's commands", False, said, "run the flow where jobs can be submitted")]
    done = subprocess.run(
        ["sinfo", "--noheader", "--format=%P %D nodes, %G, %l"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        mend = "is slurmctld up, and SLURM_CONF right?"
        return [Verdict("Slurm", False, done.stderr.strip().splitlines()[-1], mend)]
    return [Verdict("Slurm", True, "; ".join(done.stdout.split("\n")[:-1]))]


def _jobs(settings: ClusterSettings, stage: str, name: str, paths: DatasetPaths) -> Verdict:
    try:
        said = refusal(scripts(settings, paths)[stage])
    except TransientError as error:
        return Verdict(f"jobs of stage {stage}", False, str(error), "is slurmctld up?")
    if said is None:
        return Verdict(f"jobs of stage {stage}", True, "Slurm would take them")
    return Verdict(f"jobs of stage {stage}", False, said, f"mend `{stage}` in config/clusters/{name}.yaml")


def _server(settings: ClusterSettings) -> Verdict:
    url = PREFECT_API_URL.value()
    if not url:
        mend = "`make server` on a machine that nodes can reach, and `prefect config set PREFECT_API_URL=…`"
        return Verdict("Prefect's server", False, "PREFECT_API_URL is not set", mend)
    if not is_reachable_from_nodes(url, settings):
        mend = "set PREFECT_API_URL to an address that nodes can reach: they are given this one"
        return Verdict("Prefect's server", False, f"{url} is this machine's own", mend)
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=ANSWER_S):  # noqa: S310 - the user's own
            return Verdict("Prefect's server", True, url)
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            return Verdict("Prefect's server", True, f"{url}, which asks for its authentication string")
        return Verdict("Prefect's server", False, f"{url}: {error}", "look at its log")
    except OSError as error:
        return Verdict("Prefect's server", False, f"{url}: {error}", "is it running? `make server`")


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
