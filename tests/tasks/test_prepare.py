"""What a dataset's description is made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.cluster.attempts import BrokenError
from tasks.errors import ExternalToolError
from tasks.labels import Labels
from tasks.ledger.files import write_json
from tasks.ledger.iterations import Iteration
from tasks.ledger.lineages import open_lineage
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.store import Store
from tasks.prepare import _integers, plan_iteration, preprocess
from tasks.settings.dataset import DatasetSettings


@pytest.mark.parametrize(("strategy", "found"), [("regions", [0, 1, 3]), ("label_image", [])])
def test_only_regions_ask_which_integers_occur(tmp_path: Path, strategy: str, found: list[int]) -> None:
    store = Store(tmp_path)
    for case, counts in (("case1", {"0": 9, "3": 2}), ("case2", {"0": 7, "1": 4})):
        write_json(store.voxel_counts(case, "k"), counts)
    keys = [("case1", "k"), ("case2", "k")]
    assert _integers(store, Labels(["a", "b"], strategy), keys) == found


@pytest.mark.parametrize("what", ["plan", "preprocess"])
def test_what_fails_in_a_job_may_do_better_on_another_node(
    home: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise ExternalToolError("python -m plan", 1, Path("log"))

    monkeypatch.setattr("tasks.cluster.attempts.take_no_more", lambda: "a worker")
    monkeypatch.setattr("tasks.prepare.plan_dataset", fails)
    monkeypatch.setattr("tasks.prepare.preprocess_cases", fails)
    iteration = Iteration("2026-11-20__D", "d", None, "CT", ["GTV"], "3d_fullres", "nnUNetPlans", "", 2, [])
    open_lineage(DatasetPaths.of("D"), "first", ["GTV"], "label_image", "nnUNetPlans", "3d_fullres")
    with pytest.raises(BrokenError) as caught:
        if what == "plan":
            plan_iteration.fn("D", iteration, DatasetSettings())
        else:
            preprocess.fn("D", 0, iteration, [])
    assert caught.value.worker == "a worker"
