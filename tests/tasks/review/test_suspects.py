"""Which labels are to be looked at again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from tasks.labels import Labels
from tasks.review.suspects import slices_that_differ, suspect_labels


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.9, 0.91, 0.89, 0.9, 0.2], ["case4"]),
        ([0.9, 0.91, 0.89, 0.9, 0.0, 0.1], ["case4", "case5"]),
        ([0.9, 0.9, 0.9, 0.9, 0.85], []),  # nobody would see the difference
        ([0.1, 0.9, 0.2, 0.8, 0.5, 0.6], []),  # a network that knows nothing accuses nobody
        ([0.9, 0.9, 0.9, 0.1], []),  # of four, who is the odd one?
        ([0.9, 0.91, 0.89, 0.9, 0.92, None], []),
    ],
)
def test_labels_far_below_the_others_are_suspect(scores: list[float | None], expected: list[str]) -> None:
    cases = {f"case{n}": {"a": value, "b": 0.9} for n, value in enumerate(scores)}
    found = suspect_labels(cases, ["a", "b"])
    assert [suspect.case_id for suspect in found] == expected
    assert {suspect.structure for suspect in found} <= {"a"}


def test_the_slices_are_those_on_which_the_suspect_structure_differs(tmp_path: Path) -> None:
    """Not those on which another one does, nor where nobody has looked."""
    labels = Labels(["brain", "cochlea"], "label_image")
    label = np.zeros((9, 8, 8), dtype=np.uint8)
    label[:, :, 6:] = 1
    label[3:6, 2:4, 2:4] = 2
    label[8] = labels.ignore
    other = label.copy()
    other[0:3, :, 6:] = 0  # of the brain
    other[4, 2:4, 2:4] = 0
    other[5, 2, 2] = 0
    other[8] = 2
    for name, array in (("l", label), ("p", other)):
        sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / f"{name}.nii.gz"))
    files = tmp_path / "l.nii.gz", tmp_path / "p.nii.gz"
    assert slices_that_differ(*files, labels, "cochlea") == [4, 5]
    assert slices_that_differ(*files, labels, "brain") == [0, 1, 2]
