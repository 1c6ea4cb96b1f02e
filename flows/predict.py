"""Predict: every unlabelled image of the dataset, or a folder's, gets DICOM objects.

Inputs: a model; images. Output: a SEG and an RTSTRUCT (as chosen) of each image, and the report page.
Command: ``iterseg predict DATASET``.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from flows.pages import write_pages
from flows.parameters import ClusterName, DatasetId, Hidden, local_path, run_name
from tasks.cluster.pieces import run_chunks
from tasks.cluster.runner import (
    PIECES_PER_WORKER,
    chunks,
    task_runner,
    threads_per_worker,
    worker_count,
    worth_workers,
)
from tasks.conversion import CaseToConvert, conversions
from tasks.dicom.case import Case
from tasks.dicom.reasons import UNSETTLED, WHAT_TO_DO, Reason
from tasks.errors import ConfigError, UserDataError
from tasks.ingest import seal_by_hand
from tasks.keep_test_set import patients_of_test_set
from tasks.ledger.dataset_key import pseudonyms_of
from tasks.ledger.files import look_again
from tasks.ledger.models import ModelRecord, check_weights, latest_model, load_model
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.snapshots import load_snapshots
from tasks.ledger.withdrawals import load_withdrawals
from tasks.outcomes import remember_unpredictable
from tasks.predict import images_in, predict_cases, stale_predictions
from tasks.refine import recognise_refinements
from tasks.send import send_to_all
from tasks.settings.cluster import ClusterSettings, load_cluster
from tasks.settings.dataset import DatasetSettings, check_choices
from tasks.shown.artifacts import show_table
from tasks.shown.progress import waiting
from tasks.state import case_row, require_dataset, state_at, totals
from tasks.turn import turn_of


@flow(name="predict", flow_run_name=run_name("predict"), task_runner=task_runner("predict"))
def predict(
    dataset_id: DatasetId,
    cluster: ClusterName = "local",
    input: Annotated[  # noqa: A002 - as the command calls it
        Hidden | None, Field(description="A folder of DICOM; left out: the dataset's unlabelled images.")
    ] = None,
    model: Annotated[str, Field(description="A model's id, or latest.")] = "latest",
    triage: Annotated[
        bool, Field(description="Only ask of which images the model is unsure, for the worklist.")
    ] = False,
) -> dict[str, Any]:
    """Predict what this model has not predicted yet, write the report, and send what is to be sent."""
    paths, folder = DatasetPaths.of(dataset_id), local_path(input)
    rois, settings = check_choices(paths.config, paths.dataset_id)
    where = load_cluster(paths.config, cluster)
    if folder is None:
        require_dataset(paths)
    used = load_model(paths, model)
    in_use = latest_model(paths)
    if triage and (folder is not None or in_use is None or used.model_id != in_use.model_id):
        raise ConfigError(
            "a triage is of the dataset's own images by the model in use, whose worklist it orders; leave "
            "out --input and --model, or --triage"
        )
    with turn_of(paths, where, settings):
        cases, others = _images(paths, settings, folder)
        _leave_test_set_out(paths, settings, cases, from_outside=input is not None)
        to_convert = conversions(settings, rois)
        jobs = [to_convert(case) for case in cases if case.reason == Reason.UNLABELLED]
        others += [case_row(case) for case in cases if case.reason != Reason.UNLABELLED]
        if jobs:
            check_weights(paths, used)  # what is predicted bears the model's name
        stale = stale_predictions(paths, used, {job.case_id for job in jobs})
        predicted = _predicted(paths, jobs, used, settings, where, triage)
        look_again([paths.predicted, paths.predictions(used.model_id)])
        if folder is None:
            remember_unpredictable(paths, jobs, predicted)
        report = _report(paths, used, triage, stale, [*predicted, *others])
        _show(paths, report)
        if predicted and not any(row["state"] == "done" for row in predicted):
            _none_predicted(predicted, report, asked_for=folder is not None)
        if not triage:
            done = {row["case_id"] for row in predicted if row["state"] == "done"}
            to_send = [job for job in jobs if job.case_id in done]
            try:
                report["sent"] = send_to_all(
                    paths.dataset_id, settings.send_to, to_send, used, again=_again(used, in_use, folder)
                )
            except UserDataError as error:
                raise error.with_report(report) from None
    return report


def _again(used: ModelRecord, in_use: ModelRecord | None, folder: Path | None) -> str:
    """What sends again what could not be sent: of a folder, or by another model, only this command."""
    if folder is None and in_use is not None and used.model_id == in_use.model_id:
        return ""
    return "the same `iterseg predict`, which predicts nothing twice,"


def _none_predicted(rows: list[dict[str, Any]], report: dict[str, Any], *, asked_for: bool) -> None:
    """Raise, unless they are images of the dataset of which it is known for good what is wrong with them.

    Those are left over when all others are labelled, and must not make every night fail.
    """
    reasons = sorted({Reason(row["reason"]) for row in rows})
    if asked_for or UNSETTLED & set(reasons):
        said = " ".join(f"{reason.value}: {WHAT_TO_DO[reason]}" for reason in reasons)
        raise UserDataError(f"none of {len(rows)} images could be predicted. {said}").with_report(report)


def _predicted(
    paths: DatasetPaths,
    jobs: list[CaseToConvert],
    model: ModelRecord,
    settings: DatasetSettings,
    where: ClusterSettings,
    triage: bool,
) -> list[dict[str, Any]]:
    """What became of each image, shared among workers; a single one has this machine's cores to itself."""
    alone = len(jobs) == 1 and where.kind == "local"
    workers = 1 if alone else worker_count(where, "predict")
    threads = threads_per_worker(where, "predict", workers)
    small = not worth_workers(Path(file) for job in jobs for file in job.files)
    with waiting("predict") if alone else nullcontext():
        results = run_chunks(
            predict_cases,
            chunks(jobs, workers, 1 if small else PIECES_PER_WORKER),
            lambda number, piece: (paths.dataset_id, number, piece, model, settings, threads, triage),
            "predict",
            where.attempts,
            here=alone,
            shown=True,
        )
    return [row for some in results for row in some]


