"""Score a fold on the cases it never saw, from its final weights."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.evaluation.evaluate_predictions import compute_metrics
from nnunetv2.inference.export_prediction import (
    convert_predicted_logits_to_segmentation_with_correct_shape,
)
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from tasks.ledger.files import write_json
from tasks.nnunet.dataset import integers_of
from tasks.nnunet.decoding import decoder_for
from tasks.nnunet.trainer import IterSegTrainer


def validate_fold(trainer: IterSegTrainer) -> dict[str, Any]:
    """Predict the validation cases of a trained fold and compare them with their labels.

    nnU-Net's own ``perform_actual_validation`` does the same with two process pools that import
    torch again, 12 s for a fold of seconds.

    Returns
    -------
    ``validation_dice`` (structure → mean Dice over the cases where it is defined, None where it is
    nowhere) and ``cases`` (case id → structure → Dice or None).
    """
    folder = Path(trainer.output_folder) / "validation"
    folder.mkdir(exist_ok=True)
    truth = Path(trainer.preprocessed_dataset_folder_base) / "gt_segmentations"
    ending = trainer.dataset_json["file_ending"]
    predictor = _predictor(trainer)
    _, case_ids = trainer.do_split()
    dataset = trainer.dataset_class(trainer.preprocessed_dataset_folder, case_ids)
    structures = _as_nnunet_has_them(integers_of(trainer.dataset_json))
    reader = trainer.plans_manager.image_reader_writer_class()
    cases: dict[str, dict[str, float | None]] = {}
    for case_id in case_ids:
        data, _, _, properties = dataset.load_case(case_id)
        logits = predictor.predict_sliding_window_return_logits(torch.from_numpy(np.array(data[:])))
        predicted = convert_predicted_logits_to_segmentation_with_correct_shape(
            logits.cpu(),
            trainer.plans_manager,
            trainer.configuration_manager,
            decoder_for(trainer.label_manager),
            properties,
        )
        reader.write_seg(predicted, str(folder / f"{case_id}{ending}"), properties)
        cases[case_id] = _dice(
            truth / f"{case_id}{ending}", folder / f"{case_id}{ending}", trainer, structures
        )
    mean = {name: mean_or_none([c[name] for c in cases.values()]) for name in structures}
    write_json(folder / "summary.json", {"mean": mean, "cases": cases})
    return {"validation_dice": mean, "cases": cases}


def _as_nnunet_has_them(integers: dict[str, list[int]]) -> dict[str, int | tuple[int, ...]]:
    """Structure → its integer, or the tuple of its integers, as nnU-Net's metrics want them."""
    return {name: tuple(many) if len(many) > 1 else many[0] for name, many in integers.items()}


def _dice(
    truth: Path, prediction: Path, trainer: IterSegTrainer, structures: dict[str, int | tuple[int, ...]]
) -> dict[str, float | None]:
    """Structure → Dice where something is known: ignored voxels count for nothing.

    In a partly labelled case a structure without a voxel may just not have been drawn: it has no Dice.
    """
    reader = trainer.plans_manager.image_reader_writer_class()
    ignore = trainer.label_manager.ignore_label
    metrics = compute_metrics(str(truth), str(prediction), reader, list(structures.values()), ignore)[
        "metrics"
    ]
    partial = ignore is not None and bool((reader.read_seg(str(truth))[0] == ignore).any())
    return {
        name: None if partial and metrics[key]["n_ref"] == 0 else _number(metrics[key]["Dice"])
        for name, key in structures.items()
    }


def mean_or_none(values: list[float | None]) -> float | None:
    """The mean of what is defined; None where nothing is."""
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def _number(value: float) -> float | None:
    """A structure that is in neither label nor prediction has no Dice."""
    return None if math.isnan(value) else float(value)


def _predictor(trainer: IterSegTrainer) -> nnUNetPredictor:
    trainer.set_deep_supervision_enabled(False)
    trainer.network.eval()
    predictor = nnUNetPredictor(
        use_mirroring=trainer.mirroring,
        perform_everything_on_device=trainer.device.type == "cuda",
        device=trainer.device,
        verbose=False,
        allow_tqdm=False,
    )
    predictor.manual_initialization(
        trainer.network,
        trainer.plans_manager,
        trainer.configuration_manager,
        None,
        trainer.dataset_json,
        type(trainer).__name__,
        trainer.inference_allowed_mirroring_axes,
    )
    return predictor
