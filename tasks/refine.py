"""Refine: what comes back is known for what it is, and what it cost to correct it is measured.

What was handed out is on record. A segmentation of the same image is, in the order of the evidence: the
same instance; one that names it as its predecessor; one in our series; one with a segment that we track; or
one with our structures that overlaps. Whatever else comes was drawn by somebody by themselves. Viewers leave
most of the traces out: OHIF keeps none in a SEG, and reuses our series in an RTSTRUCT.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from prefect import task

from tasks.cluster.retries import RETRIED
from tasks.conversion import OWN_CONVERTER, label_rules
from tasks.dicom.case import Case, DicomFile
from tasks.dicom.convert import LabelRules, structure_masks, unseen
from tasks.dicom.image import SeriesVolume, read_series
from tasks.dicom.provenance import Provenance, provenance_of
from tasks.errors import CaseRejected, may_pass
from tasks.labels import Masks, is_same_drawing, what_is_drawn
from tasks.ledger.dataset_key import pseudonyms_of
from tasks.ledger.models import ModelRecord, load_models
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.predictions import label_file, sent_by_case
from tasks.ledger.refinements import (
    Evidence,
    Refinement,
    load_acceptances,
    load_refinements,
    note_refinements,
)
from tasks.ledger.snapshots import noted_snapshots
from tasks.ledger.store import image_key
from tasks.settings.dataset import DatasetSettings, check_choices, roi_file
from tasks.shown.artifacts import log_broken
from tasks.state import segmentations_of

OVERLAP = 0.5
"""The mean Dice from which on a segmentation with our structures is taken for a correction of ours."""
Sent = Mapping[str, Any]
Shape = tuple[int, int, int]
Mask = NDArray[np.bool_]
T = TypeVar("T")


@task(task_run_name="recognise-refinements", **RETRIED)
def recognise_refinements(dataset_id: str) -> dict[str, int]:
    """Recognise what has come in since the last time, and write it down.

    Returns
    -------
    How many segmentations of images that had been predicted are ``edited``, ``unedited`` or ``new``, and of
    how many that is ``unsettled``, since they could not be read.
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


def _raise_what_may_go_away(error: Exception) -> None:
    """Raise where the disk failed, and not the object; a file that is gone or closed to us stays so."""
    if may_pass(error):
        assert isinstance(error, OSError)
        # Without the file's path, which may be made of a patient's name.
        raise OSError(error.errno, error.strerror) from None


