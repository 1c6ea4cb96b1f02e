"""What a dataset's description is made from."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.labels import Labels
from tasks.ledger.files import write_json
from tasks.ledger.store import Store
from tasks.prepare import _integers


@pytest.mark.parametrize(("strategy", "found"), [("regions", [0, 1, 3]), ("label_image", [])])
def test_only_regions_ask_which_integers_occur(tmp_path: Path, strategy: str, found: list[int]) -> None:
    store = Store(tmp_path)
    for case, counts in (("case1", {"0": 9, "3": 2}), ("case2", {"0": 7, "1": 4})):
        write_json(store.voxel_counts(case, "k"), counts)
    keys = [("case1", "k"), ("case2", "k")]
    assert _integers(store, Labels(["a", "b"], strategy), keys) == found
