"""Exchange: a model goes out as a zip file of plain nnU-Net, or comes in and becomes an ancestor."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import task

from tasks.labels import Labels
from tasks.ledger.files import scratch_folder, sha256_of_file, write_text
from tasks.ledger.lineages import DESCRIPTION, FINGERPRINT, keep_plans, open_lineage
from tasks.ledger.models import (
    ModelRecord,
    check_weights,
    latest_model,
    load_model,
    load_models,
    promote,
    save_model,
)
from tasks.ledger.paths import DatasetPaths
from tasks.nnunet.dataset import dataset_json
from tasks.nnunet.export import export_model
from tasks.nnunet.fold import trained_model_folder
from tasks.nnunet.foreign import CHECKPOINT, ForeignModel, look_into, order_of_heads, own_plans, take_over
from tasks.retries import RETRIED
from tasks.review.card import card_as_markdown, card_of
from tasks.settings import DatasetSettings, RoiPatterns, load_rois
from tasks.versions import versions

ID_DIGITS = 8


@task(task_run_name="export-model", **RETRIED)
def export(dataset_id: str, model_id: str, target: Path | None) -> dict[str, Any]:
    """Write a model as a file that plain nnU-Net installs; its weights are those on record."""
    paths = DatasetPaths.of(dataset_id)
    record = load_model(paths, model_id)
    check_weights(paths, record)
    file = target or paths.exported(record.model_id)
    card = card_of(paths, record)
    extra = {"model_card.json": json.dumps(card, indent=1) + "\n", "model_card.md": card_as_markdown(card)}
    folds = sorted(int(fold) for fold in record.checkpoints)
    name = f"Dataset001_{dataset_id}"
    log = paths.logs / f"export-{record.model_id}.log"
    export_model(paths.home / record.folder, folds, file, name, extra, log)
    return {"model": record.model_id, "file": str(file), "sha256": sha256_of_file(file)}


@task(task_run_name="import-model", **RETRIED)
def take_model(
    dataset_id: str, archive: Path, names: Mapping[str, str], settings: DatasetSettings
) -> dict[str, Any]:
    """Make a model of plain nnU-Net the ancestor of a new lineage.

    Where no model is in use it is used at once, so that there are predictions to correct.

    Parameters
    ----------
    names
        Their name of a structure → ours.

    Returns
    -------
    ``model``, ``lineage``, ``structures``, ``in_use``, ``new`` (False: it was imported before).
    """
    paths = DatasetPaths.of(dataset_id)
    digest = sha256_of_file(archive)
    model_id = f"import-{digest[:ID_DIGITS]}"
    known = next((r for r in load_models(paths) if r.model_id == model_id), None)
    if known is None:
        model = look_into(archive, settings.configuration)
        rois = _rois(paths, model, names)
        known = _taken(paths, archive, model, names, settings, rois, model_id, digest)
        new = True
    else:
        new = False
    if latest_model(paths) is None:
        promote(paths, known, "imported, and no other model is in use")
        save_model(paths, replace(known, promoted=True))
    current = latest_model(paths)
    return {
        "model": known.model_id,
        "lineage": known.lineage,
        "structures": known.structures,
        "in_use": current is not None and current.model_id == known.model_id,
        "new": new,
    }


def _rois(paths: DatasetPaths, model: ForeignModel, names: Mapping[str, str]) -> RoiPatterns:
    """The ROI file; where there is none, one with the model's own structures is written."""
    file = paths.config / f"roi_{paths.dataset_id}.yaml"
    if not file.is_file():
        structures = [names.get(name, name) for name in model.labels]
        lines = [f"{json.dumps(name)}: {json.dumps(re.escape(name))}" for name in structures]
        comment = "# Of the imported model; a pattern matches the whole name of a ROI."
        write_text(file, "\n".join([comment, *lines, ""]))
    return load_rois(paths.config, paths.dataset_id)


def _taken(
    paths: DatasetPaths,
    archive: Path,
    model: ForeignModel,
    names: Mapping[str, str],
    settings: DatasetSettings,
    rois: RoiPatterns,
    model_id: str,
    digest: str,
) -> ModelRecord:
    labels = Labels(rois.structures, settings.mask_strategy)
    heads = order_of_heads(model, labels, names)
    at = paths.imported(model_id)
    plans = own_plans(model, settings.configuration, settings.image_modality, at.nnunet_dataset)
    plans_name = str(plans["plans_name"])
    description = dataset_json(settings.image_modality, labels, 0)
    if labels.overlapping:
        description["regions_class_order"] = model.description["regions_class_order"]
    folder = trained_model_folder(at.results, plans_name, settings.configuration)
    shutil.rmtree(at.root, ignore_errors=True)  # what an interrupted import left
    with scratch_folder(paths.procdata) as scratch:
        made = scratch / folder.relative_to(at.root)
        take_over(
            archive,
            model,
            heads=heads,
            plans=plans,
            description=description,
            configuration=settings.configuration,
            target=made,
            log=paths.logs / f"{model_id}.log",
        )
        at.root.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(scratch, at.root)
    folds = [str(number) for number in range(len(model.checkpoints))]
    why = f"the import of {archive.stem}"[:200]
    lineage = open_lineage(
        paths, why, rois.structures, settings.mask_strategy, plans_name, settings.configuration, model_id
    )
    contents = {f"{plans_name}.json": plans, DESCRIPTION: description, FINGERPRINT: model.fingerprint}
    keep_plans(paths, lineage, contents)
    record = ModelRecord(
        model_id=model_id,
        parent=None,
        folder=str(folder.relative_to(paths.home)),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        structures=rois.structures,
        mask_strategy=settings.mask_strategy,
        seen={},
        checkpoints={fold: sha256_of_file(folder / f"fold_{fold}" / CHECKPOINT) for fold in folds},
        epochs={},
        cases={"training": 0, "test": 0},
        validation_dice={},
        test_dice={},
        basis="imported, trained elsewhere",
        lineage=lineage.number,
        imported_from=digest,
        versions=versions(),
    )
    save_model(paths, record)
    return record
