"""Prepare: snapshots become an nnU-Net dataset with plans, preprocessed cases and folds.

Inputs: the dataset's state at a date. Output: an iteration in procdata, made of links into the store.
Command: ``iterseg prepare DATASET``.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from prefect import flow
from pydantic import Field

from flows.parameters import ComputeParameters, run_name, show_table
from tasks.cluster import chunks, result_of, task_runner, worker_count
from tasks.conversion import CaseToConvert, booked, to_convert
from tasks.convert import convert_cases
from tasks.dicom.cases import Assembly
from tasks.dicom.reasons import Reason
from tasks.errors import UserDataError
from tasks.ingest import seal_by_hand
from tasks.ledger.case_book import BookedCase
from tasks.ledger.lock import dataset_lock
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.pseudonyms import Pseudonyms
from tasks.ledger.store import Store
from tasks.open_iteration import book, open_iteration
from tasks.prepare import (
    close_iteration,
    plan_iteration,
    preprocess,
    write_converted,
)
from tasks.progress import progress
from tasks.settings import (
    DatasetSettings,
    RoiPatterns,
    check_choices,
    load_cluster,
)
from tasks.state import case_row, require_dataset, state_at, totals


class PrepareParameters(ComputeParameters):
    """What to prepare."""

    convert_only: bool = Field(default=False, description="Stop after the conversion to NIfTI.")


@flow(name="prepare", flow_run_name=run_name("prepare"), task_runner=task_runner())
def prepare(parameters: PrepareParameters) -> dict[str, Any]:
    """Convert what is new, give every patient a fold, plan once, preprocess what is new."""
    paths = DatasetPaths.of(parameters.dataset_id)
    rois, settings = check_choices(paths.config, paths.dataset_id)
    workers = worker_count(load_cluster(paths.config, parameters.cluster))
    require_dataset(paths)
    with dataset_lock(paths.procdata):
        seal_by_hand(paths.dataset_id)
        assembly, snapshot = state_at(paths, settings, parameters.date)
        converted = _convert(paths, assembly, settings, rois, workers)
        rows = _rows(paths, assembly, converted)
        show_table("prepare", paths.dataset_id, rows, f"cases {totals(rows)}")
        report: dict[str, Any] = {"stage": "prepare", "cases": rows, "totals": totals(rows)}
        if not converted:
            error = UserDataError(f"no case of {paths.dataset_id} can be used: {_why(rows)}")
            error.report = report
            raise error
        if parameters.convert_only:
            cases = list(converted.values())
            folder = write_converted(paths.dataset_id, snapshot.name, cases, settings, rois)
            return {**report, "converted": str(folder)}
        book(paths.dataset_id, snapshot.name, _booked(paths, assembly, converted, settings, rois))
        patients = {case.case_id: case.patient for case in assembly.images}
        done = [(case, patients[case_id]) for case_id, case in converted.items()]
        unlabelled = {case.patient for case in assembly.images if case.reason == Reason.UNLABELLED}
        iteration, known = open_iteration(paths.dataset_id, snapshot.name, done, settings, rois, unlabelled)
        if not known:
            iteration = plan_iteration(paths.dataset_id, iteration, settings)
            pieces = chunks(iteration.training_cases(), workers)
            futures = [
                preprocess.submit(paths.dataset_id, number, iteration, piece)
                for number, piece in enumerate(pieces, start=1)
            ]
            for future in progress(futures, "preprocess"):
                result_of(future)
            close_iteration(paths.dataset_id, iteration)
    return {**report, "iteration": iteration.name, "reused": known}


def _booked(
    paths: DatasetPaths,
    assembly: Assembly,
    converted: dict[str, CaseToConvert],
    settings: DatasetSettings,
    rois: RoiPatterns,
) -> dict[str, BookedCase]:
    """The cases that can be used: those that are labelled, and those that can be predicted."""
    pseudonyms = Pseudonyms(paths.patient_key, first=False)
    cases = {}
    for case in assembly.images:
        job = converted.get(case.case_id)
        if job is None and case.reason == Reason.UNLABELLED:
            job = to_convert(case, settings, rois)
        if job is not None:
            cases[case.case_id] = booked(case, job, paths.rawdata, pseudonyms)
    return cases


def _convert(
    paths: DatasetPaths,
    assembly: Assembly,
    settings: DatasetSettings,
    rois: RoiPatterns,
    workers: int,
) -> dict[str, CaseToConvert]:
    """Convert the pending cases, settle each, and return those that are done."""
    pending = [case for case in assembly.images if case.state == "pending"]
    jobs = {case.case_id: to_convert(case, settings, rois) for case in pending}
    store = Store(paths.store)
    missing = [
        job
        for job in jobs.values()
        if not store.image(job.case_id, job.image_key).is_file()
        or not store.label(job.case_id, job.label_key or "").is_file()
    ]
    futures = [
        convert_cases.submit(paths.dataset_id, number, piece, settings, rois)
        for number, piece in enumerate(chunks(missing, workers), start=1)
    ]
    outcomes = [row for future in progress(futures, "convert") for row in result_of(future)]
    rejected = {row["case_id"]: row for row in outcomes if row["state"] != "done"}
    for case in pending:
        row = rejected.get(case.case_id)
        if row is not None:
            case.settle(row["state"], row["reason"], row["detail"])
        else:
            case.settle("done", None, case.detail)
    return {case_id: job for case_id, job in jobs.items() if case_id not in rejected}


def _rows(
    paths: DatasetPaths, assembly: Assembly, converted: dict[str, CaseToConvert]
) -> list[dict[str, Any]]:
    store = Store(paths.store)
    rows = []
    for case in assembly.images:
        job = converted.get(case.case_id)
        if job is None or job.label_key is None:
            rows.append(case_row(case))
        else:
            rows.append(
                case_row(
                    case, store.image(job.case_id, job.image_key), store.label(job.case_id, job.label_key)
                )
            )
    return rows + [case_row(case) for case in assembly.segmentations]


def _why(rows: list[dict[str, Any]]) -> str:
    counts = Counter(row["reason"] for row in rows)
    return ", ".join(f"{count} {reason}" for reason, count in counts.most_common()) or "it has none"
