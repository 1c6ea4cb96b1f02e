"""The report page as a step. (The room is ``review/``; a module of that name could not stand beside it.)"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import SimpleITK as sitk
from prefect import task

from tasks.labels import Labels
from tasks.ledger.case_book import load_cases
from tasks.ledger.files import read_json, write_text
from tasks.ledger.iterations import load_iteration
from tasks.ledger.models import ModelRecord, latest_model, load_models
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.store import Store
from tasks.ledger.withdrawals import load_withdrawals
from tasks.nnunet.fold import RESULT
from tasks.retries import RETRIED
from tasks.review.montage import montage
from tasks.review.report import PredictedCase, ReportContent, SuspectCase, render
from tasks.review.suspects import Suspect, suspect_labels
from tasks.settings import load_dataset_settings, load_rois
from tasks.state import state_at


@task(task_run_name="report", **RETRIED)
def write_report(dataset_id: str) -> Path:
    """Write the report page of a dataset: account, learning curve, predictions with pictures."""
    paths = DatasetPaths.of(dataset_id)
    settings = load_dataset_settings(paths.config, dataset_id)
    assembly, _ = state_at(paths, settings)
    model = latest_model(paths)
    structures = load_rois(paths.config, dataset_id).structures
    labelled = [case for case in assembly.images if case.state == "pending"]
    unlabelled = [case for case in assembly.images if case.reason == "unlabelled"]
    aside = [c for c in [*assembly.images, *assembly.segmentations] if c.state == "rejected"]
    content = ReportContent(
        dataset_id=dataset_id,
        written=datetime.now().strftime("%Y-%m-%d %H:%M"),
        in_use=model.model_id if model else None,
        structures=structures,
        account={"labelled": len(labelled), "unlabelled": len(unlabelled), "rejected": len(aside)},
        set_aside=[{"case_id": case.case_id, "reason": case.reason, "detail": case.detail} for case in aside],
        models=[asdict(record) for record in load_models(paths)],
        predictions=_predictions(paths, model, {case.case_id for case in labelled}),
        suspects=_suspects(paths, model, {case.case_id for case in labelled}),
        drift=read_json(paths.drift) if paths.drift.is_file() else None,
    )
    write_text(paths.report, render(content))
    return paths.report


def suspects_of(paths: DatasetPaths, model: ModelRecord) -> list[Suspect]:
    """Labels with which the out-of-fold predictions of a model strongly disagree."""
    folder = paths.home / model.folder
    files = [folder / f"fold_{fold}" / RESULT for fold in model.checkpoints]
    results = [read_json(file) for file in files if file.is_file()]
    cases = {case_id: dice for result in results for case_id, dice in result["cases"].items()}
    own, today = load_iteration(model.iteration(paths)), load_cases(paths.cases)
    labels = {case["case_id"]: case["label_key"] for case in own.cases} if own else {}
    withdrawn = load_withdrawals(paths.withdrawals)

    def to_be_seen(case_id: str) -> bool:
        """One that was withdrawn, or corrected since, is no longer to be looked at."""
        booked = today[case_id][-1] if case_id in today else {}
        same = booked.get("label") == labels.get(case_id)
        return same and not withdrawn.hold(booked.get("patient", ""), case_id)

    return [suspect for suspect in suspect_labels(cases, model.structures) if to_be_seen(suspect.case_id)]


def _suspects(paths: DatasetPaths, model: ModelRecord | None, labelled: set[str]) -> list[SuspectCase]:
    """The suspects with pictures: the label outlined in colour, what the network drew in white."""
    own = load_iteration(model.iteration(paths)) if model is not None else None
    if model is None or own is None:
        return []
    cases, store = {case["case_id"]: case for case in own.cases}, Store(paths.store)
    found = []
    for suspect in suspects_of(paths, model):
        case = cases[suspect.case_id]
        name = f"fold_{case['place']}/validation/{suspect.case_id}.nii.gz"
        image = store.image(suspect.case_id, case["image_key"])
        label = store.label(suspect.case_id, case["label_key"])
        prediction = paths.home / model.folder / name
        # A withdrawn case is gone, and has no picture.
        if suspect.case_id in labelled and image.is_file() and label.is_file() and prediction.is_file():
            found.append(SuspectCase(suspect, montage(image, label, model.labels, prediction)))
    return found


def _predictions(paths: DatasetPaths, model: ModelRecord | None, labelled: set[str]) -> list[PredictedCase]:
    """What the model in use predicted and nobody has corrected yet."""
    if model is None or not paths.predictions(model.model_id).is_dir():
        return []
    found = []
    for record_file in sorted(paths.predictions(model.model_id).glob("[!.]*.json")):
        record = read_json(record_file)
        image = Store(paths.store).image(record["case_id"], record["image_key"])
        label = record_file.with_suffix(".nii.gz")
        if record["case_id"] not in labelled and image.is_file() and label.is_file():
            found.append(
                PredictedCase(
                    record["case_id"],
                    str(record_file.with_suffix(".seg.dcm").relative_to(paths.home)),
                    _volumes_ml(label, model.labels),
                    montage(image, label, model.labels),
                )
            )
    return found


def _volumes_ml(label: Path, labels: Labels) -> dict[str, float]:
    image = sitk.ReadImage(str(label))
    x, y, z = image.GetSpacing()
    voxels = sitk.GetArrayViewFromImage(image)
    return {name: float(mask.sum()) * x * y * z / 1000 for name, mask in labels.masks(voxels)}
