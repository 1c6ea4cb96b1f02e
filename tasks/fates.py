"""What becomes of each case of a dataset on its way into an iteration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.conversion import CaseToConvert, as_booked, conversions
from tasks.dicom.case import Assembly
from tasks.dicom.reasons import NOTHING_DRAWN, Reason
from tasks.keep_test_set import patients_of_test_set
from tasks.ledger.case_book import BookedCase
from tasks.ledger.dataset_key import pseudonyms_of
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.store import Store
from tasks.refine import drawn_over_predictions
from tasks.settings.dataset import DatasetSettings, RoiPatterns
from tasks.state import case_row


def pending_cases(
    assembly: Assembly, settings: DatasetSettings, rois: RoiPatterns
) -> dict[str, CaseToConvert]:
    """What is labelled and not settled yet, by case, and what it is converted from."""
    to_convert = conversions(settings, rois)
    return {case.case_id: to_convert(case) for case in assembly.images if case.state == "pending"}


def set_aside_what_no_test_may_hold(
    paths: DatasetPaths, settings: DatasetSettings, assembly: Assembly
) -> None:
    """A test label that was drawn over a prediction would ask the model whether it agrees with itself.

    Whoever is new to the ledger and was predicted before can never be in the test set.
    """
    pending = [case for case in assembly.images if case.state == "pending"]
    over = drawn_over_predictions(paths, pending)
    if over:
        patients = {case.patient for case in over}
        test = patients_of_test_set(paths.dataset_id, patients, settings, from_outside=True)
        for case in over:
            if case.patient in test:
                case.settle("rejected", Reason.DRAWN_OVER_PREDICTION, "")


def not_converted(paths: DatasetPaths, jobs: Mapping[str, CaseToConvert]) -> list[CaseToConvert]:
    """What the store has not converted from these files by these rules."""
    store = Store(paths.store)
    return [
        job
        for job in jobs.values()
        if not store.image(job.case_id, job.image_key).is_file()
        or not store.label(job.case_id, job.label_key or "").is_file()
    ]


def settle(
    assembly: Assembly, jobs: Mapping[str, CaseToConvert], outcomes: Sequence[dict[str, Any]]
) -> dict[str, CaseToConvert]:
    """Settle each case that was pending, and return those that are done."""
    rejected = {row["case_id"]: row for row in outcomes if row["state"] != "done"}
    for case in assembly.images:
        if case.case_id in rejected:
            row = rejected[case.case_id]
            case.settle(row["state"], row["reason"], row["detail"])
        elif case.case_id in jobs:
            case.settle("done", None, case.detail)
    return {case_id: job for case_id, job in jobs.items() if case_id not in rejected}


def note_what_is_empty(store: Store, assembly: Assembly, converted: Mapping[str, CaseToConvert]) -> None:
    """Say of which cases no structure was drawn, where the user has said that they may be absent.

    An ROI whose name no pattern matches looks the same.
    """
    for case in assembly.images:
        job = converted.get(case.case_id)
        if job is not None and set(store.read_voxel_counts(job.case_id, job.label_key or "")) == {0}:
            case.settle("done", None, NOTHING_DRAWN)


def booked_cases(
    paths: DatasetPaths,
    assembly: Assembly,
    converted: Mapping[str, CaseToConvert],
    settings: DatasetSettings,
    rois: RoiPatterns,
) -> dict[str, BookedCase]:
    """The cases that can be used: those that are labelled, and those that can be predicted."""
    pseudonyms, to_convert = pseudonyms_of(paths), conversions(settings, rois)
    cases = {}
    for case in assembly.images:
        job = converted.get(case.case_id)
        if job is None and case.reason == Reason.UNLABELLED:
            job = to_convert(case)
        if job is not None:
            cases[case.case_id] = as_booked(case, job, paths.rawdata, pseudonyms)
    return cases


def rows_of_cases(
    paths: DatasetPaths, assembly: Assembly, converted: Mapping[str, CaseToConvert]
) -> list[dict[str, Any]]:
    """Each series as users see it, with the files that it was converted into."""
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
