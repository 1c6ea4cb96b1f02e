"""Withdraw: a patient or a case is out of every later iteration.

Inputs: a PatientID or a case id. Output: the ledger says that cases are withdrawn, and their data are
deleted if asked. Command: ``iterseg withdraw DATASET --patient ID``.
"""

from __future__ import annotations

import datetime as dt
from contextlib import nullcontext
from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from flows.pages import write_pages_if_possible
from flows.parameters import DatasetId, Hidden, run_name
from tasks.deletion import delete_withdrawn
from tasks.errors import ConfigError
from tasks.ledger.paths import DatasetPaths
from tasks.shown.artifacts import show_table
from tasks.shown.progress import waiting
from tasks.state import require_known
from tasks.turn import turn_of
from tasks.withdraw import withdraw_from_ledger


@flow(name="withdraw", flow_run_name=run_name("withdraw"))
def withdraw(
    dataset_id: DatasetId,
    patient: Annotated[Hidden | None, Field(description="A PatientID: all of their scans.")] = None,
    case_id: Annotated[str | None, Field(description="A case id: this scan only.")] = None,
    delete: Annotated[bool, Field(description="Delete their data too.")] = False,
) -> dict[str, Any]:
    """Take a patient or a case out of the dataset, for ever."""
    if (patient is None) == (case_id is None):
        raise ConfigError("give a patient or a case, and not both")
    paths = DatasetPaths.of(dataset_id)
    require_known(paths)
    with turn_of(paths):
        outcome = withdraw_from_ledger(
            dataset_id,
            dt.date.today(),
            patient_id=None if patient is None else patient.get_secret_value(),
            case_id=case_id,
        )
        with waiting("deleting") if delete else nullcontext():
            deleted = delete_withdrawn(dataset_id) if delete else None
        write_pages_if_possible(paths)
    rows = [{"case_id": case, "state": "withdrawn"} for case in outcome["cases"]]
    show_table("withdraw", dataset_id, rows, f"{len(rows)} cases are out")
    return {"stage": "withdraw", **outcome, "deleted": deleted}
