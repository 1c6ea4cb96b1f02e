"""Predictions as DICOM objects, each on record as sent, so that what comes back is known for what it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from tasks.conversion import CaseToConvert
from tasks.dicom.case import case_id_of
from tasks.dicom.image import read_series, slice_numbers
from tasks.dicom.inherited import inherited_header, latest_moment
from tasks.dicom.predicted import AUTOMATIC
from tasks.dicom.rtstruct_writer import StructureSetIdentity, write_rtstruct
from tasks.dicom.seg_writer import SegIdentity, write_seg
from tasks.labels import Masks, what_is_drawn
from tasks.ledger.dataset_key import pseudonyms_of
from tasks.ledger.files import digest_of, read_json, sha256_of_file, whole_file, write_json
from tasks.ledger.models import ModelRecord
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.predictions import label_file, object_file, picture_file, record_file, triage_file
from tasks.ledger.pseudonyms import Pseudonyms
from tasks.ledger.snapshots import newest_sealed
from tasks.ledger.store import Store
from tasks.review.montage import montage
from tasks.settings.dataset import DatasetSettings
from tasks.settings.output import Output

ALGORITHM = "IterSeg nnU-Net"
SERIES_NUMBERS: Mapping[Output, int] = {"SEG": 900, "RTSTRUCT": 901}


def recipe_of(model: ModelRecord, settings: DatasetSettings) -> str:
    """The digest of what a prediction depends on besides its image."""
    names = {name: code.model_dump() for name, code in settings.codes.items() if name in model.structures}
    choices = [settings.prediction.mirroring, sorted(settings.prediction.outputs), names]
    return digest_of([model.checkpoints, model.structures, choices])


def write_prediction(
    paths: DatasetPaths,
    case: CaseToConvert,
    model: ModelRecord,
    settings: DatasetSettings,
    doubt: Mapping[str, Any],
) -> dict[str, Any]:
    """Write a predicted label map as the objects that the settings ask for; the record of the prediction.

    The record is written last: a prediction without it is made again, under the same UIDs.
    """
    folder = paths.predictions(model.model_id)
    image = Store(paths.store).image(case.case_id, case.image_key)
    volume = read_series([Path(file) for file in case.files])
    pseudonyms = pseudonyms_of(paths)
    label, disputed = label_file(folder, case.case_id), _disputed(doubt)
    picture = montage(image, label, model.labels, slices=disputed, numbers=volume.numbers)
    with whole_file(picture_file(folder, case.case_id)) as temporary:
        temporary.write_bytes(picture)
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(label)))
    masks = dict(model.labels.masks(labels))
    voxel_ml = float(np.prod(volume.grid.spacing_mm)) / 1000
    record: dict[str, Any] = {
        "case_id": case.case_id,
        # Of a scan that is shown in the clear, as it is called where the dataset is de-identified.
        "twin": case_id_of(pseudonyms.uid(case.series_instance_uid)),
        "patient": case.patient,
        "image_key": case.image_key,
        "model": model.model_id,
        "recipe": recipe_of(model, settings),
        "structures": model.structures,
        "volume_ml": {name: float(mask.sum() * voxel_ml) for name, mask in masks.items()},
        "doubt": _shown(doubt, volume.numbers),
        "objects": {},
    }
    for kind in settings.prediction.outputs:
        record["objects"][kind] = _write_object(
            paths, kind, record, volume.files, masks, model, settings, pseudonyms
        )
    write_json(record_file(folder, case.case_id), record)
    return record


def _write_object(
    paths: DatasetPaths,
    kind: Output,
    record: Mapping[str, Any],
    image_files: Sequence[Path],
    masks: Masks,
    model: ModelRecord,
    settings: DatasetSettings,
    pseudonyms: Pseudonyms,
) -> str:
    """Write a SEG or an RTSTRUCT, and put it on record as handed out; its SOPInstanceUID."""
    # The same image and model give the same UIDs: writing again changes nothing for the PACS.
    # Keyed: de-identification knows them for ours when they come back, and leaves them as they are.
    series_uid, sop_uid = (
        pseudonyms.uid(f"{record['image_key']} {record['recipe']} {kind} {part}")
        for part in ("series", "instance")
    )
    tracking = {name: pseudonyms.uid(f"{sop_uid} {name}") for name in masks}
    target = object_file(paths.predictions(model.model_id), record["case_id"], kind)
    made = _written(model, image_files[0])
    with whole_file(target) as temporary:
        if kind == "RTSTRUCT":
            structure_set = _structure_set(series_uid, sop_uid, paths.dataset_id, model, made)
            write_rtstruct(temporary, image_files, masks, structure_set)
        else:
            seg = _segmentation(series_uid, sop_uid, tracking, paths.dataset_id, model, settings, made)
            write_seg(temporary, image_files, masks, seg)
    drawn = what_is_drawn(masks)
    # One that is made anew under the same UIDs, on another device, may differ by a voxel: both are ours.
    earlier = read_json(paths.sent / f"{sop_uid}.json") if (paths.sent / f"{sop_uid}.json").is_file() else {}
    sent = {
        **{key: record[key] for key in ("case_id", "twin", "image_key", "model", "recipe", "structures")},
        "kind": kind,
        "sop_instance_uid": sop_uid,
        "series_instance_uid": series_uid,
        "tracking_uids": list(tracking.values()) if kind == "SEG" else [],
        "sha256": sha256_of_file(target),
        "drawn": [d for d in earlier.get("drawn", []) if d != drawn] + [drawn],
        # What had come by then was drawn without it.
        "newest_snapshot": earlier.get("newest_snapshot") or newest_sealed(paths),
    }
    write_json(paths.sent / f"{sop_uid}.json", sent)
    return sop_uid


def _written(model: ModelRecord, image: Path) -> datetime:
    """When a prediction was made, as its objects say: in local time, and the same if it is made again.

    When its model was made; or its image, where that is younger: planning systems sort by it.
    """
    made = datetime.fromisoformat(model.created).astimezone().replace(tzinfo=None, microsecond=0)
    return max(made, latest_moment(inherited_header(image)) or made)


def _structure_set(
    series_uid: str, sop_uid: str, dataset_id: str, model: ModelRecord, made: datetime
) -> StructureSetIdentity:
    number = SERIES_NUMBERS["RTSTRUCT"]
    description = f"{ALGORITHM} {dataset_id} {model.model_id}"
    return StructureSetIdentity(
        series_uid, sop_uid, model.model_id, made, number, generation=AUTOMATIC, description=description
    )


def _segmentation(
    series_uid: str,
    sop_uid: str,
    tracking: Mapping[str, str],
    dataset_id: str,
    model: ModelRecord,
    settings: DatasetSettings,
    made: datetime,
) -> SegIdentity:
    return SegIdentity(
        series_uid,
        sop_uid,
        series_number=SERIES_NUMBERS["SEG"],
        description=f"{ALGORITHM} {dataset_id} {model.model_id}"[:64],
        algorithm=ALGORITHM,
        version=model.model_id,
        written=made,
        codes={name: (code.category, code.type) for name, code in settings.codes.items()},
        tracking=tracking,
    )


def read_prediction(
    folder: Path, case: CaseToConvert, model: ModelRecord, settings: DatasetSettings
) -> dict[str, Any] | None:
    """The record of a finished prediction of exactly this image by exactly this model."""
    file = record_file(folder, case.case_id)
    if not file.is_file():
        return None
    record: dict[str, Any] = read_json(file)
    same = (record["image_key"], record.get("recipe")) == (case.image_key, recipe_of(model, settings))
    whole = all(object_file(folder, case.case_id, kind).is_file() for kind in settings.prediction.outputs)
    return record if same and whole else None


def write_triage(folder: Path, case: CaseToConvert, model: ModelRecord, doubt: Mapping[str, Any]) -> None:
    """Keep what a triage found of a case; there is nothing to see or to send of it."""
    of = {"image_key": case.image_key, "checkpoints": digest_of(model.checkpoints)}
    numbers = slice_numbers([Path(file) for file in case.files]) if _disputed(doubt) else ()
    found = {"case_id": case.case_id, **of, "doubt": _shown(doubt, numbers)}
    write_json(triage_file(folder, case.case_id), found)


def _disputed(doubt: Mapping[str, Any]) -> list[int]:
    """The slices on which the folds disagree, counted from 0."""
    return [int(number) for number, _ in doubt.get("slices", [])]


def _shown(doubt: Mapping[str, Any], numbers: Sequence[int]) -> dict[str, Any]:
    """With the slices on which the folds disagree as a viewer numbers them."""
    return {**doubt, "shown_as": [numbers[number] for number in _disputed(doubt)]}


def read_triage(folder: Path, case: CaseToConvert, model: ModelRecord) -> dict[str, Any] | None:
    """What a triage by exactly this model found of exactly this image."""
    file = triage_file(folder, case.case_id)
    found: dict[str, Any] = read_json(file) if file.is_file() else {}
    same = found.get("checkpoints") == digest_of(model.checkpoints)
    return found if same and found["image_key"] == case.image_key else None
