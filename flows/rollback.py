"""Rollback: a former model is in use again.

Inputs: a model's id. Output: ``latest`` points at it, and the history says so.
Command: ``iterseg rollback DATASET MODEL``.
"""

from __future__ import annotations

from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from flows.pages import write_pages
from flows.parameters import DatasetId, run_name
from tasks.ledger.paths import DatasetPaths
from tasks.promote import put_back
from tasks.shown.artifacts import show_table
from tasks.state import require_dataset
from tasks.turn import turn_of


@flow(name="rollback", flow_run_name=run_name("rollback"))
def rollback(
    dataset_id: DatasetId,
    model: Annotated[str, Field(description="A model's id, as `iterseg models` lists it.")],
) -> dict[str, Any]:
    """Put a former model into use; later iterations start from it."""
    paths = DatasetPaths.of(dataset_id)
    require_dataset(paths)
    with turn_of(paths):
        outcome = put_back(paths.dataset_id, model)
        write_pages(paths)  # they name the model's own predictions
    show_table("rollback", paths.dataset_id, [outcome], f"model {outcome['model']} is in use")
    return {"stage": "rollback", **outcome, "report": str(paths.report)}
