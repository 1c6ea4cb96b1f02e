"""Withdraw: a patient or a case is out of every later iteration.

Inputs: a PatientID or a case id. Output: the ledger says that cases are withdrawn, and their data are
deleted if asked. Command: ``iterseg withdraw DATASET --patient ID``.
"""

from __future__ import annotations

from datetime import date
from typing import Any, Self

from prefect import flow
from pydantic import Field, SecretStr, model_validator

from flows.parameters import DatasetParameters, run_name, show_table
from tasks.ledger.lock import dataset_lock
from tasks.ledger.paths import DatasetPaths
from tasks.state import require_dataset
from tasks.withdraw import delete_withdrawn, withdraw_from_ledger


class WithdrawParameters(DatasetParameters):
    """Who or what is to be out. A PatientID is kept out of Prefect's database."""

    patient: SecretStr | None = Field(default=None, description="A PatientID: all of their scans.")
    case_id: str | None = Field(default=None, description="A case id: this scan only.")
    delete: bool = Field(default=False, description="Delete their data too.")

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.patient is None) == (self.case_id is None):
            raise ValueError("give a patient or a case, and not both")
        return self


@flow(name="withdraw", flow_run_name=run_name("withdraw"))
def withdraw(parameters: WithdrawParameters) -> dict[str, Any]:
    """Take a patient or a case out of the dataset, for ever."""
    dataset_id = parameters.dataset_id
    paths = DatasetPaths.of(dataset_id)
    require_dataset(paths)
    with dataset_lock(paths.procdata):
        outcome = withdraw_from_ledger(
            dataset_id,
            parameters.date or date.today(),
            patient_id=parameters.patient.get_secret_value() if parameters.patient else None,
            case_id=parameters.case_id,
        )
        deleted = delete_withdrawn(dataset_id) if parameters.delete else None
    rows = [{"case_id": case, "state": "withdrawn"} for case in outcome["cases"]]
    show_table("withdraw", dataset_id, rows, f"{len(rows)} cases are out")
    return {"stage": "withdraw", **outcome, "deleted": deleted}
