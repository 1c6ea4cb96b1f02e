"""Which integers stand for which structure, and that none of them is lost."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.errors import ConfigError
from tasks.labels import Labels
from tasks.nnunet.dataset import class_order, outside_in


def test_exclusive_labels_follow_the_roi_file() -> None:
    labels = Labels(["A", "B"], "label_image")
    assert (labels.values, labels.ignore, labels.overlapping) == ({"A": [1], "B": [2]}, 3, False)


def test_regions_are_bits() -> None:
    labels = Labels(["A", "B", "C"], "regions")
    assert labels.values == {"A": [1, 3, 5, 7], "B": [2, 3, 6, 7], "C": [4, 5, 6, 7]}
    assert labels.ignore == 8


@pytest.mark.parametrize("strategy", ["label_image", "regions"])
def test_what_is_unknown_belongs_to_no_structure(strategy: str) -> None:
    labels = Labels(["A", "B"], strategy)  # type: ignore[arg-type]
    label_map = np.arange(labels.ignore + 1)
    masks = dict(labels.masks(label_map))
    assert not any(mask[labels.ignore] for mask in masks.values())
    for name, mask in masks.items():
        assert np.flatnonzero(mask).tolist() == labels.values[name]


@pytest.mark.parametrize(("strategy", "most"), [("regions", 8), ("label_image", 254), ("priority", 254)])
def test_more_structures_than_a_byte_holds_are_refused(strategy: str, most: int) -> None:
    names = [f"S{n}" for n in range(most + 1)]
    assert Labels(names[:most], strategy).ignore <= 256  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=f"holds {most} structures, and the ROI file names {most + 1}"):
        Labels(names, strategy)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "order", "written"),
    [
        # tumour (B) inside organ (A): the organ first, the tumour over it, both bits where it is
        ([0, 1, 3], ["A", "B"], [1, 3]),
        # the inner one stands first in the ROI file
        ([0, 2, 3], ["B", "A"], [2, 3]),
        # side by side
        ([0, 1, 2], ["A", "B"], [1, 2]),
        # crossing: plain nnU-Net cannot say it; ours does
        ([0, 1, 2, 3], ["A", "B"], [1, 2]),
        # a structure that never occurs encloses nothing
        ([0, 1], ["A", "B"], [1, 2]),
        # the ignore label says nothing of any structure
        ([0, 1, 3, 4], ["A", "B"], [1, 3]),
    ],
)
def test_enclosing_regions_are_written_first(found: list[int], order: list[str], written: list[int]) -> None:
    labels = Labels(["A", "B"], "regions")
    assert outside_in(labels, found) == order
    assert class_order(labels, found) == written
