"""The account of a dataset, read from its files; no flow runs and nothing is changed."""

from __future__ import annotations

from typing import Any

from tasks.ledger.models import latest_model, load_models
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.snapshots import load_snapshots, unsealed_folders
from tasks.settings import load_dataset_settings
from tasks.state import case_row, require_dataset, state_at, totals


def status_of(dataset_id: str) -> dict[str, Any]:
    """What the dataset holds, what is new since the model in use, and how the models score."""
    paths = DatasetPaths.of(dataset_id)
    require_dataset(paths)
    settings = load_dataset_settings(paths.config, dataset_id)
    waiting = [str(name) for name in unsealed_folders(paths)]
    rows: list[dict[str, Any]] = []
    if load_snapshots(paths):
        assembly, _ = state_at(paths, settings)
        for case in assembly.images:
            if case.state == "pending":
                case.settle("done", None, case.detail)
        rows = [case_row(case) for case in [*assembly.images, *assembly.segmentations]]
    model = latest_model(paths)
    return {
        "stage": "status",
        "dataset": dataset_id,
        "snapshots": [str(snapshot.name) for snapshot in load_snapshots(paths)],
        "not_ingested": waiting,
        "model": model.model_id if model else None,
        "models": [
            {"model": m.model_id, "parent": m.parent, "cases": m.cases, "test_dice": m.test_dice}
            for m in load_models(paths)
        ],
        "report": str(paths.report) if paths.report.is_file() else None,
        "cases": rows,
        "totals": totals(rows),
    }
