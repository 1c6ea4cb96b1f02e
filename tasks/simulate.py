"""Simulate: what the reader of a simulated lab takes and draws, and what its rounds give.

The segmentations of a dataset are the truth from which a reader is played; the flows that run in a lab are
those of every night.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from prefect import task
from pydicom.uid import generate_uid

from tasks.cluster.retries import RETRIED
from tasks.conversion import conversions, label_rules
from tasks.convert import told_without_names
from tasks.dicom.case import Case
from tasks.dicom.convert import LabelRules, structure_masks, unseen
from tasks.dicom.image import read_series
from tasks.dicom.reasons import Reason
from tasks.dicom.seg_writer import SegIdentity, write_seg
from tasks.errors import CaseRejected, ConfigError, UserDataError
from tasks.labels import Masks
from tasks.ledger.files import read_json, whole_folder, write_json, write_text
from tasks.ledger.models import ModelRecord, latest_model, load_models
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.patients import TEST, places_of_patients
from tasks.ledger.predictions import label_file, sent_by_case
from tasks.ledger.refinements import load_refinements
from tasks.review.curves import standing_alone
from tasks.review.simulated_reader import with_errors, worst_slices
from tasks.settings.dataset import check_choices
from tasks.settings.simulation import NOT_ANNOTATED, Reader, Simulation
from tasks.simulated_lab import Lab, Row, truth_of
from tasks.state import state_at
from tasks.worklist import worklist_of


@task(task_run_name="choose-{lab.label}-{number}", **RETRIED)
def choose(lab: Lab, simulation: Simulation, number: int) -> list[str]:
    """The cases that the reader takes before a round; those of the test set, and a first batch, at first."""
    file = lab.home / f"chosen-{number}.json"
    if file.is_file():  # a run that was killed had chosen them
        found: list[str] = read_json(file)
        return found
    chosen = _first(lab, simulation) if number == 1 else _next(lab, simulation.budget)
    write_json(file, chosen)
    return chosen


def _first(lab: Lab, simulation: Simulation) -> list[str]:
    _, settings = check_choices(lab.paths.config, lab.paths.dataset_id)
    places = places_of_patients(lab.paths.patients)
    cases = [c for c in state_at(lab.paths, settings)[0].images if c.reason == Reason.UNLABELLED]
    others = sorted({case.patient for case in cases if places.get(case.patient) != TEST})
    if len(others) < simulation.first_batch:
        raise UserDataError(
            f"the first batch is to be {simulation.first_batch} patients, and beside the test set there are "
            f"{len(others)}"
        )
    drawn = np.random.default_rng(lab.seed).permutation(len(others))[: simulation.first_batch]
    batch = {others[position] for position in drawn}
    return sorted(c.case_id for c in cases if places.get(c.patient) == TEST or c.patient in batch)


def _next(lab: Lab, budget: int) -> list[str]:
    """The first of the worklist that were predicted."""
    return [row["case_id"] for row in worklist_of(lab.paths) if row["segmentation"]][:budget]


@task(task_run_name="draw-{lab.label}-{number}", **RETRIED)
def deliver(lab: Lab, number: int, chosen: Sequence[str]) -> None:
    """What the reader saves of some cases becomes the delivery of a round."""
    if lab.delivery(number).is_dir():
        return
    source, truth = lab.source, truth_of(lab.source)
    rois, settings = check_choices(source.config, source.dataset_id)
    if gone := sorted(set(chosen) - truth.keys()):
        raise ConfigError(
            f"{', '.join(gone)}: the reader of {lab.label} was to draw them, and the dataset has no label of "
            f"them any more; delete {lab.home} to play it anew"
        )
    to_convert = conversions(settings, rois)
    rules, model = label_rules(settings, rois), latest_model(lab.paths) if number > 1 else None
    with whole_folder(lab.delivery(number)) as folder:
        for case_id in chosen:
            try:
                with told_without_names(to_convert(truth[case_id])):
                    _draw(lab, number, truth[case_id], rules, model, folder)
            except CaseRejected as error:
                raise UserDataError(
                    f"the reader of {lab.label} cannot draw {case_id}: {error.reason}, {error.detail}. "
                    f"`iterseg prepare {source.dataset_id}` sets it aside; then delete {lab.home} to play it "
                    "anew"
                ) from None


def _draw(
    lab: Lab, number: int, case: Case, rules: LabelRules, model: ModelRecord | None, folder: Path
) -> None:
    """Save a case as the reader draws it; raises :class:`CaseRejected` where there is nothing to draw."""
    files = [file.path for file in case.files]
    volume = read_series(files)
    assert case.segmentation is not None
    of = (volume, case.segmentation.path, case.segmentation.header.kind, rules)
    # What is known not to be there is drawn as nothing: an object without a segment is none.
    absent = [name for name, choice in rules.missing.items() if choice == "absent"]
    drawn = {name: np.zeros(volume.grid.shape, dtype=bool) for name in absent}
    drawn |= dict(structure_masks(*of))
    if not drawn:
        raise CaseRejected(Reason.MISSING_ROI, "none of its structures was drawn")
    hidden = unseen(*of)
    tracking: dict[str, str] = {}
    if model is not None:
        predicted, tracking = _handed_out(lab, model, case.case_id)
        spacing_mm = volume.image.GetSpacing()[::-1]
        drawn = corrected(lab.arm.reader, drawn, predicted, spacing_mm, seed_of(lab, case.case_id))
    if hidden is not None:  # where nobody has looked, a simulated reader cannot either
        drawn[NOT_ANNOTATED] = drawn.get(NOT_ANNOTATED, False) | hidden
    series, instance = (
        generate_uid(entropy_srcs=[lab.label, str(number), case.case_id, part]) for part in ("s", "i")
    )
    identity = SegIdentity(series, instance, 2, "drawn by a simulated reader", None, "1", tracking=tracking)
    write_seg(folder / f"{case.case_id}.seg.dcm", files, drawn, identity)


def seed_of(lab: Lab, case_id: str) -> int:
    """A reader makes the same errors in a case whenever they are asked."""
    return int(sha256(f"{lab.seed} {case_id}".encode()).hexdigest()[:12], 16)


def _handed_out(lab: Lab, model: ModelRecord, case_id: str) -> tuple[Masks, dict[str, str]]:
    """What was predicted, and the UIDs by which its segments are known again."""
    file = label_file(lab.paths.predictions(model.model_id), case_id)
    predicted = dict(model.labels.masks(sitk.GetArrayFromImage(sitk.ReadImage(str(file)))))
    sent = [row for row in sent_by_case(lab.paths).get(case_id, []) if row["model"] == model.model_id]
    tracking: list[str] = next((row["tracking_uids"] for row in sent if row["kind"] == "SEG"), [])
    return predicted, dict(zip(predicted, tracking, strict=False))


def corrected(
    reader: Reader, truth: Masks, predicted: Masks, spacing_mm: Sequence[float], seed: int
) -> dict[str, NDArray[np.bool_]]:
    """What a reader saves who was handed a prediction: structure → mask (slices, rows, columns)."""
    if reader.kind == "truth":
        return dict(truth)
    if reader.kind == "errors":
        return with_errors(truth, spacing_mm, reader.error_mm, seed)
    drawn = {name: mask.copy() for name, mask in predicted.items()}
    looked_at = worst_slices(predicted, truth, reader.slices)
    for name, mask in drawn.items():
        mask[looked_at] = truth[name][looked_at] if name in truth else False
    hidden = np.ones_like(next(iter(drawn.values())))
    hidden[looked_at] = False
    return {**{name: mask for name, mask in drawn.items() if mask.any()}, NOT_ANNOTATED: hidden}


@task(task_run_name="note-{lab.label}-{number}", **RETRIED)
def note_round(lab: Lab, number: int, chosen: Sequence[str]) -> None:
    """What a round gave: the scores of its model on the test set, and what its corrections cost."""
    paths = lab.paths
    model, in_use = load_models(paths)[-1], latest_model(paths)
    arrived = lab.delivery(number).name
    found = [r for r in load_refinements(paths.refinements).values() if r.arrived == arrived]
    row: Row = {
        "round": number,
        "corrected": len(chosen) if number > 1 else 0,
        "labelled": model.cases["training"],
        "model": model.model_id,
        "in_use": in_use.model_id if in_use else None,
        "validation_dice": model.validation_dice,
        "test_dice": model.test_dice,
        "test_surface_dice": model.test_surface_dice,
        "test_dice_in_use": in_use.test_dice if in_use else {},
        "training_s": sum(model.training_s.values()),
        **{
            figure: sum(e[figure] for refinement in found for e in refinement.effort.values())
            for figure in ("added_path_length_mm", "edited_slices", "edited_volume_ml")
        },
    }
    lab.note(row)


@task(task_run_name="curves", **RETRIED)
def write_curves(source: DatasetPaths, simulation: Simulation) -> tuple[Path, list[Row]]:
    """Write the page, its pictures and its numbers, of all rounds that are finished; page and summary."""
    from tasks.review.learning import curves, render, summary  # late: scipy.stats takes a second

    runs: dict[str, dict[int, list[Row]]] = {}
    for name, arm in simulation.arms.items():
        found = {seed: Lab(source, name, arm, seed).rounds() for seed in simulation.seeds}
        runs[name] = {seed: rounds for seed, rounds in found.items() if rounds}
    folder = source.results / "simulation"
    write_json(folder / "rounds.json", {"version": 1, "simulation": simulation.model_dump(), "arms": runs})
    for name, picture in curves(runs).items():
        write_text(folder / f"{name}.svg", standing_alone(picture))
    write_text(folder / "simulation.html", render(source.dataset_id, runs))
    return folder / "simulation.html", summary(runs)
