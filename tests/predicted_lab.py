"""A dataset with an image that a model has predicted, without a network: the prediction is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from dicom_factory import Series, grid_for, write_series
from numpy.typing import NDArray

from tasks.conversion import to_convert
from tasks.convert import convert_image
from tasks.dicom.case import Case
from tasks.hand_over import write_prediction
from tasks.ingest import take_delivery
from tasks.ledger.files import replace_symlink
from tasks.ledger.models import ModelRecord, save_model
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.predictions import label_file
from tasks.ledger.store import Store
from tasks.settings.dataset import load_dataset_settings, load_rois
from tasks.state import state_at

DAY = date(2026, 11, 20)
DOUBT = {"fold_dice": {}, "entropy": 0.1, "mutual_information": 0.05, "foreground": 0.2, "slices": []}
Masks = Mapping[str, NDArray[np.bool_]]


@dataclass
class Predicted:
    """What was predicted and handed out."""

    paths: DatasetPaths
    series: Series
    model: ModelRecord
    masks: Masks
    record: dict[str, Any]

    def object(self, ending: str) -> Path:
        """The file that was handed out."""
        return self.paths.predictions(self.model.model_id) / f"{self.record['case_id']}.{ending}.dcm"

    def case(self) -> Case:
        """The image as the dataset has it now."""
        settings = load_dataset_settings(self.paths.config, self.paths.dataset_id)
        (case,) = state_at(self.paths, settings)[0].images
        return case


def a_model(paths: DatasetPaths, structures: list[str], model_id: str = "2026-11-20") -> ModelRecord:
    """A record without weights."""
    record = ModelRecord(
        model_id=model_id,
        parent=None,
        folder=f"data/procdata/D/{model_id}__D/model",
        created="2026-11-20T20:00:00+00:00",
        structures=structures,
        seen={},
        checkpoints={"0": sha256(model_id.encode()).hexdigest()},
        epochs={},
        cases={"training": 2, "test": 0},
        validation_dice={},
        test_dice={},
    )
    save_model(paths, record)
    return record


def predict(
    paths: DatasetPaths,
    model: ModelRecord,
    masks: Masks,
    case: Case,
    doubt: Mapping[str, Any] = DOUBT,
) -> dict[str, Any]:
    """As if a model had predicted these masks of an image, which are handed out."""
    settings = load_dataset_settings(paths.config, paths.dataset_id)
    job = to_convert(case, settings, load_rois(paths.config, paths.dataset_id))
    store = Store(paths.store)
    convert_image(job, store)
    image = sitk.ReadImage(str(store.image(job.case_id, job.image_key)))
    labels = np.zeros(sitk.GetArrayViewFromImage(image).shape, dtype=np.uint8)
    for value, name in enumerate(model.structures, start=1):
        labels[masks[name]] = value
    label_map = sitk.GetImageFromArray(labels)
    label_map.CopyInformation(image)
    file = label_file(paths.predictions(model.model_id), job.case_id)
    file.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(label_map, str(file))
    return write_prediction(paths, job, model, settings, doubt)


def predicted(home: Path, tmp_path: Path, masks: Masks, orientation: str = "axial") -> Predicted:
    """Ingest an image, and predict it."""
    (home / "config" / "roi_D.yaml").write_text("".join(f"{name}: {name}\n" for name in masks))
    paths = DatasetPaths.of("D")
    shape = next(iter(masks.values())).shape
    series = write_series(tmp_path / "scan" / "ct", grid=grid_for(shape, orientation))
    take_delivery.fn("D", tmp_path / "scan", DAY)
    model = a_model(paths, list(masks))
    (paths.home / model.folder).mkdir(parents=True)
    replace_symlink(paths.latest, paths.home / model.folder)
    (case,) = state_at(paths, load_dataset_settings(paths.config, "D"))[0].images
    return Predicted(paths, series, model, masks, predict(paths, model, masks, case))
