"""The report page as a step. (The room is ``review/``; a module of that name could not stand beside it.)"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from statistics import fmean
from typing import Any

from prefect import task

from tasks.cluster.retries import RETRIED
from tasks.dicom.case import Assembly, Case
from tasks.dicom.reasons import Reason
from tasks.ledger.case_book import load_cases
from tasks.ledger.dated import DatedName
from tasks.ledger.files import read_json, write_text
from tasks.ledger.models import ModelRecord, latest_model, load_models
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.predictions import picture_file, record_file
from tasks.ledger.refinements import Refinement, load_refinements
from tasks.ledger.withdrawals import load_withdrawals
from tasks.outcomes import is_unpredictable, settle_as_remembered
from tasks.review.curves import Point
from tasks.review.intervals import interval
from tasks.review.report import PredictedCase, ReportContent, StructureEffort, render
from tasks.review.scores import mean_of_defined
from tasks.settings.dataset import load_dataset_settings, load_rois
from tasks.state import state_at
from tasks.suspects import pictured_suspects
from tasks.worklist import IN_TEST_SET, rows_of

MOST_SUSPECTS = 50
"""With pictures, the worst first; when they are settled, others follow."""
MOST_PICTURES = 500
"""On the page, of predictions: each takes up to 0.1 MB, and nobody looks at more at once."""


@task(task_run_name="report", **RETRIED)
def write_report(dataset_id: str) -> Path:
    """Write the report page of a dataset: account, learning curve, predictions with pictures."""
    paths = DatasetPaths.of(dataset_id)
    settings = load_dataset_settings(paths.config, dataset_id)
    assembly, _ = state_at(paths, settings)
    model = latest_model(paths)
    rois = load_rois(paths.config, dataset_id)
    settle_as_remembered(paths, assembly, settings, rois)
    labelled = [case for case in assembly.images if case.state == "pending"]
    unlabelled = [case for case in assembly.images if case.reason == Reason.UNLABELLED]
    rejected = [c for c in [*assembly.images, *assembly.segmentations] if c.state == "rejected"]
    aside = [*rejected, *(case for case in unlabelled if is_unpredictable(case))]
    models = load_models(paths)
    rows = rows_of(paths, assembly, settings, rois)
    predicted = [row for row in rows if row["segmentation"]]
    suspects = pictured_suspects(paths, model, {case.case_id: case for case in labelled}, MOST_SUSPECTS)
    content = ReportContent(
        dataset_id=dataset_id,
        written=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        in_use=model.model_id if model else None,
        structures=rois.structures,
        account=_account(assembly, rows),
        set_aside=[{"case_id": case.case_id, "reason": case.reason, "detail": case.detail} for case in aside],
        models=[asdict(record) for record in models],
        test_points=_test_points(paths, models, rois.structures),
        effort=effort_by_model(paths, models),
        worklist=rows,
        strategy=settings.review.strategy.replace("_", " "),
        predictions=_predictions(paths, model, predicted[:MOST_PICTURES]),
        not_pictured=max(0, len(predicted) - MOST_PICTURES),
        pictured=model.structures if model else [],
        suspects=suspects,
        drift=read_json(paths.drift) if paths.drift.is_file() else None,
    )
    write_text(paths.report, render(content))
    return paths.report


def _account(assembly: Assembly, worklist: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """How many images and segmentations are what; they add up to all that the dataset has."""
    images = Counter(_kind(case) for case in assembly.images)
    segmentations = Counter(case.state for case in assembly.segmentations)
    tested = sum(row["reason"] == IN_TEST_SET for row in worklist)
    return {
        "images, labelled": images["labelled"],
        "images, unlabelled": images["unlabelled"] - tested,
        "images of the test set, to be drawn by hand": tested,
        "images that cannot be used": images["rejected"],
        "images that do not count, such as withdrawn ones": images["ignored"],
        "further segmentations that cannot be used": segmentations["rejected"],
        "further segmentations that do not count, such as superseded ones": segmentations["ignored"],
    }


def _kind(case: Case) -> str:
    if case.state == "pending":
        return "labelled"
    return "unlabelled" if case.reason == Reason.UNLABELLED else case.state


def _test_points(
    paths: DatasetPaths, models: Sequence[ModelRecord], structures: Sequence[str]
) -> dict[str, list[Point | None]]:
    """Structure → mean Dice of each model on the test set, with its interval."""
    patients = _patients(paths)
    return {name: [_test_point(record, name, patients) for record in models] for name in structures}


def _patients(paths: DatasetPaths) -> dict[str, str]:
    """Case id → patient (keyed hash), of all that were ever booked."""
    return {case_id: history[-1]["patient"] for case_id, history in load_cases(paths.cases).items()}


def _test_point(record: ModelRecord, structure: str, patients: Mapping[str, str]) -> Point | None:
    by_patient: dict[str, list[float]] = defaultdict(list)
    for row in record.test_cases:
        value = row["dice"].get(structure)
        if value is not None:
            by_patient[patients.get(row["case_id"], row["case_id"])].append(value)
    mean = record.test_dice.get(structure)
    if mean is None or not by_patient:
        return None
    return Point(mean, *interval(list(by_patient.values())), sum(map(len, by_patient.values())))


def effort_by_model(paths: DatasetPaths, models: Sequence[ModelRecord]) -> list[StructureEffort]:
    """What corrections of each model's predictions cost, oldest model first, of each structure."""
    patients = _patients(paths)
    found: dict[tuple[str, str], list[tuple[str, Mapping[str, Any]]]] = defaultdict(list)
    withdrawn = load_withdrawals(paths.withdrawals)
    for refinement in _last_of_each_case(paths):
        if withdrawn.hold(patients.get(refinement.case_id, ""), refinement.case_id):
            continue
        for structure, figures in refinement.effort.items():
            if figures["unedited"] and figures["dice"] is None:
                continue  # neither predicted nor there: nobody had to do anything, which says nothing
            patient = patients.get(refinement.case_id, refinement.case_id)
            found[refinement.model or "", structure].append((patient, figures))
    order = [record.model_id for record in models]
    keys = sorted(found, key=lambda key: (order.index(key[0]) if key[0] in order else -1, key[1]))
    return [_effort(model, structure, found[model, structure]) for model, structure in keys]


