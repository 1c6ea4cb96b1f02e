"""How well a prediction agrees with a label."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from tasks.labels import Labels, is_blind
from tasks.review.surface import surface_scores


def dice(truth: NDArray[np.bool_], prediction: NDArray[np.bool_]) -> float | None:
    """Dice's coefficient 2|A∩B| / (|A|+|B|) of two masks of one shape (Dice, Ecology 1945).

    Returns
    -------
    A number from 0 to 1; None where both are empty, since nothing is there to agree on.

    Raises
    ------
    ValueError
        Where they differ in shape.
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"masks differ in shape: {truth.shape} and {prediction.shape}")
    both = int(truth.sum()) + int(prediction.sum())
    return 2 * int((truth & prediction).sum()) / both if both else None


def scores_of_files(
    truth: Path, prediction: Path, labels: Labels, tolerance_mm: float, predicted_labels: Labels | None = None
) -> dict[str, dict[str, float | None]]:
    """Compare two label maps (NIfTI) on one grid.

    Voxels with the ignore label in the truth count for nothing. A structure without a voxel in a
    truth that has such voxels may just not have been drawn: it has no score. Nor has any structure where they
    are all that is not drawn: whatever is predicted beside what is drawn could not be seen there.

    Parameters
    ----------
    labels
        Of the truth.
    predicted_labels
        Of the prediction, where a model of another lineage made it: what it does not know has no score.

    Returns
    -------
    ``dice``, ``surface_dice`` and ``hd95_mm``, each structure → value or None.
    """
    image = sitk.ReadImage(str(truth))
    truth_map = sitk.GetArrayFromImage(image)
    predicted_map = sitk.GetArrayFromImage(sitk.ReadImage(str(prediction)))
    known = truth_map != labels.ignore
    partial, blind = not known.all(), is_blind(truth_map, labels.ignore)
    scores: dict[str, dict[str, float | None]] = {"dice": {}, "surface_dice": {}, "hd95_mm": {}}
    predicted_labels = predicted_labels or labels
    for name, true in labels.masks(truth_map):
        if name not in predicted_labels.structures:
            scores["dice"][name] = scores["surface_dice"][name] = scores["hd95_mm"][name] = None
            continue
        predicted = predicted_labels.mask(predicted_map, name)
        judged = predicted & known
        unknown = blind or (partial and not true.any())
        spacing_mm, hidden = image.GetSpacing()[::-1], ~known if partial else None
        surface = None if unknown else surface_scores(true, judged, spacing_mm, tolerance_mm, hidden)
        scores["dice"][name] = None if unknown else dice(true, judged)
        scores["surface_dice"][name] = surface.surface_dice if surface else None
        scores["hd95_mm"][name] = surface.hd95_mm if surface else None
    return scores


def mean_of_defined(scores: Iterable[float | None]) -> float | None:
    """The mean of those that are defined; None where none is."""
    defined = [score for score in scores if score is not None]
    return float(np.mean(defined)) if defined else None


def mean_scores(
    cases: Sequence[Mapping[str, float | None]], structures: Sequence[str]
) -> dict[str, float | None]:
    """Structure → mean over the cases where it is defined; empty without cases."""
    if not cases:
        return {}
    return {structure: mean_of_defined(case[structure] for case in cases) for structure in structures}
