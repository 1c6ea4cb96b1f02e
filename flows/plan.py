"""Plan: are the frozen plans still right? And, on demand, the decision to plan anew.

Inputs: the newest iteration. Output: the drift report, or a new lineage whose first iteration is planned
anew and trained from scratch. Command: ``iterseg plan DATASET [--new-lineage]``.
"""

from __future__ import annotations

from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from flows.parameters import DatasetId, run_name
from tasks.ledger.lineages import LONGEST_REASON
from tasks.ledger.paths import DatasetPaths
from tasks.plan import measure_drift, open_new_lineage
from tasks.settings.dataset import check_choices
from tasks.shown.artifacts import show_table
from tasks.shown.progress import waiting
from tasks.state import require_dataset
from tasks.turn import turn_of


@flow(name="plan", flow_run_name=run_name("plan"))
def plan(
    dataset_id: DatasetId,
    new_lineage: Annotated[bool, Field(description="Plan anew and train from scratch, from now on.")] = False,
    why: Annotated[
        str, Field(max_length=LONGEST_REASON, description="A reason, for the record.")
    ] = "the user's decision",
) -> dict[str, Any]:
    """Compare the frozen plans with what the grown data would give, or begin a new lineage."""
    paths = DatasetPaths.of(dataset_id)
    rois, settings = check_choices(paths.config, paths.dataset_id)
    require_dataset(paths)
    with turn_of(paths):
        if new_lineage:
            lineage = open_new_lineage(paths.dataset_id, settings, rois, why)
            row = {"lineage": lineage.number, "why": lineage.why, "structures": lineage.structures}
            show_table("plan", paths.dataset_id, [row], f"lineage {lineage.number} begins")
            return {"stage": "plan", "opened": lineage.number, "structures": lineage.structures}
        with waiting("planning all cases beside the frozen plans"):
            drift = measure_drift(paths.dataset_id, settings)
    verdict = "new plans are worth a training from scratch" if drift["worth_it"] else "the plans still fit"
    show_table("plan", paths.dataset_id, drift["rows"], f"lineage {drift['lineage']}: {verdict}")
    return {"stage": "plan", "opened": None, **drift}
