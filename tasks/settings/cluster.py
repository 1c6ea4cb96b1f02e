"""``config/clusters/<name>.yaml``: where the work of each stage runs, and what a worker is given."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    Field,
    PositiveFloat,
    PositiveInt,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from tasks.errors import ConfigError
from tasks.settings.yaml_model import DATASET_ID, Settings, load_yaml, said_of

Stage = Literal["prepare", "train", "predict"]
STAGES: tuple[Stage, ...] = get_args(Stage)
WALLTIME = re.compile(r"\d+-\d{1,2}(?::\d{2}){0,2}|\d+(?::\d{2}){0,2}")
"""As sbatch(1) takes it: minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM, D-HH:MM:SS."""

# What ends up in a job's script stays on its own line and is no second directive.
Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.,:=&|()@*/\[\]+-]+$")]
Line = Annotated[str, StringConstraints(pattern=r"^[^\r\n]+$")]


class Allocation(Settings):
    """What a worker of a stage is given; with ``kind: slurm`` a worker is a job."""

    workers: PositiveInt | Literal["auto"] = "auto"
    """At a time. ``auto``: one for each GPU of this machine, or one for each core where there is none; to
    prepare, for which no GPU is needed, one for each core, 8 at most;
    on Slurm, for training: as many jobs as there are trainings, twice the folds with a control; for the other
    stages a number is needed there."""
    cpus: PositiveInt | None = None
    """CPU cores of a worker, needed with ``kind: slurm``; else, left out, this machine's, divided among the
    workers."""
    memory_gb: PositiveFloat | None = None
    """GiB of a job, needed with ``kind: slurm``; locally, of a Dask worker, beside which the training program
    runs."""
    walltime: str | None = None
    """Of a job, needed with ``kind: slurm``, as sbatch takes it: ``24:00:00``. A fold that needs longer goes
    on in the next job."""
    partition: Word | None = None
    """Of a job; left out, as the four below: Slurm's default."""
    gres: Word | None = None
    """The generic resources of a job, such as ``gpu:1`` or ``gpu:a100:1``."""
    account: Word | None = None
    """Whom Slurm charges."""
    qos: Word | None = None
    """Slurm's quality of service."""
    constraint: Word | None = None
    """Features of a node, such as ``a100|h100``."""
    directives: list[Line] = Field(default=[])
    """More options for sbatch, such as ``--exclude=node7``."""
    prologue: list[Line] = Field(default=[])
    """Shell lines before the worker starts, such as ``module load cuda``."""

    @field_validator("walltime", mode="before")
    @classmethod
    def _walltime(cls, value: object) -> object:
        if isinstance(value, int):
            raise ValueError("write it in quotes: YAML reads 24:00:00 without them as a number")
        if isinstance(value, str) and not WALLTIME.fullmatch(value):
            raise ValueError("write it as sbatch takes it, such as '24:00:00' or '2-12:00:00'")
        return value


OF_JOBS = ("stop_before_s", "queue_is_full_after_min", "logs_url", "interface")
ONLY_SLURM = ("walltime", "partition", "gres", "account", "qos", "constraint", "directives", "prologue")


class ClusterSettings(Allocation):
    """A cluster: what every stage is given, and in ``stages`` what one of them is given instead."""

    kind: Literal["local", "slurm"] = "local"
    """``local``: this machine. ``slurm``: jobs."""
    stages: dict[Stage, dict[str, Any]] = Field(default={})
    """Stage → what its workers are given instead, with the keys from `workers` to `prologue`."""
    attempts: PositiveInt = 3
    """How many times a fold or a chunk of cases may be tried when its worker or program is lost. Progress
    since the last loss begins the count anew."""
    stop_before_s: PositiveInt = 120
    """A job's training is told so long before the walltime to end with this epoch, or validated case, and to
    save."""
    queue_is_full_after_min: PositiveFloat = 60
    """When jobs wait and none runs for so long, whoever is notified hears of it."""
    logs_url: str | None = Field(default=None, pattern=r"^https?://\S+$")
    """Where a browser sees this cluster's files: ``{path}`` stands for a file's path (or follows it)."""
    interface: Word | None = None
    """The network over which jobs and the flow talk, such as ``ib0``; left out: the host's own."""

    @model_validator(mode="after")
    def _sound(self) -> Self:
        for stage in STAGES:
            allocation = self._checked_stage(stage)
            if self.kind == "local":
                named = [key for key in ONLY_SLURM if getattr(allocation, key)]
                if named:
                    raise ValueError(f"`{named[0]}` (stage {stage}) means something with `kind: slurm` only")
                of_jobs = [k for k in OF_JOBS if k in self.model_fields_set and getattr(self, k) is not None]
                if of_jobs:
                    raise ValueError(f"`{of_jobs[0]}` means something with `kind: slurm` only")
                continue
            missing = [k for k in ("cpus", "memory_gb", "walltime") if getattr(allocation, k) is None]
            if allocation.workers == "auto" and stage != "train":
                missing.append("workers")
            if missing:
                raise ValueError(f"stage {stage} lacks `{missing[0]}`; Slurm's own default would fit nothing")
        return self

    def _checked_stage(self, stage: Stage) -> Allocation:
        try:
            return self.stage(stage)
        except ValidationError as error:
            (first, *_) = error.errors(include_url=False)
            key = ".".join(map(str, first["loc"]))
            known = f"; the keys are {', '.join(Allocation.model_fields)}" if "extra" in first["type"] else ""
            raise ValueError(f"stages.{stage}.{key}: {said_of(first)}{known}") from None

    def stage(self, stage: Stage) -> Allocation:
        """What a worker of a stage is given."""
        shared = {key: getattr(self, key) for key in Allocation.model_fields}
        return Allocation.model_validate({**shared, **self.stages.get(stage, {})})


def load_cluster(config_dir: Path, name: str) -> ClusterSettings:
    """Read ``clusters/<name>.yaml``; ``local`` has defaults and needs no file."""
    if not DATASET_ID.fullmatch(name):
        raise ConfigError(f"{name!r} cannot be the name of a cluster: letters, digits, - and _ only")
    path = config_dir / "clusters" / f"{name}.yaml"
    if path.is_file():
        return load_yaml(path, ClusterSettings)
    if name == "local":
        return ClusterSettings()
    known = sorted(p.stem for p in path.parent.glob("*.yaml")) or ["local"]
    raise ConfigError(f"{path} does not exist. Clusters that do: {', '.join(known)}")
