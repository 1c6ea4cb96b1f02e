"""How well a prediction agrees with a label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from tasks.labels import Labels


def dice(truth: NDArray[np.bool_], prediction: NDArray[np.bool_]) -> float | None:
    """Dice's coefficient 2|A∩B| / (|A|+|B|) of two masks of one shape (Dice, Ecology 1945).

    Returns
    -------
    A number from 0 to 1; None where both are empty, since nothing is there to agree on.
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"masks differ in shape: {truth.shape} and {prediction.shape}")
    both = int(truth.sum()) + int(prediction.sum())
    return 2 * int((truth & prediction).sum()) / both if both else None


def dice_of_files(truth: Path, prediction: Path, labels: Labels) -> dict[str, float | None]:
    """Structure → Dice of two label maps (NIfTI) on one grid.

    Voxels with the ignore label in the truth count for nothing. A structure without a voxel in a
    truth that has such voxels may just not have been drawn: it has no Dice.
    """
    truth_map = sitk.GetArrayFromImage(sitk.ReadImage(str(truth)))
    predicted_map = sitk.GetArrayFromImage(sitk.ReadImage(str(prediction)))
    known = truth_map != labels.ignore
    partial = not known.all()
    scores: dict[str, float | None] = {}
    for (name, true), (_, predicted) in zip(
        labels.masks(truth_map), labels.masks(predicted_map), strict=True
    ):
        scores[name] = None if partial and not true.any() else dice(true, predicted & known)
    return scores


def mean_dice(
    cases: Sequence[Mapping[str, float | None]], structures: Sequence[str]
) -> dict[str, float | None]:
    """Structure → mean Dice over the cases where it is defined; empty without cases."""
    if not cases:
        return {}
    means: dict[str, float | None] = {}
    for structure in structures:
        defined = [value for case in cases if (value := case[structure]) is not None]
        means[structure] = float(np.mean(defined)) if defined else None
    return means