class _Recogniser:
    def __init__(self, paths: DatasetPaths, rules: LabelRules, settings: DatasetSettings) -> None:
        self._paths, self._rules, self._settings = paths, rules, settings
        noted = load_refinements(paths.refinements)
        self._known = {uid: row for uid, row in noted.items() if row.kind != "unsettled"}
        # One that was accepted becomes a label once: it may come back again, and two of one date are none.
        declared = {row.prediction for row in noted.values() if row.declared}
        self._to_declare = load_acceptances(paths.acceptances) - declared
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
        except Exception as error:  # prepare says why the image cannot be used
            _raise_what_may_go_away(error)
            return {}
        for uid, file in new.items():
            try:
                drawn = self._drawn(volume, file, self._rules)
                if drawn is not None:
                    found[uid] = self._refinement(case, file, sent, volume, *drawn)
                elif (untouched := self._untouched(case, file, sent, volume)) is not None:
                    found[uid] = untouched
            except Exception as error:  # one object must not stop every ingest from now on
                _raise_what_may_go_away(error)
                log_broken(case.case_id, "the look for what came back", error)
                # It may be a prediction, and is held back until somebody can tell.
                arrived = file.path.relative_to(self._paths.rawdata).parts[0]
                found[uid] = Refinement(case.case_id, "unsettled", "", None, None, False, arrived)
        return found

    def _drawn(
        self, volume: SeriesVolume, file: DicomFile, rules: LabelRules
    ) -> tuple[Masks, Mask | None] | None:
        """What was drawn, and where nobody has looked; None where it is no label: prepare says why."""
        of = (volume, file.path, file.header.kind, rules)
        try:
            return dict(structure_masks(*of)), unseen(*of)
        except CaseRejected:
            return None

    def _refinement(
        self,
        case: Case,
        file: DicomFile,
        sent: Sequence[Sent],
        volume: SeriesVolume,
        masks: Masks,
        hidden: Mask | None,
    ) -> Refinement:
        from tasks.review.effort import efforts  # late: scipy takes a quarter of a second

        trace = provenance_of(file.path)
        arrived = file.path.relative_to(self._paths.rawdata).parts[0]
        shape = volume.grid.shape
        prediction, evidence = self._evidence(trace, sent, masks, shape, arrived)
        if prediction is None:
            return Refinement(case.case_id, "new", "", None, None, False, arrived)
        predicted = self._predicted(prediction, shape)
        if predicted is None:
            cost = {}
            # It cannot be compared. Of an image that has grown: who says that no person had a part in it.
            grown = prediction["image_key"] != image_key([f.sha256 for f in case.files], OWN_CONVERTER)
            same = grown and file.header.predicted and not trace.approved
        else:
            compared = self._compared(predicted, masks)
            spacing_mm = volume.image.GetSpacing()[::-1]
            tolerance_mm = self._settings.surface_tolerance_mm
            seen = _seen(compared, hidden), _seen(masks, hidden)
            cost = efforts(*seen, spacing_mm, tolerance_mm, hidden)
            same = _are_equal(compared, masks)
        uid = prediction["sop_instance_uid"]
        same |= file.sha256 == prediction["sha256"] or self._is_drawn_in(prediction, masks)
        same = same and hidden is None  # who marks what nobody has looked at has worked
        declared = self._is_declared(trace, uid)
        return Refinement(
            case.case_id,
            "unedited" if same else "edited",
            evidence,
            uid,
            prediction["model"],
            declared,
            arrived,
            cost,
        )

    def _untouched(
        self, case: Case, file: DicomFile, sent: Sequence[Sent], volume: SeriesVolume
    ) -> Refinement | None:
        """What is no label, and just what was handed out: of a model that saw less than there must be.

        It takes the place of no person's label.
        """
        looked_at = self._drawn(volume, file, _with_nothing_asked_for(self._rules))
        if looked_at is None:
            return None
        (masks, hidden), trace = looked_at, provenance_of(file.path)
        arrived = file.path.relative_to(self._paths.rawdata).parts[0]
        prediction, evidence = self._evidence(trace, sent, masks, volume.grid.shape, arrived)
        if prediction is None or hidden is not None or not self._is_drawn_in(prediction, masks):
            return None
        uid, model = prediction["sop_instance_uid"], prediction["model"]
        declared = self._is_declared(trace, uid)
        return Refinement(case.case_id, "unedited", evidence, uid, model, declared, arrived)

    def _is_declared(self, trace: Provenance, uid: str) -> bool:
        declared = trace.approved or uid in self._to_declare
        self._to_declare -= {uid} if declared else set()
        return declared

    def _evidence(
        self, trace: Provenance, sent: Sequence[Sent], masks: Masks, shape: Shape, arrived: str
    ) -> tuple[Sent | None, Evidence]:
        """The prediction that a segmentation was made from, and what tells so.

        Where it bears no trace, only what it looks like: then it has something drawn, and came after the
        prediction. All empty drawings look alike, so that an empty one tells nothing.
        """
        signs: list[tuple[Evidence, Callable[[Sent], bool]]] = [
            ("instance", lambda row: row["sop_instance_uid"] == trace.sop_instance_uid),
            ("predecessor", lambda row: row["sop_instance_uid"] in trace.predecessors),
            ("series", lambda row: row["series_instance_uid"] == trace.series_instance_uid),
            ("tracking", lambda row: not trace.tracking.isdisjoint(row["tracking_uids"])),
        ]
        for evidence, says_so in signs:
            if match := next(filter(says_so, sent), None):
                return match, evidence
        before = [row for row in sent if self._came_after(arrived, row)]
        if not before or not any(mask.any() for mask in masks.values()):
            return None, ""
        if match := next((row for row in reversed(before) if self._is_drawn_in(row, masks)), None):
            return match, "overlap"
        one_kind = [row for row in before if row["kind"] == "SEG"] or before
        overlaps = [(self._overlap(row, masks, shape), row["model"], row) for row in one_kind]
        best = max(overlaps, key=lambda found: found[:2])
        return (best[2], "overlap") if best[0] >= OVERLAP else (None, "")

    def _came_after(self, arrived: str, row: Sent) -> bool:
        """Whether a snapshot was sealed after a prediction was handed out; older records do not say when.

        In the order in which they were sealed: a folder that was filled by hand may bear an earlier day.
        """
        order = list(noted_snapshots(self._paths))
        newest = row.get("newest_snapshot", "")
        if newest not in order or arrived not in order:
            return True
        return order.index(arrived) > order.index(newest)

    def _overlap(self, row: Sent, masks: Masks, shape: Shape) -> float:
        """Mean Dice over the structures that were predicted; 0 where others were drawn."""
        from tasks.review.scores import dice, mean_of_defined

        predicted = self._predicted(row, shape)
        if predicted is None or not set(masks) <= set(row["structures"]):
            return 0.0
        compared = self._compared(predicted, masks)
        nothing = np.zeros(shape, dtype=bool)
        return mean_of_defined(dice(mask, masks.get(name, nothing)) for name, mask in compared.items()) or 0.0

    def _compared(self, predicted: Mapping[str, T], saved: Collection[str]) -> dict[str, T]:
        """Less what nobody need have looked for: structures that may be there though nobody drew them."""
        left_out = {name for name, choice in self._rules.missing.items() if choice == "unlabelled"} - {*saved}
        return {name: value for name, value in predicted.items() if name not in left_out}

    def _is_drawn_in(self, sent: Sent, masks: Masks) -> bool:
        """Whether just this was handed out."""
        drawn = what_is_drawn(masks)
        # A structure that was predicted as nothing is no other name for one that was found: who calls it so
        # has put left and right in order.
        known = drawn.keys() & set(sent["structures"])
        return any(
            known <= version.keys() and is_same_drawing(drawn, self._compared(version, masks))
            for version in sent.get("drawn", ())
        )

    def _predicted(self, row: Sent, shape: Shape) -> Masks | None:
        """What was handed out, of an image of this shape; None where it is gone, or the image has grown."""
        model: ModelRecord | None = self._models.get(row["model"])
        file: Path = label_file(self._paths.predictions(row["model"]), row["case_id"])
        if model is None or not file.is_file():
            return None
        labels = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
        if labels.shape != shape:
            return None
        masks = dict(model.labels.masks(labels))
        # Predicted anew since, with other choices, it lies where this one lay; older notes do not say.
        handed_out = row.get("drawn")
        return masks if not handed_out or what_is_drawn(masks) in handed_out else None


def _with_nothing_asked_for(rules: LabelRules) -> LabelRules:
    return replace(rules, missing=dict.fromkeys(rules.patterns, "absent"))


def _seen(masks: Masks, hidden: Mask | None) -> Masks:
    """What lies where somebody has looked."""
    return masks if hidden is None else {name: mask & ~hidden for name, mask in masks.items()}


def _are_equal(predicted: Masks, saved: Masks) -> bool:
    """Whether nothing was changed, added or left out; what is empty need not be there."""
    names = {name for masks in (predicted, saved) for name, mask in masks.items() if mask.any()}
    return all(
        name in predicted and name in saved and np.array_equal(predicted[name], saved[name]) for name in names
    )


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
