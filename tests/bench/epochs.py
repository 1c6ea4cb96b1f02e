"""What the epochs of simulated labs were worth, from the logs in their checkpoints.

PYTHONPATH=.:tests:tests/bench python tests/bench/epochs.py $ITERSEG_HOME hippocampus
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tasks.ledger.files import read_json, write_json, write_text
from tasks.ledger.models import load_models
from tasks.ledger.paths import DatasetPaths
from tasks.review.curves import curve, standing_alone
from tasks.review.learning import interval_of_mean

DOCS = Path(__file__).parents[2] / "docs" / "simulation"
FIRST = "the first round"


def trainings(source: DatasetPaths, simulation: Mapping[str, Any]) -> Iterator[tuple[int, str, list[float]]]:
    """Seed, kind of round, and nnU-Net's pseudo Dice after each epoch, of every fold that was trained."""
    for arm, settings in simulation["arms"].items():
        for seed in simulation["seeds"]:
            lab = DatasetPaths(source.simulations / f"{arm}-{seed}", source.dataset_id)
            for number, model in enumerate(load_models(lab), start=1):
                warm = settings.get("start", "warm") == "warm"
                other = f", {arm}" if settings.get("settings", {}).get("training") else ""
                kind = (
                    FIRST if number == 1 else f"round {number}, {'warm' if warm else 'from scratch'}{other}"
                )
                for fold in model.checkpoints:
                    file = model.checkpoint(lab, fold)
                    # nnU-Net's own checkpoints hold more than weights; these are ours.
                    log = torch.load(file, map_location="cpu", weights_only=False)["logging"]
                    yield seed, kind, [float(value) for value in log["mean_fg_dice"]]


def main() -> None:
    """Publish the means over the labs of a seed, with Student intervals over the seeds."""
    source = DatasetPaths(Path(sys.argv[1]).resolve(), sys.argv[2])
    content = read_json(DOCS / "rounds.json")
    settings = content["simulation"]["arms"]
    simulation = {**content["simulation"], "arms": {arm: settings[arm] for arm in content["arms"]}}
    found: dict[str, dict[int, list[list[float]]]] = defaultdict(lambda: defaultdict(list))
    for seed, kind, dice in trainings(source, simulation):
        if dice not in found[kind][seed]:  # arms share their first round
            found[kind][seed].append(dice)
    lines = {}
    for kind, seeds in sorted(found.items()):
        means = [np.mean(folds, axis=0) for folds in seeds.values()]
        lines[kind] = [interval_of_mean(list(epoch)) for epoch in zip(*means, strict=True)]
    every = {kind: {str(seed): folds for seed, folds in seeds.items()} for kind, seeds in found.items()}
    write_json(DOCS / "epochs.json", every)
    across = {kind: [float(n) for n in range(1, len(points) + 1)] for kind, points in lines.items()}
    words = "nnU-Net's pseudo Dice on validation patches, over the epochs of a training"
    write_text(DOCS / "epochs.svg", standing_alone(curve(words, [], lines, 1.0, across)))
    for kind, points in lines.items():
        print(kind, " ".join(f"{p.value:.3f} ({p.low:.3f} to {p.high:.3f})" for p in points))


if __name__ == "__main__":
    main()
