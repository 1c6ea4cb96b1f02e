"""From a network's probabilities to the integers of a label map.

nnU-Net writes one region over another, so that of two regions that cross it keeps one. Where regions
are coded as bits (:mod:`tasks.labels`), each region's probability is decoded by itself instead, and
every overlap survives.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from nnunetv2.utilities.label_handling.label_handling import LabelManager

INSIDE = 0.5
"""A voxel belongs to a region where its probability is above this, as nnU-Net has it."""


class BitLabelManager(LabelManager):  # type: ignore[misc]
    """nnU-Net's label manager, decoding each region into its own bit."""

    def convert_probabilities_to_segmentation(self, predicted_probabilities: Any) -> Any:
        """Probabilities (regions, z, y, x) to integers (z, y, x) of the same kind of array."""
        shape = predicted_probabilities.shape
        if shape[0] != self.num_segmentation_heads:
            raise ValueError(f"{shape[0]} channels for {self.num_segmentation_heads} regions")
        if isinstance(predicted_probabilities, np.ndarray):
            decoded: Any = np.zeros(shape[1:], dtype=np.int16)
        else:
            decoded = torch.zeros(shape[1:], dtype=torch.int16, device=predicted_probabilities.device)
        for region, probability in zip(self.foreground_regions, predicted_probabilities, strict=True):
            decoded[probability > INSIDE] |= _bit(region)
        return decoded


def decoder_for(labels: LabelManager) -> LabelManager:
    """The label manager to decode with: nnU-Net's own, unless its regions are coded as bits."""
    if not labels.has_regions or not _are_bits(labels):
        return labels
    return BitLabelManager(labels.label_dict, labels.regions_class_order)


def _bit(region: Any) -> int:
    return int(min(np.atleast_1d(region)))


def _are_bits(labels: LabelManager) -> bool:
    regions = [sorted(int(v) for v in np.atleast_1d(region)) for region in labels.foreground_regions]
    every = range(1, 2 ** len(regions))
    bits = {region[0] for region in regions}
    return bits == {1 << n for n in range(len(regions))} and all(
        region == [value for value in every if value & region[0]] for region in regions
    )