def _report(
    paths: DatasetPaths,
    model: ModelRecord,
    triage: bool,
    stale: dict[str, int],
    rows: list[dict[str, Any]],
) -> dict[str, Any]:
    return {
        "stage": "predict",
        "model": model.model_id,
        "triage": triage,
        "stale": stale,
        "sent": {},
        "worklist": str(paths.worklist),
        "predictions": str(paths.predictions(model.model_id)),
        "report": str(paths.report) if load_snapshots(paths) else None,
        "cases": rows,
        "totals": totals(rows),
    }


def _show(paths: DatasetPaths, report: dict[str, Any]) -> None:
    """Write worklist and page, and the tables of the UI."""
    write_pages(paths)
    summary = f"model {report['model']}, cases {report['totals']}"
    show_table("predict", paths.dataset_id, report["cases"], summary)


def _leave_test_set_out(
    paths: DatasetPaths, settings: DatasetSettings, cases: list[Case], *, from_outside: bool
) -> None:
    """Nobody is to draw a test case over a prediction."""
    unlabelled = [case for case in cases if case.reason == Reason.UNLABELLED]
    patients = {case.patient for case in unlabelled}
    test = patients_of_test_set(paths.dataset_id, patients, settings, from_outside=from_outside)
    for case in unlabelled:
        if case.patient in test:
            case.settle("ignored", Reason.TEST_SET.value, "")


def _images(
    paths: DatasetPaths, settings: DatasetSettings, folder: Path | None
) -> tuple[list[Case], list[dict[str, Any]]]:
    if folder is not None:
        return images_in(folder, settings, pseudonyms_of(paths), load_withdrawals(paths.withdrawals))
    seal_by_hand(paths.dataset_id)
    recognise_refinements(paths.dataset_id)  # as prepare does
    assembly, _ = state_at(paths, settings)
    return [case for case in assembly.images if case.reason == Reason.UNLABELLED], []
