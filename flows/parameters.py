"""What every flow is asked: fields shared by the parameter models, and names made from them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

from prefect.artifacts import create_table_artifact
from prefect.runtime import flow_run
from pydantic import BaseModel, ConfigDict, Field, field_validator

from tasks.errors import ConfigError
from tasks.settings import DATASET_ID, check_dataset_id


class DatasetParameters(BaseModel):
    """The dataset and the date that a flow works on."""

    model_config = ConfigDict(extra="forbid")

    dataset_id: str = Field(pattern=f"^{DATASET_ID.pattern}$", description="The dataset's id.")
    date: dt.date | None = Field(
        default=None, description="The snapshot's date; the newest (for ingest: today) if left out."
    )

    @field_validator("dataset_id")
    @classmethod
    def _is_an_id(cls, value: str) -> str:
        try:
            return check_dataset_id(value)
        except ConfigError as error:
            raise ValueError(str(error)) from None


class ComputeParameters(DatasetParameters):
    """A flow that sends work to a cluster."""

    cluster: str = Field(
        default="local", pattern=r"^[A-Za-z0-9_-]+$", description="A file in config/clusters/."
    )


def run_name(stage: str) -> Callable[[], str]:
    """The name of a run in the UI: ``train PM_IASLC 2026-11-23``."""

    def name() -> str:
        parameters = flow_run.parameters.get("parameters")
        if isinstance(parameters, dict):
            parameters = DatasetParameters.model_construct(**parameters)
        if parameters is None:
            return stage
        return f"{stage} {parameters.dataset_id} {parameters.date or dt.date.today()}"

    return name


def show_table(stage: str, dataset_id: str, rows: list[dict[str, Any]], summary: str) -> None:
    """End a flow with a table in the UI. Keys of artifacts are lower case, digits and dashes."""
    key = f"{stage}-{dataset_id}".lower().replace("_", "-")
    hidden = ("image", "label")  # paths are for scripts, not for the UI
    table = [{k: "" if v is None else str(v) for k, v in row.items() if k not in hidden} for row in rows]
    create_table_artifact(table=table or [{"": "nothing"}], key=key, description=summary)
