"""Prepare: snapshots become an nnU-Net dataset with plans, preprocessed cases and folds.

Inputs: the dataset's state at a date. Output: an iteration in procdata, made of links into the store.
Command: ``iterseg prepare DATASET``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, TypeVar

from prefect import flow
from prefect.tasks import Task
from pydantic import Field

from flows.parameters import ClusterName, DatasetId, Day, run_name
from tasks.cluster.pieces import opaque, run_chunks
from tasks.cluster.runner import chunks, converted_at_once, task_runner, worker_count, worth_workers
from tasks.conversion import CaseToConvert
from tasks.convert import convert_cases
from tasks.copies import without_copies
from tasks.dicom.case import Assembly
from tasks.dicom.reasons import Reason
from tasks.errors import UserDataError
from tasks.fates import (
    booked_cases,
    not_converted,
    note_what_is_empty,
    pending_cases,
    rows_of_cases,
    set_aside_what_no_test_may_hold,
    settle,
)
from tasks.ingest import seal_by_hand
from tasks.ledger.files import look_again
from tasks.ledger.iterations import Iteration
from tasks.ledger.lineages import load_lineages
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.snapshots import Snapshot
from tasks.ledger.store import Store
from tasks.nnunet.preprocess import imported_early
from tasks.open_iteration import book, open_iteration
from tasks.outcomes import remember_outcomes
from tasks.prepare import (
    close_iteration,
    plan_iteration,
    preprocess,
    to_preprocess,
    write_converted,
)
from tasks.refine import recognise_refinements
from tasks.settings.cluster import ClusterSettings, load_cluster
from tasks.settings.dataset import (
    DatasetSettings,
    RoiPatterns,
    check_choices,
)
from tasks.shown.artifacts import show_table
from tasks.shown.progress import waiting
from tasks.state import require_dataset, state_at, totals
from tasks.turn import turn_of

Item = TypeVar("Item")


@flow(name="prepare", flow_run_name=run_name("prepare"), task_runner=task_runner("prepare"))
def prepare(
    dataset_id: DatasetId,
    cluster: ClusterName = "local",
    date: Day = None,
    convert_only: Annotated[bool, Field(description="Stop after the conversion to NIfTI.")] = False,
) -> dict[str, Any]:
    """Convert what is new, give every patient a fold, plan once, preprocess what is new."""
    paths = DatasetPaths.of(dataset_id)
    rois, settings = check_choices(paths.config, paths.dataset_id)
    where = load_cluster(paths.config, cluster)
    require_dataset(paths)
    with turn_of(paths, where, settings):
        seal_by_hand(paths.dataset_id)
        # Also what an ingest sealed that was killed before it had looked; what is known costs nothing.
        recognise_refinements(paths.dataset_id)
        assembly, snapshot = state_at(paths, settings, date)
        labelled = pending_cases(assembly, settings, rois)
        set_aside_what_no_test_may_hold(paths, settings, assembly)
        jobs = {case.case_id: labelled[case.case_id] for case in assembly.images if case.state == "pending"}
        missing = not_converted(paths, jobs)
        few = not worth_workers(_dicom_of(missing))
        with imported_early() if few and missing and not convert_only else nullcontext():
            outcomes = _convert(paths, missing, settings, rois, where)
            converted = without_copies(paths, assembly.images, settle(assembly, jobs, outcomes))
            if all(settings.missing_structures.get(name) == "absent" for name in rois.structures):
                note_what_is_empty(Store(paths.store), assembly, converted)
            if date is None:
                remember_outcomes(paths, assembly, labelled)
            report = _report(paths, assembly, converted)
            if convert_only:
                cases = opaque(list(converted.values()))
                folder = write_converted(paths.dataset_id, snapshot.name, cases, settings, rois)
                return {**report, "converted": str(folder)}
            iteration, known = _open(paths, snapshot, assembly, converted, settings, rois)
            if not known:
                with waiting("planning"):
                    iteration = _plan(paths, iteration, settings, where)
            _preprocess(paths, iteration, where)  # of a known one too: a backup need not hold the store
            if not known:
                close_iteration(paths.dataset_id, opaque(iteration))
    return {**report, "iteration": iteration.name, "reused": known}


def _convert(
    paths: DatasetPaths,
    missing: Sequence[CaseToConvert],
    settings: DatasetSettings,
    rois: RoiPatterns,
    where: ClusterSettings,
) -> list[dict[str, Any]]:
    """Convert cases; the fate of each."""
    threads = converted_at_once(where)
    results = _spread(
        convert_cases,
        "convert",
        missing,
        _dicom_of(missing),
        lambda number, piece: (paths.dataset_id, number, opaque(piece), settings, rois, threads),
        where,
    )
    look_again([paths.store, *(paths.store / case.case_id for case in missing)])
    return [row for rows in results for row in rows]


def _dicom_of(jobs: Sequence[CaseToConvert]) -> list[Path]:
    return [Path(file) for job in jobs for file in job.files]


def _spread(
    task: Task[Any, Any],
    what: str,
    cases: Sequence[Item],
    files: Sequence[Path],
    arguments: Callable[[int, list[Item]], tuple[Any, ...]],
    where: ClusterSettings,
) -> list[Any]:
    """Run a task over cases: shared among workers, or in this process where their files are few."""
    here = not worth_workers(files)
    pieces = [list(cases)][: len(cases)] if here else chunks(cases, worker_count(where, "prepare"))
    return run_chunks(task, pieces, arguments, what, where.attempts, here=here)


def _report(
    paths: DatasetPaths, assembly: Assembly, converted: Mapping[str, CaseToConvert]
) -> dict[str, Any]:
    """The fate of each series, which the UI shows too.

    Raises
    ------
    UserDataError
        Where no case can be used.
    """
    rows = rows_of_cases(paths, assembly, converted)
    show_table("prepare", paths.dataset_id, rows, f"cases {totals(rows)}")
    report: dict[str, Any] = {"stage": "prepare", "cases": rows, "totals": totals(rows)}
    if not converted:
        raise UserDataError(f"no case of {paths.dataset_id} can be used: {_why(rows)}").with_report(report)
    return report


def _open(
    paths: DatasetPaths,
    snapshot: Snapshot,
    assembly: Assembly,
    converted: Mapping[str, CaseToConvert],
    settings: DatasetSettings,
    rois: RoiPatterns,
) -> tuple[Iteration, bool]:
    """Write down what each case is, and find or begin the iteration that learns from them."""
    booked = booked_cases(paths, assembly, converted, settings, rois)
    book(paths.dataset_id, snapshot.name, opaque(booked))
    patients = {case.case_id: case.patient for case in assembly.images}
    done = [(case, patients[case_id]) for case_id, case in converted.items()]
    unlabelled = {case.patient for case in assembly.images if case.reason == Reason.UNLABELLED}
    return open_iteration(paths.dataset_id, snapshot.name, opaque(done), settings, rois, unlabelled)


def _plan(
    paths: DatasetPaths, iteration: Iteration, settings: DatasetSettings, where: ClusterSettings
) -> Iteration:
    """Carry the lineage's plans over, or make them: that reads every case, and is work for a node."""
    planned = load_lineages(paths)[0][iteration.lineage].plans is not None
    (iteration,) = run_chunks(
        plan_iteration,
        [iteration],
        lambda _, whole: (paths.dataset_id, opaque(whole), settings),
        "plan",
        where.attempts,
        here=planned or where.kind == "local",
    )
    return iteration


def _preprocess(paths: DatasetPaths, iteration: Iteration, where: ClusterSettings) -> None:
    """Preprocess what the store lacks."""
    missing, images = to_preprocess(paths, iteration)
    _spread(
        preprocess,
        "preprocess",
        missing,
        images,
        lambda number, piece: (paths.dataset_id, number, opaque(iteration), piece),
        where,
    )
    look_again(paths.store / case["case_id"] for case in missing)


def _why(rows: list[dict[str, Any]]) -> str:
    counts = Counter(row["reason"] for row in rows)
    return ", ".join(f"{count} {reason}" for reason, count in counts.most_common()) or "it has none"
