"""The worklist as a step: unlabelled images in the order in which a person's time helps most."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from prefect import task

from tasks.cluster.retries import RETRIED
from tasks.conversion import conversions
from tasks.dicom.case import Assembly, Case
from tasks.dicom.reasons import Reason
from tasks.errors import ConfigError
from tasks.hand_over import read_prediction, read_triage
from tasks.ledger.files import digest_of, write_text
from tasks.ledger.iterations import load_iteration
from tasks.ledger.lock import dataset_lock
from tasks.ledger.marks import Mark, load_marks, note_marks
from tasks.ledger.models import ModelRecord, latest_model
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.patients import TEST, places_of_patients
from tasks.ledger.predictions import main_object
from tasks.outcomes import is_unpredictable, settle_as_remembered
from tasks.review.worklist import Candidate, Ranked, rank
from tasks.settings.dataset import DatasetSettings, RoiPatterns, check_choices
from tasks.state import state_at

NOT_PREDICTED = "not predicted yet"
IN_TEST_SET = "in the test set: never predicted; draw it by hand"
COLUMNS = (
    "place",
    "case_id",
    "reason",
    "score",
    "slices",
    "assigned",
    "locked",
    "flagged",
    "skipped",
    "model",
    "segmentation",
    "study_instance_uid",
    "series_instance_uid",
    "viewer",
)
Row = dict[str, Any]


@task(task_run_name="worklist", **RETRIED)
def write_worklist(dataset_id: str) -> list[Row]:
    """Write the list as CSV, and return its rows, the first one first (:data:`COLUMNS`)."""
    paths = DatasetPaths.of(dataset_id)
    rows = worklist_of(paths)
    write_rows(paths, rows)
    return rows


def write_rows(paths: DatasetPaths, rows: Sequence[Row]) -> None:
    """Write rows of the list as CSV."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, "slices": " ".join(map(str, row["slices"]))} for row in rows)
    write_text(paths.worklist, stream.getvalue())


def worklist_of(paths: DatasetPaths) -> list[Row]:
    """The rows of the list as they would be written now."""
    rois, settings = check_choices(paths.config, paths.dataset_id)
    assembly, _ = state_at(paths, settings)
    settle_as_remembered(paths, assembly, settings, rois)
    return rows_of(paths, assembly, settings, rois)


def rows_of(
    paths: DatasetPaths, assembly: Assembly, settings: DatasetSettings, rois: RoiPatterns
) -> list[Row]:
    """The rows for the images of an assembly, settled as remembered, that wait to be segmented.

    Of those that no model has looked at, those of the test set are last.
    """
    model = latest_model(paths)
    waiting = {case.case_id: case for case in assembly.images if case.reason == Reason.UNLABELLED}
    found = _looked_at(paths, model, list(waiting.values()), settings, rois)
    candidates = [Candidate(case_id, record["doubt"]) for case_id, record in found.items()]
    seed = int(digest_of([paths.dataset_id, *_learned_from(paths, model)])[:12], 16)
    ranked = rank(candidates, settings.review.strategy, settings.review.random_share, seed)
    places = places_of_patients(paths.patients)
    unseen = []
    for case_id in sorted(waiting.keys() - found.keys()):
        case = waiting[case_id]
        tested = places.get(case.patient) == TEST
        why = IN_TEST_SET if tested else case.detail if is_unpredictable(case) else NOT_PREDICTED
        unseen.append(Ranked(case_id, 0.0, why, []))
    unseen.sort(key=lambda ranked: ranked.reason == IN_TEST_SET)
    marks = load_marks(paths.marks)
    ordered = sorted([*ranked, *unseen], key=lambda r: _place(marks.get(r.case_id, Mark())))
    return [
        _row(paths, place, item, waiting[item.case_id], found, marks, model, settings)
        for place, item in enumerate(ordered, start=1)
    ]


def _learned_from(paths: DatasetPaths, model: ModelRecord | None) -> list[str]:
    """What the lists of a model are drawn by: the same model gives the same list, whenever it is asked for.

    Not by its weights: with them stands when they were trained, and nobody could repeat a simulation.
    """
    if model is None:
        return []
    iteration = load_iteration(model.iteration(paths))
    cases = [] if iteration is None else sorted(case["case_id"] for case in iteration.training_cases())
    return [model.model_id, *cases]


def _looked_at(
    paths: DatasetPaths,
    model: ModelRecord | None,
    cases: Sequence[Case],
    settings: DatasetSettings,
    rois: RoiPatterns,
) -> dict[str, Row]:
    """Case → its prediction's record, or what a triage found of it."""
    if model is None:
        return {}
    folder, found, to_convert = paths.predictions(model.model_id), {}, conversions(settings, rois)
    for case in cases:
        job = to_convert(case)
        record = read_prediction(folder, job, model, settings) or read_triage(folder, job, model)
        if record is not None:
            found[case.case_id] = record
    return found


def _place(mark: Mark) -> int:
    """What somebody is at comes first, what is to be left comes last; the others keep their order."""
    return 0 if mark.locked else 3 if mark.skipped else 1 if mark.flagged else 2


def _row(
    paths: DatasetPaths,
    place: int,
    item: Ranked,
    case: Case,
    found: Mapping[str, Row],
    marks: Mapping[str, Mark],
    model: ModelRecord | None,
    settings: DatasetSettings,
) -> Row:
    mark, study = marks.get(item.case_id, Mark()), case.files[0].header.study_instance_uid
    objects = found.get(item.case_id, {}).get("objects")
    file = None
    if objects and model is not None:
        file = main_object(paths.predictions(model.model_id), item.case_id, settings.prediction.outputs)
    return {
        "place": place,
        "case_id": item.case_id,
        "reason": item.reason,
        "score": round(item.score, 4),
        "slices": list(item.slices),
        "assigned": mark.assigned,
        "locked": mark.locked,
        "flagged": mark.flagged,
        "skipped": mark.skipped,
        "model": model.model_id if model and item.case_id in found else "",
        "segmentation": str(file.relative_to(paths.home)) if file else "",
        "study_instance_uid": study,
        "series_instance_uid": case.series_instance_uid,
        "viewer": (settings.review.viewer or "").replace("{study}", quote(study)),
    }


def mark_cases(paths: DatasetPaths, changes: Mapping[str, Mapping[str, Any]]) -> None:
    """Say something of images that wait: case id → fields of :class:`tasks.ledger.marks.Mark`.

    Raises
    ------
    ConfigError
        Where one of them does not wait; then nothing is said of any.
    """
    _, settings = check_choices(paths.config, paths.dataset_id)
    assembly, _ = state_at(paths, settings)
    waiting = {case.case_id for case in assembly.images if case.reason == Reason.UNLABELLED}
    strangers = sorted(changes.keys() - waiting)
    if strangers:
        raise ConfigError(f"no image of {paths.dataset_id} that waits is called {', '.join(strangers)}")
    # Not the dataset's own lock: a night may run while people share out its work.
    with dataset_lock(paths.ledger / "marking"):
        known = load_marks(paths.marks)
        marks = {case_id: replace(known.get(case_id, Mark()), **said) for case_id, said in changes.items()}
        note_marks(paths.marks, marks)
