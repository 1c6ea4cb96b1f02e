"""Overlapping structures and structures that were not drawn, through real training to a prediction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hippocampus_lab import TRAINED, Drawn, lab, mean_dice_of
from numpy.typing import NDArray
from tests_support import PrefectServer

from tasks.ledger.files import read_json

GOOD_ENOUGH = 0.5
"""Dice of a small network after 400 steps; without having learned a structure it is near 0."""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_structures_that_overlap_are_learned_and_predicted_overlapping(
    home: Path, tmp_path: Path, prefect_server: PrefectServer
) -> None:
    """`Middle` crosses both others; plain nnU-Net could not give it back."""

    def drawn(_number: int, labels: NDArray[np.uint8]) -> Drawn:
        middle = labels > 0
        rows = np.flatnonzero(middle.any(axis=(0, 2)))
        middle[:, : rows[len(rows) // 4]] = middle[:, rows[3 * len(rows) // 4] :] = False
        return {"Anterior": labels == 1, "Posterior": labels == 2, "Middle": middle}

    rois = "Anterior: Anterior\nPosterior: Posterior\nMiddle: Middle\n"
    delivery, truth = lab(home, tmp_path, "mask_strategy: regions\n", rois, drawn)
    scores, found = mean_dice_of(home, tmp_path, truth, delivery, prefect_server)
    print(scores)
    assert min(scores.values()) > GOOD_ENOUGH
    assert all((masks["Middle"] & masks["Anterior"]).any() for masks in found)
    assert all((masks["Middle"] & masks["Posterior"]).any() for masks in found)
    description = read_json(home / "data" / "results" / "D" / "latest" / "dataset.json")
    assert set(description["regions_class_order"]) == {1, 2, 4}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_structure_that_half_of_the_cases_lack_is_learned_from_the_others(
    home: Path, tmp_path: Path, prefect_server: PrefectServer
) -> None:
    """Trained as background where it was not drawn, it would be taught to be missing."""

    def drawn(number: int, labels: NDArray[np.uint8]) -> Drawn:
        masks = {"Anterior": labels == 1, "Posterior": labels == 2}
        if number < TRAINED and number % 2:
            del masks["Posterior"]
        return masks

    rois = "Anterior: Anterior\nPosterior: Posterior\n"
    delivery, truth = lab(home, tmp_path, "missing_structures: {Posterior: unlabelled}\n", rois, drawn)
    scores, _ = mean_dice_of(home, tmp_path, truth, delivery, prefect_server)
    print(scores)
    assert min(scores.values()) > GOOD_ENOUGH
    description = read_json(home / "data" / "results" / "D" / "latest" / "dataset.json")
    assert description["labels"]["ignore"] == 3
