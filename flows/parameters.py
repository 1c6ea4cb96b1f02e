"""What every flow is asked: the types of parameters that flows share, and names made from them.

Prefect makes a form of a flow's parameters, and refuses a value that does not fit before anything starts.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from prefect.runtime import deployment, flow_run
from pydantic import Field, SecretStr

from tasks.errors import ConfigError
from tasks.settings.yaml_model import DATASET_ID

DatasetId = Annotated[
    str, Field(pattern=f"^{DATASET_ID.pattern}$", description="As in config/roi_<dataset_id>.yaml.")
]
Day = Annotated[
    dt.date | None,
    Field(description="The snapshot's date; the newest (for ingest: today) if left out."),
]
ClusterName = Annotated[
    str, Field(pattern=f"^{DATASET_ID.pattern}$", description="A file in config/clusters/.")
]
GpuHours = Annotated[
    float | None,
    Field(gt=0, description="Of training; what is not finished then goes on from its checkpoints next time."),
]
Jobs = Annotated[
    int | None, Field(gt=0, description="How many jobs training may ask for, lost ones included.")
]
Hidden = SecretStr
"""A folder, an address, a PatientID: what may name a patient stays out of Prefect's database."""


def run_name(stage: str) -> Callable[[], str]:
    """The name of a run in the UI: ``train PM_IASLC 2026-11-23``."""

    def name() -> str:
        parameters = flow_run.parameters
        return f"{stage} {parameters.get('dataset_id')} {parameters.get('date') or dt.date.today()}"

    return name


def local_path(value: Hidden | None) -> Path | None:
    """A folder that a command was given.

    Raises
    ------
    ConfigError
        Where a deployment was given it: the server keeps the parameters of its runs as they were typed.
    """
    if value is None:
        return None
    if deployment.id is not None:
        raise ConfigError(
            "a folder's name may be a patient's, and a run's parameters are in Prefect's database. Put the "
            "files into the dataset's folder of the day, send them to the receiver, or use the command"
        )
    return Path(value.get_secret_value())
