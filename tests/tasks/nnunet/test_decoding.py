"""Fed perfect probabilities, a prediction is the truth: every overlap, by plain nnU-Net every nesting."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from numpy.typing import NDArray

from tasks.labels import Labels
from tasks.nnunet.dataset import dataset_json
from tasks.nnunet.decoding import BitLabelManager, decoder_for


def manager(labels: Labels, found: list[int]) -> Any:
    """nnU-Net's own label manager of a dataset, as its predictor makes it."""
    description = dataset_json("CT", labels, 1, found=found)
    plans = PlansManager({"plans_name": "p", "label_manager": "LabelManager"})
    return plans.get_label_manager(description)


def perfect(manager: Any, label_map: NDArray[np.integer]) -> NDArray[np.float32]:
    """What an ideal network says: one channel a region, or with the background one a label."""
    heads = manager.foreground_regions if manager.has_regions else manager.all_labels
    return np.stack([np.isin(label_map, head) for head in heads]).astype(np.float32)


@pytest.mark.parametrize("count", range(1, 9))
@pytest.mark.parametrize("as_tensor", [False, True])
def test_every_combination_of_up_to_8_rois_comes_back(count: int, as_tensor: bool) -> None:
    label_map = np.arange(2**count).reshape(1, 1, -1)
    own = decoder_for(manager(Labels([f"S{n}" for n in range(count)], "regions"), list(range(2**count))))
    probabilities: Any = perfect(own, label_map)
    found = own.convert_probabilities_to_segmentation(
        torch.from_numpy(probabilities) if as_tensor else probabilities
    )
    np.testing.assert_array_equal(np.asarray(found), label_map)


def test_plain_nnunet_loses_overlaps_that_cross() -> None:
    """Why there is a decoder of our own; it may go the day this fails."""
    label_map = np.arange(4).reshape(1, 1, -1)
    plain = manager(Labels(["A", "B"], "regions"), [0, 1, 2, 3])
    found = plain.convert_probabilities_to_segmentation(perfect(plain, label_map))
    assert not np.array_equal(np.asarray(found), label_map)


@pytest.mark.parametrize(
    "found",
    [
        [0, 1, 3, 7],  # A around B around C
        [0, 4, 6, 7],  # C around B around A
        [0, 2, 3, 6],  # A and C inside B, side by side
        [0, 1, 2, 4],  # three apart
        [0, 1, 5, 2],  # C inside A, B apart
    ],
)
def test_plain_nnunet_decodes_nested_regions_of_an_exported_model(found: list[int]) -> None:
    label_map = np.array(found).reshape(1, 1, -1)
    plain = manager(Labels(["A", "B", "C"], "regions"), found)
    assert not isinstance(plain, BitLabelManager)
    for decoder in (plain, decoder_for(plain)):
        decoded = decoder.convert_probabilities_to_segmentation(perfect(plain, label_map))
        np.testing.assert_array_equal(np.asarray(decoded), label_map)


def test_other_models_are_decoded_by_nnunet() -> None:
    exclusive = manager(Labels(["A", "B"], "label_image"), [0, 1, 2])
    assert decoder_for(exclusive) is exclusive
