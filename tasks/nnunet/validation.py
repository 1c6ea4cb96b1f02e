"""Score a fold on the cases it never saw, from its final weights."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from nnunetv2.evaluation.evaluate_predictions import compute_metrics
from nnunetv2.inference.export_prediction import (
    convert_predicted_logits_to_segmentation_with_correct_shape,
)
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from tasks.labels import is_blind
from tasks.ledger.files import read_json, write_json
from tasks.ledger.images import write_image
from tasks.ledger.iteration_paths import VALIDATION_SUMMARY
from tasks.nnunet.dataset import TRUTH, integers_of
from tasks.nnunet.decoding import decoder_for
from tasks.nnunet.logits import logits_of
from tasks.nnunet.trainer import IterSegTrainer, TrainingStopped, fits
from tasks.processes.program import asked_to_stop, tell


def validate_fold(trainer: IterSegTrainer, checkpoint_sha256: str, *, trained_here: bool) -> dict[str, Any]:
    """Predict the validation cases of a trained fold and compare them with their labels.

    nnU-Net's own ``perform_actual_validation`` does the same with two process pools that import
    torch again, 12 s for a fold of seconds. Each score is written as it is there: an attempt that
    was interrupted is gone on with.

    Parameters
    ----------
    checkpoint_sha256
        Of the weights that ``trainer`` has: scores of other weights are not taken over.
    trained_here
        Whether this program has done an epoch. One that has not scores a case at least, however soon it
        has to end, as a training does an epoch: else it would never get further.

    Returns
    -------
    ``validation_dice`` (structure → mean Dice over the cases where it is defined, None where it is
    nowhere) and ``cases`` (case id → structure → Dice or None).

    Raises
    ------
    TrainingStopped
        Where the program was asked to end, or its job ends before one case more is scored.
    """
    summary = Path(trainer.output_folder) / VALIDATION_SUMMARY
    summary.parent.mkdir(exist_ok=True)
    made_by = {"checkpoint_sha256": checkpoint_sha256, "mirroring": trainer.mirroring}
    cases, longest_s = _scored_before(summary, made_by)
    structures = _as_nnunet_has_them(integers_of(trainer.dataset_json))
    predictor = _predictor(trainer)
    _, case_ids = trainer.do_split()
    something_done = trained_here
    for case_id in (c for c in case_ids if c not in cases):
        if asked_to_stop() or (something_done and not fits(longest_s)):
            raise TrainingStopped(len(cases))
        something_done, begun = True, time.monotonic()
        scores = _dice(_predicted(trainer, predictor, case_id), trainer, structures)
        longest_s = max(longest_s, time.monotonic() - begun)
        trainer.still_ours()
        cases[case_id] = scores
        write_json(summary, {"made_by": made_by, "longest_case_s": longest_s, "cases": cases})
        tell(validated=len(cases), of=len(case_ids), seconds=time.monotonic() - begun)
    mean = {name: mean_or_none([scores[name] for scores in cases.values()]) for name in structures}
    return {"validation_dice": mean, "cases": cases}


def _scored_before(
    summary: Path, made_by: dict[str, Any]
) -> tuple[dict[str, dict[str, float | None]], float]:
    """The scores of an attempt that was interrupted, and how long its longest case took, in seconds."""
    known = read_json(summary) if summary.is_file() else {}
    if known.get("made_by") != made_by:
        return {}, 0.0
    return known["cases"], known["longest_case_s"]


def _predicted(trainer: IterSegTrainer, predictor: nnUNetPredictor, case_id: str) -> Path:
    """Write the prediction of a preprocessed case, on the grid of its label."""
    name = f"{case_id}{trainer.dataset_json['file_ending']}"
    file = Path(trainer.output_folder) / VALIDATION_SUMMARY.with_name(name)
    dataset = trainer.dataset_class(trainer.preprocessed_dataset_folder, [case_id])
    data, _, _, properties = dataset.load_case(case_id)
    predicted = convert_predicted_logits_to_segmentation_with_correct_shape(
        logits_of(predictor, torch.from_numpy(np.array(data[:]))),
        trainer.plans_manager,
        trainer.configuration_manager,
        decoder_for(trainer.label_manager),
        properties,
    )
    prediction = sitk.GetImageFromArray(predicted)
    prediction.CopyInformation(sitk.ReadImage(str(_truth(trainer, file))))
    write_image(prediction, file)
    return file


def _truth(trainer: IterSegTrainer, prediction: Path) -> Path:
    """The label of a predicted case."""
    return Path(trainer.preprocessed_dataset_folder_base) / TRUTH / prediction.name


def _as_nnunet_has_them(integers: dict[str, list[int]]) -> dict[str, int | tuple[int, ...]]:
    """Structure → its integer, or the tuple of its integers, as nnU-Net's metrics want them."""
    return {name: tuple(many) if len(many) > 1 else many[0] for name, many in integers.items()}


def _dice(
    prediction: Path, trainer: IterSegTrainer, structures: dict[str, int | tuple[int, ...]]
) -> dict[str, float | None]:
    """Structure → Dice where something is known: ignored voxels count for nothing.

    In a partly labelled case a structure without a voxel may just not have been drawn: it has no Dice. Where
    no voxel is known to be background none has one, since nothing beside what is drawn could be seen.
    """
    truth = _truth(trainer, prediction)
    reader = trainer.plans_manager.image_reader_writer_class()
    ignore = trainer.label_manager.ignore_label
    metrics = compute_metrics(str(truth), str(prediction), reader, list(structures.values()), ignore)[
        "metrics"
    ]
    drawn = reader.read_seg(str(truth))[0]
    partial = ignore is not None and bool((drawn == ignore).any())
    blind = ignore is not None and is_blind(drawn, ignore)
    return {
        name: None if blind or (partial and metrics[key]["n_ref"] == 0) else _number(metrics[key]["Dice"])
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
