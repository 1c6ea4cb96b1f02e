"""A lab with scans and a network so small that an iteration takes seconds: what matters is what happens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml
from dicom_factory import ball, grid_for, write_rois, write_series

SHAPE = (16, 40, 40)
NETWORK = {
    "patch_size": [16, 32, 32],
    "batch_size": 2,
    "features_per_stage": [8, 16, 32],
    "convolutions_per_stage": 1,
}
TRAINING = {
    "epochs_first": 4,
    "epochs_fine_tune": 4,
    "iterations_per_epoch": 8,
    "validation_iterations": 1,
    "optimizer": "adamw",
    "device": "cpu",
    "augmentation_workers": 0,
    "checkpoint_every_s": 0.001,
}


def new_home(root: Path, *, training: dict[str, Any] | None = None, **settings: Any) -> Path:
    """A home with a dataset D."""
    (root / "config" / "clusters").mkdir(parents=True, exist_ok=True)
    (root / "config" / "roi_D.yaml").write_text("GTV: GTV\n")
    content = {
        "arrival_quiet_s": 0,
        "folds": 2,
        "test_share": 0,
        "plan_overrides": NETWORK,
        "training": {**TRAINING, **(training or {})},
        "prediction": {"mirroring": False, "device": "cpu"},
        "promotion": {"margin": 0.99},
        **settings,
    }
    (root / "config" / "dataset_D.yaml").write_text(yaml.safe_dump(content))
    return root


def deliver(home: Path, day: int, *, labelled: int = 2, unlabelled: int = 1, dataset: str = "D") -> None:
    """Patients in a folder that is filled by hand, some of them without a label."""
    folder = home / "data" / "rawdata" / dataset / f"2026-11-{day:02}__{dataset}"
    for number in range(labelled + unlabelled):
        name = f"{day}-{number}" if dataset == "D" else f"{dataset}-{day}-{number}"
        rng = np.random.default_rng(day * 10 + number)
        tumour = ball(SHAPE, (8, *rng.uniform(12, 28, 2)), 6)
        voxels = (rng.normal(0, 20, SHAPE) + 100 * tumour).astype(np.int16)
        series = write_series(
            folder / name / "ct", name=name, patient=f"P{name}", grid=grid_for(SHAPE), voxels=voxels
        )
        if number >= unlabelled:
            write_rois(folder / name / "rt.dcm", series, {"GTV": tumour}, name=f"rt {name}")
