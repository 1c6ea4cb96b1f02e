"""When a fold stops, and that each epoch can be repeated."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from tasks.nnunet.trainer import is_flat, seeded


@pytest.mark.parametrize(
    ("curve", "flat"),
    [
        ([], False),
        ([0.5], False),
        ([0.5, 0.5, 0.5], False),  # as long as the patience: there is nothing before it
        ([0.5, 0.5, 0.5, 0.5], True),
        ([0.5, 0.501, 0.502, 0.503], True),
        ([0.5, 0.4, 0.52, 0.4], False),
        ([0.5, 0.6, 0.5, 0.5, 0.5], True),
        ([0.1, 0.2, 0.3, 0.4, 0.5], False),
    ],
)
def test_a_curve_is_flat_where_patience_brought_no_gain(curve: list[float], flat: bool) -> None:
    assert is_flat(curve, patience_epochs=3, min_gain=0.01) is flat


def test_an_epoch_that_is_run_again_draws_the_same_numbers() -> None:
    def drawn() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(1))

    seeded(7)
    first = drawn()
    drawn()
    seeded(7)
    assert drawn() == first
    seeded(8)
    assert drawn() != first