def _last_of_each_case(paths: DatasetPaths) -> list[Refinement]:
    """The corrections that stand: of a case that was saved again, or as SEG and RTSTRUCT, the last one."""
    noted = load_refinements(paths.refinements).values()
    corrections = [r for r in noted if r.kind != "new" and r.is_a_persons]
    corrections.sort(key=lambda r: _day_of(r.arrived, paths.dataset_id))
    return list({(r.case_id, r.model): r for r in corrections}.values())


def _day_of(snapshot: str, dataset_id: str) -> tuple[str, int]:
    name = DatedName.parse(snapshot, dataset_id)
    return (str(name.day), name.number) if name else ("", 0)


def _effort(model: str, structure: str, found: Sequence[tuple[str, Mapping[str, Any]]]) -> StructureEffort:
    """From each patient and what the correction of a scan of theirs cost: two scans are not independent."""
    rows = [row for _, row in found]
    lengths = [row["added_path_length_mm"] for row in rows]
    by_patient: dict[str, list[float]] = defaultdict(list)
    for patient, row in found:
        by_patient[patient].append(row["added_path_length_mm"])
    low, high = interval(list(by_patient.values()))
    return StructureEffort(
        model,
        structure,
        len(rows),
        sum(row["unedited"] for row in rows),
        Point(fmean(lengths), low, high, len(rows)),
        fmean(row["edited_slices"] for row in rows),
        fmean(row["edited_volume_ml"] for row in rows),
        dice=mean_of_defined(row["dice"] for row in rows),
        surface_dice=mean_of_defined(row["surface_dice"] for row in rows),
        hd95_mm=mean_of_defined(row["hd95_mm"] for row in rows),
        with_dice=sum(row["dice"] is not None for row in rows),
        with_distance=sum(row["hd95_mm"] is not None for row in rows),
    )


def _predictions(
    paths: DatasetPaths, model: ModelRecord | None, rows: Sequence[Mapping[str, Any]]
) -> list[PredictedCase]:
    """What the model in use predicted and nobody has corrected yet, in the order of the worklist."""
    if model is None:
        return []
    folder, found = paths.predictions(model.model_id), []
    for row in rows:
        record, picture = record_file(folder, row["case_id"]), picture_file(folder, row["case_id"])
        if picture.is_file():
            content, volumes = picture.read_bytes(), read_json(record)["volume_ml"]
            found.append(
                PredictedCase(
                    row["case_id"], row["segmentation"], volumes, content, row["reason"], row["slices"]
                )
            )
    return found
