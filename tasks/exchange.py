"""Exchange: a model goes out as a zip file of plain nnU-Net, or comes in and becomes an ancestor."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from prefect import task
from pydantic import ValidationError

from tasks.cluster.retries import RETRIED
from tasks.errors import ConfigError, UserDataError
from tasks.labels import Labels
from tasks.ledger.files import commit_folder, read_json, scratch_folder, sha256_of_file, write_text
from tasks.ledger.iteration_paths import CARD, CHECKPOINT, PLANS, fold_folder
from tasks.ledger.journal import now
from tasks.ledger.lineages import (
    Lineage,
    keep_plans,
    load_lineages,
    open_lineage,
    resume_lineage,
)
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
from tasks.nnunet.dataset import DESCRIPTION, FINGERPRINT, dataset_json
from tasks.nnunet.export import export_model
from tasks.nnunet.fold import trained_model_folder
from tasks.nnunet.foreign import ForeignModel, look_into, order_of_heads, own_plans, take_over
from tasks.review.card import card_as_markdown, card_of, write_card
from tasks.settings.dataset import DatasetSettings, RoiPatterns, load_rois, roi_file
from tasks.settings.yaml_model import said_of
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
    extra = {CARD: json.dumps(card, indent=1) + "\n", f"{Path(CARD).stem}.md": card_as_markdown(card)}
    folds = sorted(int(fold) for fold in record.checkpoints)
    name = f"Dataset001_{dataset_id}"
    log = paths.log(f"export-{record.model_id}")
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
    try:
        digest = sha256_of_file(archive)
    except OSError as error:
        raise UserDataError(f"the archive cannot be read: {error.strerror}") from None
    model_id = f"import-{digest[:ID_DIGITS]}"
    known = next((r for r in load_models(paths) if r.model_id == model_id), None)
    record = known or _taken(paths, archive, names, settings, model_id, digest)
    _frozen(paths, record)
    resume_lineage(paths, record.lineage, f"the import of {model_id} again")
    current = latest_model(paths)
    if current is None or current.model_id == model_id:
        promote(paths, record, "imported, and no other model is in use")
        save_model(paths, replace(record, promoted=True))
    current = latest_model(paths)
    return {
        "model": record.model_id,
        "lineage": record.lineage,
        "structures": record.structures,
        "in_use": current is not None and current.model_id == record.model_id,
        "new": known is None,
    }


def _rois(paths: DatasetPaths, model: ForeignModel, names: Mapping[str, str]) -> RoiPatterns:
    """The ROI file; where there is none, the model's own structures are taken, under these names."""
    if roi_file(paths.config, paths.dataset_id).is_file():
        return load_rois(paths.config, paths.dataset_id)
    # An export names regions from the outside in, whatever their bits.
    by_label = sorted(model.labels, key=lambda name: min(model.labels[name]))
    structures = [names.get(name, name) for name in by_label]
    try:
        return RoiPatterns.model_validate({name: re.escape(name) for name in structures})
    except ValidationError as error:
        raise ConfigError(f"{said_of(error.errors()[0])}; give --map THEIRS=OURS") from None


def _frozen(paths: DatasetPaths, record: ModelRecord) -> None:
    """Freeze the plans of an imported model's lineage, and write the ROI file that goes with them.

    A run that was killed in between does it again.
    """
    lineage = load_lineages(paths)[0][record.lineage]
    folder = paths.home / record.folder
    if lineage.plans is None:
        contents = {name: read_json(folder / name) for name in (DESCRIPTION, FINGERPRINT)}
        contents[f"{lineage.plans_name}.json"] = read_json(folder / PLANS)
        keep_plans(paths, lineage, contents)
    if not roi_file(paths.config, paths.dataset_id).is_file():
        comment = "# Of the imported model; a pattern matches the whole name of a ROI."
        lines = [f"{json.dumps(name)}: {json.dumps(re.escape(name))}" for name in record.structures]
        write_text(roi_file(paths.config, paths.dataset_id), "\n".join([comment, *lines, ""]))
    write_card(paths, record)


