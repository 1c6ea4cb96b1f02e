"""What preprocessing does otherwise than nnU-Net: it spares memory, and says of which case it fails."""

from __future__ import annotations

import numpy as np
import pytest
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from tasks.errors import UserDataError
from tasks.nnunet.preprocess import POSITIONS, _named, _sparing

LABELS = LabelManager({"background": 0, "a": 1, "b": 2, "ignore": 3}, None)
ANNOTATED = [-1, *LABELS.all_labels]
"""As nnU-Net's data loader asks for the voxels that are known, where there is an ignore label (here 3)."""
WANTED = [*LABELS.foreground_labels, ANNOTATED]
"""As its preprocessor asks: some are numbers of numpy, which make arrays of comparisons with lists."""


def test_positions_are_those_of_nnunet_and_few_of_what_is_known() -> None:
    """Of structures the very same; of all that is known as many as patches are drawn from."""
    seg = np.full((1, 40, 40, 40), 3, np.int8)
    seg[:, :30] = 0
    seg[:, 5:9, 5:9, 5:9] = 1
    plain, ours = DefaultPreprocessor, _sparing(DefaultPreprocessor)
    theirs = plain._sample_foreground_locations(seg, WANTED)
    found = ours._sample_foreground_locations(seg, WANTED)
    assert found.keys() == theirs.keys()
    np.testing.assert_array_equal(found[1], theirs[1])
    assert found[2] == theirs[2] == []
    known = found[tuple(ANNOTATED)]
    assert known.shape == (POSITIONS, 4)
    assert len(np.unique(known, axis=0)) == POSITIONS
    assert set(seg[tuple(known.T)]) == {0, 1}
    again = ours._sample_foreground_locations(seg, WANTED)
    np.testing.assert_array_equal(again[tuple(ANNOTATED)], known)


@pytest.mark.parametrize("known", [0, 7])
def test_of_a_case_with_few_known_voxels_all_are_there(known: int) -> None:
    seg = np.full((1, 4, 4, 4), 3, np.int8)
    seg.reshape(-1)[:known] = 0
    found = _sparing(DefaultPreprocessor)._sample_foreground_locations(seg, WANTED)
    assert len(found[tuple(ANNOTATED)]) == known


def test_it_says_of_which_case_nothing_can_be_made() -> None:
    with (
        pytest.raises(UserDataError, match="case c7 cannot be preprocessed: ValueError: 0 slices"),
        _named("c7"),
    ):
        raise ValueError("0 slices")


def test_what_the_disk_says_is_no_fault_of_a_case() -> None:
    with pytest.raises(OSError, match="stale"), _named("c7"):
        raise OSError(116, "stale file handle")
