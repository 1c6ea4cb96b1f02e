"""What a dataset's description is made from."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import tasks.convert
from tasks.cluster.attempts import BrokenError
from tasks.errors import ExternalToolError
from tasks.labels import Labels
from tasks.ledger.files import write_json
from tasks.ledger.iterations import Iteration
from tasks.ledger.lineages import open_lineage
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.store import Store
from tasks.prepare import _integers, plan_iteration, preprocess
from tasks.settings.dataset import DatasetSettings, RoiPatterns


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


@pytest.mark.parametrize(("worker", "threads"), [(None, 16), ("job-1", 3)])
def test_a_worker_converts_as_many_at_a_time_as_it_is_given_cores(
    home: Path, monkeypatch: pytest.MonkeyPatch, worker: str | None, threads: int
) -> None:
    asked: list[int] = []

    class Pool(ThreadPoolExecutor):
        def __init__(self, workers: int) -> None:
            asked.append(workers)
            super().__init__(workers)

    monkeypatch.setattr(tasks.convert, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(tasks.convert, "this_worker", lambda: worker)
    monkeypatch.setattr(tasks.convert, "cores", lambda: 16)
    rois = RoiPatterns.model_validate({"GTV": "GTV"})
    assert tasks.convert.convert_cases.fn("D", 1, [], DatasetSettings(), rois, 3) == []
    assert asked == [threads]