def _taken(
    paths: DatasetPaths,
    archive: Path,
    names: Mapping[str, str],
    settings: DatasetSettings,
    model_id: str,
    digest: str,
) -> ModelRecord:
    model = look_into(archive, settings.configuration)
    not_of_ours_through_others(paths, model)
    rois = _rois(paths, model, names)
    labels = Labels(rois.structures, settings.mask_strategy)
    at = paths.imported(model_id)
    plans = own_plans(model, settings.configuration, settings.image_modality, at.nnunet_dataset)
    folder = trained_model_folder(at.results, plans["plans_name"], settings.configuration)
    heads = order_of_heads(model, labels, names)
    description = described(model, labels, names, settings.image_modality)
    shutil.rmtree(at.root, ignore_errors=True)  # what an interrupted import left
    with scratch_folder(paths.procdata) as scratch:
        take_over(
            archive,
            model,
            heads=heads,
            plans=plans,
            description=description,
            configuration=settings.configuration,
            target=scratch / folder.relative_to(at.root),
            log=paths.log(f"{model_id}"),
        )
        at.root.parent.mkdir(parents=True, exist_ok=True)
        commit_folder(scratch, at.root)
    lineage = open_lineage(
        paths,
        f"the import of {model_id}",
        rois.structures,
        settings.mask_strategy,
        plans["plans_name"],
        settings.configuration,
        model_id,
    )
    record = _record(paths, model, lineage, folder, digest)
    save_model(paths, record)
    return record


def described(model: ForeignModel, labels: Labels, names: Mapping[str, str], modality: str) -> dict[str, Any]:
    """Content of ``dataset.json`` for a model that is taken over, whose structures are ours.

    Regions stay in the order of the network's outputs, whatever the order of the ROI file.
    """
    content = dataset_json(modality, labels, 0)
    if labels.overlapping:
        ours = content["labels"]
        theirs = [names.get(name, name) for name in model.labels]
        content["labels"] = {"background": 0, **{name: ours[name] for name in theirs}}
        content["regions_class_order"] = model.description["regions_class_order"]
    return content


def not_of_ours_through_others(paths: DatasetPaths, model: ForeignModel) -> None:
    """A model of ours that comes back says whom each fold has seen; one that others trained on does not.

    Its folds here would be validated, and the test set scored, by weights that may have learned them.
    """
    ours = {record.digest: record.model_id for record in load_models(paths)}
    known = [ours[digest] for digest in model.ancestors if digest in ours]
    if known and model.card_digest not in ours:
        raise UserDataError(
            f"it was trained on from {known[-1]} of this dataset, whose patients its weights have seen, and "
            "nobody could tell which fold whom. Import a model that has not learned here"
        )


def _record(
    paths: DatasetPaths, model: ForeignModel, lineage: Lineage, folder: Path, digest: str
) -> ModelRecord:
    # A model of this very dataset that comes back has seen whom it had seen.
    own = next((record for record in load_models(paths) if record.digest == model.card_digest), None)
    folds = range(len(model.checkpoints))
    return ModelRecord(
        model_id=lineage.base or "",
        parent=None,
        folder=str(folder.relative_to(paths.home)),
        created=now(),
        structures=lineage.structures,
        mask_strategy=lineage.mask_strategy,
        seen=own.seen if own else {},
        checkpoints={str(fold): sha256_of_file(fold_folder(folder, fold) / CHECKPOINT) for fold in folds},
        epochs={},
        cases={"training": 0, "test": 0},
        validation_dice={},
        test_dice={},
        basis="imported, trained elsewhere",
        lineage=lineage.number,
        imported_from=digest,
        ancestors=[*model.ancestors, model.card_digest] if model.card_digest else [],
        versions=versions(),
    )
