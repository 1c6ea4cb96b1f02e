"""What is missing before the first run, or before a job is queued: each line a verdict, and the mend."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement
from prefect.client.schemas.schedules import CronSchedule
from pydantic import ValidationError

from tasks.cluster.placement import cores, gpus
from tasks.doctor.jobs import examine_jobs
from tasks.doctor.services import examine_services
from tasks.doctor.verdicts import Verdict
from tasks.errors import ConfigError
from tasks.ledger.paths import DatasetPaths
from tasks.settings.cluster import STAGES, ClusterSettings, load_cluster
from tasks.settings.dataset import DatasetSettings, check_choices, datasets_of
from tasks.settings.notifications import load_notifications
from tasks.versions import code_version

LEAST_FREE_GB = 20.0
"""A dataset of a hundred CTs, preprocessed, with the checkpoints of five folds."""
MANY_EPOCHS = 100
"""Of nnU-Net's own plans; one takes a CPU from minutes to hours."""
TORCH_S = 120.0
"""The import of torch from a network file system takes that long the first time."""
LOOK_AT_TORCH = (
    "import json, torch; print(json.dumps([torch.__version__, torch.version.cuda, "
    "[torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())] "
    "if torch.cuda.is_available() else []]))"
)


def examine(
    cluster: ClusterSettings, name: str, paths: DatasetPaths, chosen: str | None
) -> Iterator[Verdict]:
    """Look at everything that a run needs; nothing is started, queued or sent.

    Parameters
    ----------
    cluster, name
        Where the work is to run, and how its file is called.
    paths
        Of the home; the dataset does not matter.
    chosen
        A dataset; without one all of the home.
    """
    yield _python()
    yield _packages()
    yield _folders(paths)
    yield _nnunet()
    settings: dict[str, DatasetSettings] = {}
    for dataset in [chosen] if chosen else datasets_of(paths.config):
        verdict, found = _choices(paths, dataset)
        yield verdict
        if found is not None:
            settings[dataset] = found
    yield _torch(cluster, list(settings.values()))
    yield from examine_services(cluster, settings)
    if cluster.kind == "slurm":
        yield from examine_jobs(cluster, name, paths)
    else:
        found_here, asked = f"{cores()} cores, {len(gpus())} GPUs", cluster.stage("train").workers
        yield Verdict("this machine", True, f"{found_here}; folds at a time: {asked}")


def _python() -> Verdict:
    said = f"{platform.python_version()} at {sys.executable}, IterSeg {code_version()}"
    return Verdict("Python", True, said)  # pip refuses an older one


def _packages() -> Verdict:
    """Whether what is installed is what pyproject.toml asks for."""
    asked, wrong = [Requirement(line) for line in requires("iterseg") or []], []
    for requirement in asked:
        try:
            there = version(requirement.name)
        except PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(there, prereleases=True):
            wrong.append(f"{requirement.name} is {there}, {requirement.specifier} is asked for")
    if wrong:
        return Verdict("packages", False, "; ".join(wrong), "`make install` installs the lock")
    return Verdict("packages", True, f"all {len(asked)} are as they should be")


def _torch(cluster: ClusterSettings, datasets: Sequence[DatasetSettings]) -> Verdict:
    """In a program of its own: torch takes seconds and a driver may take the process along."""
    seen = len(gpus())
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-W", "ignore", "-c", LOOK_AT_TORCH],
            capture_output=True,
            text=True,
            check=True,
            timeout=TORCH_S,
        )
    except subprocess.TimeoutExpired:
        return Verdict("torch", False, f"its import takes more than {TORCH_S:.0f} s", "is the disk well?")
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["it says nothing"])[-1]
        return Verdict(
            "torch", False, f"it cannot be imported: {last}", "`make install`, or another build of it"
        )
    build, cuda, names = json.loads(done.stdout.splitlines()[-1])
    if names:
        return Verdict("torch", True, f"{build}, on {len(names)} × {names[0]}")
    if seen:
        why = "is a build for CPUs"
        if cuda:
            why = f"is built for CUDA {cuda}, which the driver may be too old for"
        mend = "`make install TORCH=cuda`, or your driver's build (docs/cluster.md, step 1)"
        return Verdict("torch", False, f"{build} uses none of {seen} GPUs: it {why}", mend)
    return _without_a_gpu(cluster, datasets, build, cuda)


def _without_a_gpu(
    cluster: ClusterSettings, datasets: Sequence[DatasetSettings], build: str, cuda: str | None
) -> Verdict:
    """Whether that is well: it is where jobs have GPUs that torch is built for, or none is wanted."""
    on_a_gpu = [d.training for d in datasets if d.training.device != "cpu"]
    stages = [stage for stage in STAGES if "gpu" in (cluster.stage(stage).gres or "")]
    if stages and cuda is None and (on_a_gpu or not datasets):
        said = f"{build} is a build for CPUs, and jobs of {', '.join(stages)} are given GPUs"
        return Verdict("torch", False, said, "`make install TORCH=cuda`, also where this machine has no GPU")
    if stages:
        return Verdict("torch", True, f"{build}; there is no GPU here, jobs have theirs")
    said = f"{build}; there is no GPU here, training runs on the CPU"
    longest = max((training.epochs_first for training in on_a_gpu), default=0)
    mend = "a network and settings that a CPU can train in minutes are in docs/tutorial.md"
    if longest >= MANY_EPOCHS:
        return Verdict("torch", True, f"{said}, and {longest:,} epochs a fold take it weeks", mend)
    return Verdict("torch", True, said)


def _folders(paths: DatasetPaths) -> Verdict:
    data = next(folder for folder in (paths.home / "data", paths.home) if folder.is_dir())
    free_gb = shutil.disk_usage(data).free / 1e9
    said = f"{paths.home}, {free_gb:.0f} GB free"
    if not os.access(data, os.W_OK):
        return Verdict("ITERSEG_HOME", False, f"{data} cannot be written to", "mend its permissions")
    if free_gb < LEAST_FREE_GB:
        mend = f"make room: below {LEAST_FREE_GB:.0f} GB a run may end on a full disk"
        return Verdict("ITERSEG_HOME", False, said, mend)
    return Verdict("ITERSEG_HOME", True, said)


def _nnunet() -> Verdict:
    """IterSeg sets nnU-Net's variables for each program that it starts."""
    ignored = sorted(name for name in os.environ if name.startswith("nnUNet_"))
    said = f"version {version('nnunetv2')}"
    if ignored:
        said += f"; {', '.join(ignored)} are set here, and IterSeg takes its own instead"
    return Verdict("nnU-Net", True, said)


def _choices(paths: DatasetPaths, dataset: str) -> tuple[Verdict, DatasetSettings | None]:
    what = f"dataset {dataset}"
    try:
        rois, settings = check_choices(paths.config, dataset)
    except ConfigError as error:
        return Verdict(what, False, str(error), "docs/configuration.md explains each key"), None
    if settings.night is not None:
        try:
            CronSchedule(cron=settings.night.cron, timezone=settings.night.timezone)
            load_cluster(paths.config, settings.night.cluster)
            load_notifications(paths.config)
        except ValidationError as error:
            mend = "minute, hour, day, month, weekday: '0 20 * * *' is every evening at eight"
            return Verdict(what, False, f"night.cron: {error.errors()[0]['msg']}", mend), settings
        except ConfigError as error:
            return Verdict(what, False, f"its nights: {error}", "mend the file, then `make deploy`"), settings
    said = f"{', '.join(rois.structures)} on {settings.image_modality}, {settings.folds} folds"
    return Verdict(what, True, said), settings
