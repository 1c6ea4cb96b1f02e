"""Three nights on real hippocampi: the account, the lineage and the learning curve; then a new lineage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bs4 import BeautifulSoup
from hippocampus_lab import TRAINED, lab, scan, series_of
from numpy.typing import NDArray
from pydicom.uid import generate_uid
from tests_support import PrefectServer, iterseg

from tasks.dicom.seg_writer import SegIdentity, write_seg
from tasks.ledger.files import read_json
from tasks.ledger.paths import DatasetPaths

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]
ROIS = "Anterior: Anterior\nPosterior: Posterior\n"


def drawn(_number: int, labels: NDArray[np.uint8]) -> dict[str, NDArray[np.bool_]]:
    return {"Anterior": labels == 1, "Posterior": labels == 2}


def labelled(root: Path, numbers: range, *, corrected: bool = False) -> Path:
    """A delivery of annotated scans; corrected: another contour of a scan that is known."""
    for number in numbers:
        series = series_of(number, root / f"{number}")
        labels = scan(number)[1]
        if corrected:
            labels[labels.shape[0] // 2] = 0
        identity = SegIdentity(generate_uid(), generate_uid(), 2, "drawn", None, "1")
        write_seg(root / f"{number}.seg", series.files, drawn(number, labels), identity)
    return root


def test_three_iterations_and_a_new_lineage(
    home: Path, tmp_path: Path, prefect_server: PrefectServer
) -> None:
    paths = DatasetPaths(home, "D")
    days = iter(range(20, 30))

    def run(*arguments: str) -> dict[str, Any]:
        answer = iterseg(home, *arguments, "--json", **prefect_server.environment)
        assert answer.returncode == 0, answer.stderr
        return answer.report

    def night(delivery: Path) -> dict[str, dict[str, Any]]:
        run("ingest", "D", "--from", str(delivery), "--date", f"2026-11-{next(days)}")
        return {stage["stage"]: stage for stage in run("run", "D")["stages"]}

    delivery, _ = lab(home, tmp_path, "promotion: {margin: 0.9}\n", ROIS, drawn)
    file = home / "config" / "dataset_D.yaml"
    settings = file.read_text().replace("test_share: 0", "test_share: 0.25")
    file.write_text(
        settings.replace("epochs_first: 8", "epochs_first: 4\n  epochs_fine_tune: 2\n  control_every: 2")
    )

    first = night(delivery)
    assert first["train"]["parent"] is None
    # One of the three without a label is in the test set: nobody is to draw it over a prediction.
    fates = sorted((case["state"], case["reason"] or "") for case in first["predict"]["cases"])
    assert fates == [("done", ""), ("done", ""), ("ignored", "test-set")]

    later = labelled(tmp_path / "second", range(TRAINED + 3, TRAINED + 6))
    labelled(later / "corrected", range(1), corrected=True)
    run("ingest", "D", "--from", str(later), "--date", f"2026-11-{next(days)}")
    status = run("status", "D")
    assert {k: n for k, n in status["account"].items() if n} == {"new": 3, "relabelled": 1, "reused": 7}
    assert status["next"] == "3 new, 1 relabelled; trains warm from 2026-11-20"
    second = {stage["stage"]: stage for stage in run("run", "D")["stages"]}
    assert second["train"]["parent"] == "2026-11-20"
    assert second["train"]["control"] is None

    third = night(labelled(tmp_path / "third", range(TRAINED + 6, TRAINED + 8)))
    raced = third["train"]["control"]
    assert raced["basis"] == "test set"
    assert raced["winner"] in ("warm start", "control")
    assert third["train"]["parent"] == ("2026-11-21" if raced["winner"] == "warm start" else None)

    models = run("models", "D")["models"]
    assert [model["model"] for model in models] == ["2026-11-20", "2026-11-21", "2026-11-22"]
    assert {model["lineage"] for model in models} == {1}
    page = BeautifulSoup(paths.report.read_text(), "html.parser")
    assert [len(str(line["points"]).split()) for line in page.find_all("polyline")] == [3, 3]
    card = read_json(paths.latest / "model_card.json")
    assert card["data"]["training_cases"] == models[-1]["cases"]["training"]
    assert set(card["test"]["hd95_mm"]) == {"Anterior", "Posterior"}
    assert all(fold["training_s"] > 0 for fold in card["folds"].values())

    # Only what was new was computed, and an iteration holds no copies.
    iteration = home / "data" / "procdata" / "D" / "2026-11-22__D"
    copies = [p for p in iteration.rglob("*.b2nd") if not p.is_symlink()]
    assert copies == []
    assert len(list((home / "data" / "procdata" / "D" / "store").glob("*/preprocessed-*"))) == (
        len({case["case_id"] for case in read_json(iteration / "iteration.json")["cases"]
             if case["place"] != "test"}) + _relabelled_in_training(paths)
    )  # fmt: skip

    drift = run("plan", "D")
    assert {row["what"] for row in drift["rows"]} >= {"network", "patch, voxels (z, y, x)"}
    refused = iterseg(home, "prepare", "D", **prefect_server.environment)
    assert refused.returncode == 0
    (home / "config" / "roi_D.yaml").write_text("Posterior: Posterior\nAnterior: Anterior\n")
    refused = iterseg(home, "prepare", "D", **prefect_server.environment)
    assert refused.returncode == 2
    assert "iterseg plan --new-lineage" in refused.stderr
    assert run("plan", "D", "--new-lineage", "--why", "another order")["opened"] == 2
    assert run("status", "D")["next"].endswith("plans lineage 2 anew and trains from scratch")
    fourth = next(stage for stage in run("run", "D")["stages"] if stage["stage"] == "train")
    assert (fourth["parent"], fourth["compared_with"]) == (None, "2026-11-22")
    assert {verdict["structure"] for verdict in fourth["verdicts"]} == {"Anterior", "Posterior"}
    assert min(verdict["current"] for verdict in fourth["verdicts"]) > 0, "by name, not by number"
    # Back to the model of the first lineage: the next night goes on from there.
    run("rollback", "D", "2026-11-22")
    (home / "config" / "roi_D.yaml").write_text(ROIS)
    assert run("status", "D")["lineage"] == 1
    assert run("status", "D", "--verify")["verified"]["findings"] == []


def _relabelled_in_training(paths: DatasetPaths) -> int:
    """The case that was relabelled has two preprocessed versions, unless it is a test case."""
    return sum(len(list(folder.glob("preprocessed-*"))) == 2 for folder in paths.store.iterdir())
