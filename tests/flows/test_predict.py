"""Where images are predicted, and on how many threads."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from predicted_lab import a_model

from flows import predict as flow
from tasks.conversion import CaseToConvert
from tasks.dicom.reasons import Reason
from tasks.errors import UserDataError
from tasks.ledger.paths import DatasetPaths
from tasks.settings.cluster import ClusterSettings
from tasks.settings.dataset import DatasetSettings

SLURM = {
    **{"kind": "slurm", "cpus": 6, "memory_gb": 8, "walltime": "1:00:00"},
    "stages": {"prepare": {"workers": 1}, "predict": {"workers": 1}},
}


@pytest.mark.parametrize(
    ("images", "cluster", "here", "threads"),
    [
        pytest.param(1, {}, True, 8, id="a single one needs no worker, and has all cores"),
        pytest.param(1, {"cpus": 3}, True, 3, id="or those that it was given"),
        pytest.param(2, {}, False, 1, id="several are shared among workers"),
        pytest.param(2, {"workers": 2}, False, 4, id="which share the cores"),
        pytest.param(1, SLURM, False, 6, id="on a cluster a job predicts, whatever the flow's machine has"),
    ],
)
def test_a_single_image_is_predicted_where_it_was_asked_for(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    images: int,
    cluster: dict[str, Any],
    here: bool,
    threads: int,
) -> None:
    asked: dict[str, Any] = {}

    def run_chunks(task: Any, pieces: Any, arguments: Any, *_: Any, here: bool, shown: bool) -> list[Any]:
        given = [arguments(number, piece) for number, piece in enumerate(pieces, start=1)]
        assert shown, "in the UI, wherever it is predicted"
        asked.update(
            here=here, threads={one[-2] for one in given}, cases=[c for one in given for c in one[2]]
        )
        return []

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr("tasks.cluster.runner.cores", lambda: 8)
    monkeypatch.setattr(flow, "run_chunks", run_chunks)
    jobs = [CaseToConvert(f"case{number}", [], "key") for number in range(images)]
    flow._predicted(
        DatasetPaths(home, "D"),
        jobs,
        None,
        DatasetSettings(),
        ClusterSettings(**cluster),
        triage=False,  # type: ignore[arg-type]
    )
    assert asked == {"here": here, "threads": {threads}, "cases": jobs}


@pytest.mark.parametrize("reason", [Reason.UNLABELLED, None])
def test_nothing_is_predicted_by_other_weights_than_those_on_record(
    home: Path, monkeypatch: pytest.MonkeyPatch, reason: Reason | None
) -> None:
    """It would bear the model's name, in the PACS too; and where nothing is to be predicted nobody asks."""
    paths = DatasetPaths.of("D")
    model = replace(a_model(paths, ["GTV"]), checkpoints={"0": "another sha256"})
    case, looked = SimpleNamespace(reason=reason, case_id="case1"), list[Path]()
    for name, does in (
        ("check_choices", lambda *_: (None, DatasetSettings())),
        ("require_dataset", lambda _: None),
        ("load_model", lambda *_: model),
        ("latest_model", lambda _: model),
        ("turn_of", lambda *_: nullcontext()),
        ("_images", lambda *_: ([case], [])),
        ("_leave_test_set_out", lambda *_, **__: None),
        ("conversions", lambda *_: lambda case: case),
        ("case_row", lambda _: {"state": "done", "reason": None}),
        ("stale_predictions", lambda *_: {}),
        ("_predicted", lambda *_: []),
        ("look_again", looked.extend),
        ("remember_unpredictable", lambda *_: None),
        ("_show", lambda *_: None),
        ("send_to_all", lambda *_, **__: {}),
    ):
        monkeypatch.setattr(flow, name, does)
    wrong = pytest.raises(UserDataError, match="fold 0 of model 2026-11-20 is not what was recorded")
    with wrong if reason else nullcontext():
        flow.predict.fn("D")
    # Workers may have written there, and this machine have looked before.
    assert looked == ([] if reason else [paths.predicted, paths.predictions(model.model_id)])


@pytest.mark.parametrize(
    ("in_use", "folder", "said"),
    [
        ("2026-11-20", None, ""),  # `iterseg send` does
        ("2026-11-20", Path("of_a_folder"), "the same `iterseg predict`"),
        ("2026-11-21", None, "the same `iterseg predict`"),
        (None, None, "the same `iterseg predict`"),
    ],
)
def test_what_tries_again_to_send_is_what_can(
    home: Path, in_use: str | None, folder: Path | None, said: str
) -> None:
    used = a_model(DatasetPaths.of("D"), ["GTV"])
    assert flow._again(used, in_use and replace(used, model_id=in_use), folder)[: len(said) or None] == said
