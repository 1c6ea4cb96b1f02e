"""Predict: every unlabelled image of the dataset, or a folder's, gets a DICOM SEG.

Inputs: a model; images. Output: one SEG for each image, and the report page.
Command: ``iterseg predict DATASET``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow
from pydantic import Field, SecretStr

from flows.parameters import ComputeParameters, run_name, show_table
from tasks.cluster import chunks, result_of, task_runner, threads_per_worker, worker_count
from tasks.conversion import to_convert
from tasks.dicom.cases import Case
from tasks.dicom.reasons import Reason
from tasks.errors import UserDataError
from tasks.ingest import seal_by_hand
from tasks.ledger.lock import dataset_lock
from tasks.ledger.models import load_model
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.pseudonyms import Pseudonyms
from tasks.predict import images_in, patients_of_test_set, predict_cases
from tasks.progress import progress
from tasks.report import write_report
from tasks.settings import DatasetSettings, load_cluster, load_dataset_settings, load_rois
from tasks.state import case_row, require_dataset, state_at, totals


class PredictParameters(ComputeParameters):
    """What to predict, and with which model."""

    input: SecretStr | None = Field(
        default=None, description="A folder of DICOM; left out: the dataset's unlabelled images."
    )
    model: str = Field(default="latest", description="A model's id, or latest.")


@flow(name="predict", flow_run_name=run_name("predict"), task_runner=task_runner())
def predict(parameters: PredictParameters) -> dict[str, Any]:
    """Predict what this model has not predicted yet, and write the report."""
    paths = DatasetPaths.of(parameters.dataset_id)
    settings = load_dataset_settings(paths.config, paths.dataset_id)
    rois = load_rois(paths.config, paths.dataset_id)
    cluster = load_cluster(paths.config, parameters.cluster)
    require_dataset(paths)
    model = load_model(paths, parameters.model)
    with dataset_lock(paths.procdata):
        cases, damaged = _images(paths, settings, parameters)
        _leave_test_set_out(paths, settings, cases, from_outside=parameters.input is not None)
        wanted = [case for case in cases if case.reason == Reason.UNLABELLED]
        jobs = [to_convert(case, settings, rois) for case in wanted]
        threads = threads_per_worker(cluster)
        futures = [
            predict_cases.submit(paths.dataset_id, number, piece, model, settings, threads)
            for number, piece in enumerate(chunks(jobs, worker_count(cluster)), start=1)
        ]
        rows = [row for future in progress(futures, "predict") for row in result_of(future)]
        rows += [case_row(case) for case in cases if case.reason != Reason.UNLABELLED]
        rows += damaged
        write_report(paths.dataset_id)
    show_table("predict", paths.dataset_id, rows, f"model {model.model_id}, cases {totals(rows)}")
    if wanted and not any(row["state"] == "done" for row in rows):
        reasons = sorted({str(row["reason"]) for row in rows})
        raise UserDataError(f"no image could be predicted: {', '.join(reasons)}")
    return {
        "stage": "predict",
        "model": model.model_id,
        "predictions": str(paths.predictions(model.model_id)),
        "report": str(paths.report),
        "cases": rows,
        "totals": totals(rows),
    }


def _leave_test_set_out(
    paths: DatasetPaths, settings: DatasetSettings, cases: list[Case], *, from_outside: bool
) -> None:
    """Nobody is to draw a test case over a prediction."""
    waiting = [case for case in cases if case.reason == Reason.UNLABELLED]
    patients = {case.patient for case in waiting}
    test = patients_of_test_set(paths.dataset_id, patients, settings, from_outside=from_outside)
    for case in waiting:
        if case.patient in test:
            case.settle("ignored", Reason.TEST_SET.value, "")


def _images(
    paths: DatasetPaths, settings: DatasetSettings, parameters: PredictParameters
) -> tuple[list[Case], list[dict[str, Any]]]:
    if parameters.input is not None:
        pseudonyms = Pseudonyms(paths.patient_key, first=False)
        return images_in(Path(parameters.input.get_secret_value()), settings, pseudonyms.patient)
    seal_by_hand(paths.dataset_id)
    assembly, _ = state_at(paths, settings, parameters.date)
    return [case for case in assembly.images if case.reason == Reason.UNLABELLED], []
