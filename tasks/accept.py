"""Accept: a person has looked at predictions and found them right, and they become labels as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from prefect import task

from tasks.cluster.retries import RETRIED
from tasks.conversion import OWN_CONVERTER
from tasks.dicom.case import DicomFile
from tasks.dicom.reasons import Reason
from tasks.errors import UserDataError
from tasks.ledger.dataset_key import pseudonyms_of
from tasks.ledger.models import ModelRecord
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.predictions import object_file, predictions_of
from tasks.ledger.refinements import load_refinements, note_acceptances, note_refinements
from tasks.ledger.store import image_key
from tasks.settings.dataset import DatasetSettings, check_choices
from tasks.settings.output import Output
from tasks.state import segmentations_of, state_at


@task(task_run_name="accept", **RETRIED)
def accept(dataset_id: str, model: ModelRecord, cases: Sequence[str]) -> list[Path]:
    """Note that a person has found predictions to be right as they are.

    Returns
    -------
    The files that become labels by this: one a case, of those that have not come back before.

    Raises
    ------
    UserDataError
        Where a case was not predicted by this model, is no image of the dataset, was drawn by a person, or
        lacks a structure that may not be missing; then none is accepted.
    """
    paths = DatasetPaths.of(dataset_id)
    _, settings = check_choices(paths.config, dataset_id)
    records = predictions_of(paths, model.model_id)
    predicted = {record["case_id"]: record for record in records if "objects" in record}
    strangers = sorted(set(cases) - predicted.keys())
    if strangers:
        raise UserDataError(f"model {model.model_id} has not predicted {', '.join(strangers)}")
    images = state_at(paths, settings)[0].images
    there = {case.case_id: case for case in images if case.reason != Reason.WITHDRAWN}
    if missing := sorted(set(cases) - there.keys()):
        raise UserDataError(
            f"{', '.join(missing)}: no image of {dataset_id}, or withdrawn from it. What was predicted with "
            "--input becomes a label once its image is ingested"
        )
    keys = {case_id: image_key([f.sha256 for f in there[case_id].files], OWN_CONVERTER) for case_id in cases}
    if grown := sorted(case_id for case_id in cases if predicted[case_id]["image_key"] != keys[case_id]):
        raise UserDataError(
            f"{', '.join(grown)}: the image has grown since it was predicted; run `iterseg predict` first"
        )
    _require_nobody_has_drawn(paths, settings, cases)
    _require_whole([predicted[case_id] for case_id in cases], settings)
    files: list[Path] = []
    uids: list[str] = []
    for case_id in cases:
        objects = predicted[case_id]["objects"]
        kinds: list[Output] = [kind for kind in settings.prediction.outputs if kind in objects]
        kinds = [kind for kind in kinds if kind in settings.segmentation_modalities]
        if not kinds:
            wanted, has = ", ".join(settings.segmentation_modalities), ", ".join(objects)
            raise UserDataError(
                f"`modalities` takes {wanted} for labels, and predictions are {has}: nothing of {case_id} "
                "can become one"
            )
        uids.append(objects[kinds[0]])
        files.append(object_file(paths.predictions(model.model_id), case_id, kinds[0]))
    note_acceptances(paths.acceptances, uids)
    return [file for file, uid in zip(files, uids, strict=True) if not _is_back(paths, uid)]


def _require_nobody_has_drawn(paths: DatasetPaths, settings: DatasetSettings, cases: Sequence[str]) -> None:
    """A person's drawing goes before a prediction, however many people find that right.

    Also one that does not count, beside another of its date, or that could not be read yet.
    """
    noted, pseudonyms = load_refinements(paths.refinements), pseudonyms_of(paths)

    def is_drawn(file: DicomFile) -> bool:
        known = noted.get(pseudonyms.uid(file.header.sop_instance_uid))
        return not file.header.predicted if known is None else known.kind != "unedited"

    delivered = {case.case_id: files for case, files in segmentations_of(paths, settings)}
    if drawn := [case_id for case_id in cases if any(map(is_drawn, delivered.get(case_id, ())))]:
        raise UserDataError(
            f"{', '.join(drawn)}: a person has drawn it, which goes before an accepted prediction. To "
            "replace that drawing, save a segmentation of the image and ingest it"
        )


def _require_whole(records: Sequence[Mapping[str, Any]], settings: DatasetSettings) -> None:
    """A label needs every structure that may not be missing."""
    for record in records:
        found = record.get("volume_ml", {})
        for name, volume_ml in found.items():
            if not volume_ml and settings.missing_structures.get(name, "error") == "error":
                raise UserDataError(
                    f"{record['case_id']}: nothing of {name} was predicted, and it may not be missing. Draw "
                    "it, or say in `missing_structures` what its absence means"
                )


def _is_back(paths: DatasetPaths, prediction: str) -> bool:
    """Whether an accepted prediction has come back unchanged before: then that is the label."""
    noted = load_refinements(paths.refinements)
    back = [uid for uid, row in noted.items() if row.prediction == prediction and row.kind == "unedited"]
    # The last one: a viewer may have saved it twice, and two labels of one date are none.
    if back and not any(noted[uid].declared for uid in back):
        note_refinements(paths.refinements, {back[-1]: replace(noted[back[-1]], declared=True)})
    return bool(back)
