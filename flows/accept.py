"""Accept: a person stands for predictions as they are, and they become labels.

Inputs: case ids. Output: a snapshot with their segmentations. Command: ``iterseg accept DATASET CASE``.
"""

from __future__ import annotations

from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from flows.pages import write_pages_if_possible
from flows.parameters import DatasetId, run_name
from tasks.accept import accept as accept_predictions
from tasks.errors import UserDataError
from tasks.ingest import take_accepted
from tasks.ledger.models import load_model
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.predictions import case_of
from tasks.ledger.snapshots import day_of_arrival
from tasks.refine import recognise_refinements
from tasks.shown.artifacts import show_table
from tasks.state import require_dataset, totals
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
        taken = take_accepted(dataset_id, files, day_of_arrival(paths)) if files else None
        recognise_refinements(dataset_id)
        write_pages_if_possible(paths)
    # A duplicate is the label of a run that was killed before it could say so.
    fates = dict(zip(map(case_of, files), taken["rows"] if taken else [], strict=True))
    rows = [_row(case_id, fates.get(case_id)) for case_id in cases]
    show_table("accept", dataset_id, rows, f"predictions of model {used.model_id}")
    report = {
        "stage": "accept",
        "model": used.model_id,
        "snapshot": taken["snapshot"] if taken else None,
        "cases": rows,
        "totals": totals(rows),
    }
    if lacking := sorted({str(row["reason"]) for row in rows if row["state"] != "done"}):
        raise UserDataError(
            f"{totals(rows)['rejected']} of {len(rows)} predictions have not become labels "
            f"({', '.join(lacking)}): what a person has saved of the same prediction stays"
        ).with_report(report)
    return report


def _row(case_id: str, fate: dict[str, Any] | None) -> dict[str, Any]:
    """What became of a case; None: its prediction had come back before, and that is the label."""
    row = {"case_id": case_id, "state": "done", "reason": None, "detail": ""}
    if fate is None or fate["state"] in ("taken", "duplicate"):
        return row
    return {**row, "state": "rejected", "reason": fate["reason"], "detail": fate["detail"]}
