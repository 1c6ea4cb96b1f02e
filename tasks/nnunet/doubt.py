"""Where the folds of a model disagree: figures that say how sure an ensemble is of an image.

All of them are taken in the network's own voxels, in the region in which any fold sees any structure: in the
whole image the background would drown them. Entropy and mutual information: Houlsby et al., Bayesian
Active Learning by Disagreement (2011), with the folds for the posterior; in nats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tasks.nnunet.ensemble import Ensemble, Preprocessed

ALMOST_FOREGROUND = 1000
"""Where no fold sees anything, so many voxels that come nearest to it are looked at."""
SLICES_NAMED = 5


def doubt_of(
    ensemble: Ensemble,
    folds: Sequence[torch.Tensor],
    image: Preprocessed,
    structures: Mapping[str, Sequence[int]],
) -> dict[str, Any]:
    """How much the folds disagree about an image.

    Parameters
    ----------
    folds
        Logits of each fold, (classes, z, y, x).
    structures
        Structure → its integers in a label map.

    Returns
    -------
    ``fold_dice``
        Structure → mean Dice over all pairs of folds; a pair in which neither sees it counts as 1. None where
        no fold sees it.
    ``entropy``
        Of the mean of the folds' probabilities, mean over the region.
    ``mutual_information``
        That entropy less the mean of the folds' own ones: what more data could settle (BALD).
    ``foreground``
        The share of the image in which any fold sees a structure.
    ``slices``
        The slices of the image, counted from 0 along its first axis, on which the area that is in dispute
        is largest: pairs of slice and mm², the largest first.
    """
    maps = torch.stack([_decoded(ensemble, fold) for fold in folds])
    seen = (maps > 0).any(0)
    entropy, mutual = _entropies(ensemble, folds, _region(ensemble, folds, seen))
    box = _box(seen)
    near = maps[(slice(None), *box)].numpy()
    return {
        "fold_dice": {name: _pairwise_dice(np.isin(near, values)) for name, values in structures.items()},
        "entropy": entropy,
        "mutual_information": mutual,
        "foreground": float(seen.float().mean()),
        "slices": _disputed_slices(ensemble, maps, image),
    }


def _decoded(ensemble: Ensemble, logits: torch.Tensor) -> torch.Tensor:
    return torch.as_tensor(ensemble.label_manager.convert_logits_to_segmentation(logits.float())).to(
        torch.int16
    )


def _region(ensemble: Ensemble, folds: Sequence[torch.Tensor], seen: torch.Tensor) -> torch.Tensor:
    if bool(seen.any()):
        return seen
    first = 0 if ensemble.label_manager.has_regions else 1
    planes = [[fold[:, z] for fold in folds] for z in range(len(seen))]
    foreground = torch.stack([_own(ensemble, plane).mean(0)[first:].amax(0) for plane in planes])
    nearest = foreground.flatten().topk(min(ALMOST_FOREGROUND, seen.numel())).indices
    region = torch.zeros(seen.numel(), dtype=torch.bool)
    region[nearest] = True
    return region.view(seen.shape)


def _own(ensemble: Ensemble, plane: Sequence[torch.Tensor]) -> torch.Tensor:
    """Probabilities (folds, classes, voxels); classes are background and labels, or regions, each by itself.

    Of one plane of the image at a time: in single precision those of all five folds of a large CT would take
    more memory than its prediction.
    """
    values = torch.stack([logits.float() for logits in plane])
    return torch.sigmoid(values) if ensemble.label_manager.has_regions else torch.softmax(values, 1)


def _entropies(
    ensemble: Ensemble, folds: Sequence[torch.Tensor], region: torch.Tensor
) -> tuple[float, float]:
    """Mean over a region of the entropy of the mean, and of what of it the folds do not share."""
    regions, voxels = bool(ensemble.label_manager.has_regions), int(region.sum())
    entropy = mutual = 0.0
    for z, inside in enumerate(region):
        if not bool(inside.any()):
            continue
        own = _own(ensemble, [fold[:, z, inside] for fold in folds])
        total = _entropy(own.mean(0), regions)
        expected = torch.stack([_entropy(probabilities, regions) for probabilities in own]).mean(0)
        entropy += float(total.sum(dtype=torch.float64))
        mutual += float((total - expected).clamp(min=0).sum(dtype=torch.float64))
    return entropy / voxels, mutual / voxels


def _entropy(probabilities: torch.Tensor, regions: bool) -> torch.Tensor:
    """(voxels,); regions are as many yes-or-no questions, whose entropies add up."""
    entropy = torch.special.entr(probabilities).sum(0)
    return entropy + torch.special.entr(1 - probabilities).sum(0) if regions else entropy


def _box(seen: torch.Tensor) -> tuple[slice, ...]:
    """Around everything that any fold sees; one voxel where that is nothing."""
    where = seen.nonzero()
    if not len(where):
        return tuple(slice(0, 1) for _ in range(seen.ndim))
    low, high = where.amin(0).tolist(), where.amax(0).tolist()
    return tuple(slice(int(a), int(b) + 1) for a, b in zip(low, high, strict=True))


def _pairwise_dice(masks: NDArray[np.bool_]) -> float | None:
    """Of masks (folds, z, y, x)."""
    sizes = masks.sum(axis=(1, 2, 3))
    if not sizes.any() or len(masks) < 2:
        return None
    scores = [
        2 * float(np.count_nonzero(masks[a] & masks[b])) / both
        if (both := float(sizes[a] + sizes[b]))
        else 1.0
        for a, b in combinations(range(len(masks)), 2)
    ]
    return float(np.mean(scores))


def _disputed_slices(ensemble: Ensemble, maps: torch.Tensor, image: Preprocessed) -> list[tuple[int, float]]:
    axis = ensemble.transpose_forward.index(0)
    dispute = (maps != maps[:1]).any(0)
    counts = dispute.sum(dim=tuple(a for a in range(dispute.ndim) if a != axis)).tolist()
    pixel_mm2 = float(np.prod([s for a, s in enumerate(ensemble.spacing_mm) if a != axis]))
    first = int(image.properties["bbox_used_for_cropping"][axis][0])
    height = int(image.properties["shape_after_cropping_and_before_resampling"][axis])
    areas: dict[int, float] = {}
    for position, count in enumerate(counts):
        own = first + int((position + 0.5) * height / len(counts))
        areas[own] = max(areas.get(own, 0.0), count * pixel_mm2)
    ranked = sorted(areas.items(), key=lambda item: (-item[1], item[0]))
    return [(number, round(area, 1)) for number, area in ranked[:SLICES_NAMED] if area > 0]
