"""Refine: what comes back is known for what it is, and what it cost to correct it is measured.

What was handed out is on record. A segmentation of the same image is, in the order of the evidence: the
same instance; one that names it as its predecessor; one in our series; one with a segment that we track; or
one with our structures that overlaps. Whatever else comes was drawn by somebody by themselves. Viewers leave
most of the traces out: OHIF keeps none in a SEG, and reuses our series in an RTSTRUCT.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from prefect import task

from tasks.cluster.retries import RETRIED
from tasks.conversion import OWN_CONVERTER, label_rules
from tasks.dicom.case import Case, DicomFile
from tasks.dicom.convert import LabelRules, structure_masks
from tasks.dicom.image import SeriesVolume, read_series
from tasks.dicom.provenance import Provenance, provenance_of
from tasks.dicom.reasons import Reason
from tasks.errors import CaseRejected, UserDataError
from tasks.labels import Masks, is_same_drawing, what_is_drawn
from tasks.ledger.dataset_key import pseudonyms_of
from tasks.ledger.models import ModelRecord, load_models
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.predictions import label_file, object_file, predictions_of, sent_by_case
from tasks.ledger.refinements import (
    Evidence,
    Refinement,
    load_acceptances,
    load_refinements,
    note_acceptances,
    note_refinements,
)
from tasks.ledger.store import image_key
from tasks.settings.dataset import DatasetSettings, check_choices, roi_file
from tasks.settings.output import Output
from tasks.shown.artifacts import log_broken
from tasks.state import segmentations_of, state_at

OVERLAP = 0.5
"""The mean Dice from which on a segmentation with our structures is taken for a correction of ours."""
Sent = Mapping[str, Any]
Shape = tuple[int, int, int]


@task(task_run_name="recognise-refinements", **RETRIED)
def recognise_refinements(dataset_id: str) -> dict[str, int]:
    """Recognise what has come in since the last time, and write it down.

    Returns
    -------
    How many segmentations of images that had been predicted are ``edited``, ``unedited`` or ``new``.
    """
    paths = DatasetPaths.of(dataset_id)
    if not paths.sent.is_dir() or not roi_file(paths.config, dataset_id).is_file():
        return {}
    rois, settings = check_choices(paths.config, dataset_id)
    recogniser = _Recogniser(paths, label_rules(settings, rois), settings)
    found: dict[str, Refinement] = {}
    for case, files in segmentations_of(paths, settings):
        found |= recogniser.of_case(case, files)
    note_refinements(paths.refinements, found)
    kinds = [refinement.kind for refinement in found.values()]
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}


class _Recogniser:
    def __init__(self, paths: DatasetPaths, rules: LabelRules, settings: DatasetSettings) -> None:
        self._paths, self._rules, self._settings = paths, rules, settings
        noted = load_refinements(paths.refinements)
        self._known = {uid: row for uid, row in noted.items() if row.kind != "unsettled"}
        self._accepted = load_acceptances(paths.acceptances)
        self._models = {model.model_id: model for model in load_models(paths)}
        self._pseudonyms = pseudonyms_of(paths)

    @cached_property
    def _sent(self) -> dict[str, list[dict[str, Any]]]:
        """Read when something new is to be compared, which is not every night."""
        return sent_by_case(self._paths)

    def of_case(self, case: Case, files: Sequence[DicomFile]) -> dict[str, Refinement]:
        """Keyed stand-in → what it is, of those segmentations of a case that are not known yet."""
        stand_in = {self._pseudonyms.uid(file.header.sop_instance_uid): file for file in files}
        new = {uid: file for uid, file in stand_in.items() if uid not in self._known}
        sent = self._sent.get(case.case_id, []) if new else []
        if not sent:
            return {}
        found = {}
        try:
            volume = read_series([file.path for file in case.files])
        except Exception:  # whatever it is, prepare says why the image cannot be used
            return {}
        for uid, file in new.items():
            try:
                masks = self._masks(volume, file)
                if masks is not None:
                    found[uid] = self._refinement(case, file, sent, volume, masks)
            except OSError:
                raise  # the disk, not the object
            except Exception as error:  # one object must not stop every ingest from now on
                log_broken(case.case_id, "the look for what came back", error)
                # It may be a prediction, and is held back until somebody can tell.
                arrived = file.path.relative_to(self._paths.rawdata).parts[0]
                found[uid] = Refinement(case.case_id, "unsettled", "", None, None, False, arrived)
        return found

    def _masks(self, volume: SeriesVolume, file: DicomFile) -> Masks | None:
        """What was drawn; None where it is no label, of which prepare says why."""
        try:
            return dict(structure_masks(volume, file.path, file.header.kind, self._rules))
        except (CaseRejected, OSError):
            return None

    def _refinement(
        self, case: Case, file: DicomFile, sent: Sequence[Sent], volume: SeriesVolume, masks: Masks
    ) -> Refinement:
        from tasks.review.effort import efforts  # late: scipy takes a quarter of a second

        trace = provenance_of(file.path)
        arrived = file.path.relative_to(self._paths.rawdata).parts[0]
        shape = volume.grid.shape
        prediction, evidence = self._evidence(trace, sent, masks, shape)
        if prediction is None:
            return Refinement(case.case_id, "new", "", None, None, False, arrived)
        predicted = self._predicted(prediction, shape)
        spacing = volume.image.GetSpacing()[::-1]
        tolerance = self._settings.surface_tolerance_mm
        cost = efforts(predicted, masks, spacing, tolerance) if predicted else {}
        unedited = bool(cost) and all(figures["unedited"] for figures in cost.values())
        unedited &= not any(mask.any() for name, mask in masks.items() if name not in cost)
        uid = prediction["sop_instance_uid"]
        same = file.sha256 == prediction["sha256"] or any(_is_drawn_in(row, masks) for row in sent)
        return Refinement(
            case.case_id,
            "unedited" if unedited or same else "edited",
            evidence,
            uid,
            prediction["model"],
            trace.approved or uid in self._accepted,
            arrived,
            cost,
        )

    def _evidence(
        self, trace: Provenance, sent: Sequence[Sent], masks: Masks, shape: Shape
    ) -> tuple[Sent | None, Evidence]:
        """The prediction that a segmentation was made from, and what tells so."""
        signs: list[tuple[Evidence, Callable[[Sent], bool]]] = [
            ("instance", lambda row: row["sop_instance_uid"] == trace.sop_instance_uid),
            ("predecessor", lambda row: row["sop_instance_uid"] in trace.predecessors),
            ("series", lambda row: row["series_instance_uid"] == trace.series_instance_uid),
            ("tracking", lambda row: not trace.tracking.isdisjoint(row["tracking_uids"])),
        ]
        for evidence, says_so in signs:
            if match := next(filter(says_so, sent), None):
                return match, evidence
        if match := next((row for row in reversed(sent) if _is_drawn_in(row, masks)), None):
            return match, "overlap"
        one_kind = [row for row in sent if row["kind"] == "SEG"] or sent
        overlaps = [(self._overlap(row, masks, shape), row["model"], row) for row in one_kind]
        best = max(overlaps, key=lambda found: found[:2])
        return (best[2], "overlap") if best[0] >= OVERLAP else (None, "")

    def _overlap(self, row: Sent, masks: Masks, shape: Shape) -> float:
        """Mean Dice over the structures that were predicted; 0 where others were drawn."""
        from tasks.review.scores import dice

        predicted = self._predicted(row, shape)
        if predicted is None or not set(masks) <= set(row["structures"]):
            return 0.0
        nothing = np.zeros_like(next(iter(predicted.values())))
        scores = [dice(mask, masks.get(name, nothing)) for name, mask in predicted.items()]
        defined = [score for score in scores if score is not None]
        return float(np.mean(defined)) if defined else 0.0

    def _predicted(self, row: Sent, shape: Shape) -> Masks | None:
        """What a model predicted of an image of this shape; None where it is gone, or the image has grown."""
        model: ModelRecord | None = self._models.get(row["model"])
        file: Path = label_file(self._paths.predictions(row["model"]), row["case_id"])
        if model is None or not file.is_file():
            return None
        labels = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
        return dict(model.labels.masks(labels)) if labels.shape == shape else None


def _is_drawn_in(sent: Sent, masks: Masks) -> bool:
    """Whether just this was handed out; objects that were written before 0.2 do not tell."""
    drawn = what_is_drawn(masks)
    return any(is_same_drawing(drawn, version) for version in sent.get("drawn", ()))


@task(task_run_name="accept", **RETRIED)
def accept(dataset_id: str, model: ModelRecord, cases: Sequence[str]) -> list[Path]:
    """Note that a person has found predictions to be right as they are.

    Returns
    -------
    The files that become labels by this: one a case, of those that have not come back before.

    Raises
    ------
    UserDataError
        Where a case was not predicted by this model, or is no image of the dataset; then none is accepted.
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


def drawn_over_predictions(paths: DatasetPaths, cases: Sequence[Case]) -> list[Case]:
    """Those of labelled cases whose label was made from one of our predictions."""
    noted = {uid for uid, row in load_refinements(paths.refinements).items() if row.prediction is not None}
    if not noted:
        return []
    pseudonyms = pseudonyms_of(paths)
    return [
        case
        for case in cases
        if case.segmentation and pseudonyms.uid(case.segmentation.header.sop_instance_uid) in noted
    ]


def _is_back(paths: DatasetPaths, prediction: str) -> bool:
    """Whether an accepted prediction has come back unchanged before: then that is the label."""
    back = {
        uid: replace(refinement, declared=True)
        for uid, refinement in load_refinements(paths.refinements).items()
        if refinement.prediction == prediction and refinement.kind == "unedited"
    }
    note_refinements(paths.refinements, back)
    return bool(back)
