"""Accept: a person stands for predictions as they are, and they become labels.

Inputs: case ids. Output: a snapshot with their segmentations. Command: ``iterseg accept DATASET CASE``.
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from flows.parameters import DatasetId, run_name
from tasks.errors import UserDataError
from tasks.ingest import take_accepted
from tasks.ledger.models import load_model
from tasks.ledger.paths import DatasetPaths
from tasks.refine import accept as accept_predictions
from tasks.refine import recognise_refinements
from tasks.shown import show_table
from tasks.state import require_dataset
from tasks.turn import turn_of


@flow(name="accept", flow_run_name=run_name("accept"))
def accept(
    dataset_id: DatasetId,
    cases: Annotated[list[str], Field(min_length=1, description="Ids of predicted cases.")],
    model: Annotated[str, Field(description="Who predicted them: a model's id, or latest.")] = "latest",
) -> dict[str, Any]:
    """Take predictions for labels, because somebody looked at them and found them right."""
    paths = DatasetPaths.of(dataset_id)
    require_dataset(paths)
    used = load_model(paths, model)
    with turn_of(paths):
        files = accept_predictions(dataset_id, used, cases)
        taken = take_accepted(dataset_id, files, dt.date.today()) if files else None
        recognise_refinements(dataset_id)
    if taken is not None and taken["files"]["taken"] < len(files):
        reasons = ", ".join(taken["reasons"]) or "known already"
        raise UserDataError(
            f"{len(files) - taken['files']['taken']} of {len(files)} predictions have not become labels "
            f"({reasons}): what a person has saved of the same prediction stays"
        )
    rows = [{"case_id": case_id, "state": "done", "reason": None, "detail": ""} for case_id in cases]
    show_table("accept", dataset_id, rows, f"predictions of model {used.model_id}")
    return {
        "stage": "accept",
        "model": used.model_id,
        "snapshot": taken["snapshot"] if taken else None,
        "cases": rows,
        "totals": {"done": len(rows), "rejected": 0, "ignored": 0},
    }
