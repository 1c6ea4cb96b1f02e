"""The harm that fixed folds avoid: a validation score that is above what the model is worth.

The seed's way, played beside IterSeg's on the labs of a finished `iterseg simulate`: each round divides the
cases anew, as nnU-Net's own split does with a grown dataset, and warms fold k from fold k of the one before.

    PYTHONPATH=.:tests:tests/bench python tests/bench/leakage.py HOME DATASET ARM
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from learned import mean_validation_dice
from nnunetv2.utilities.crossval_split import generate_crossval_split

from tasks.ledger.files import read_json, sha256_of_file, write_json, write_text
from tasks.ledger.home import at_home
from tasks.ledger.iteration_paths import IterationPaths
from tasks.ledger.iterations import Iteration, load_iteration
from tasks.ledger.models import ModelRecord, load_models
from tasks.ledger.paths import DatasetPaths
from tasks.nnunet.fold import train_fold, trained_model_folder
from tasks.review.curves import curve, standing_alone
from tasks.review.learning import interval_of_mean, mean_dice
from tasks.review.scores import mean_scores
from tasks.scoring import score_test_set
from tasks.settings.dataset import DatasetSettings, check_choices
from tasks.train import fold_job

SEED_OF_NNUNET = 12345
DOCS = Path(__file__).parents[2] / "docs" / "simulation"
FIGURES = {"validation": mean_validation_dice, "test": mean_dice}
Row = dict[str, Any]


def played(lab: DatasetPaths, work: Path) -> list[Row]:
    """The rounds of a lab once more, the seed's way: test and validation Dice of each."""
    _, settings = check_choices(lab.config, lab.dataset_id)
    rows: list[Row] = []
    before: dict[int, Path] = {}
    for number, record in enumerate(load_models(lab), start=1):
        iteration = load_iteration(record.iteration(lab))
        assert iteration is not None
        folder, folds = work / f"round-{number}", range(iteration.folds)
        _divide_anew(IterationPaths(lab.procdata / iteration.name), iteration, folder)
        with ThreadPoolExecutor(iteration.folds) as pool:
            train = partial(_fold, lab, iteration, settings, folder)
            results = list(pool.map(train, folds, [before.get(fold) for fold in folds]))
        model = _model_folder(folder, iteration)
        before = {fold: model / f"fold_{fold}" / "checkpoint_final.pth" for fold in folds}
        for part in ("plans.json", "dataset.json"):
            shutil.copy(_own_model(lab, record) / part, model / part)
        weights = [result["checkpoint_sha256"] for result in results]
        scored = score_test_set.fn(lab.dataset_id, iteration, f"anew-{number}", model, weights, settings, 2)
        rows.append(
            {
                "labelled": record.cases["training"],
                "validation_dice": {str(fold): r["validation_dice"] for fold, r in enumerate(results)},
                "test_dice": mean_scores([case["dice"] for case in scored], iteration.structures),
            }
        )
    return rows


def _own_model(lab: DatasetPaths, record: ModelRecord) -> Path:
    """Whose plans and labels the other way shares."""
    return lab.home / record.folder


def _fold(
    lab: DatasetPaths,
    iteration: Iteration,
    settings: DatasetSettings,
    folder: Path,
    fold: int,
    parent: Path | None,
) -> Row:
    """A fold of the cases as they are divided today, warm from the same number of the round before."""
    at = IterationPaths(lab.procdata / iteration.name)
    own = fold_job(lab, replace(iteration, parent=None), fold, settings)
    epochs = settings.training.epochs_fine_tune if parent else settings.training.epochs_first
    rate = settings.training.learning_rate_fine_tune if parent else settings.training.learning_rate_first
    job = replace(
        own,
        choices={**own.choices, "epochs": epochs, "learning_rate": rate},
        data=f"{own.data} divided anew",
        warm_start=str(parent) if parent else None,
        warm_start_sha256=sha256_of_file(parent) if parent else None,
    )
    environment = {
        **at.environment(),
        "nnUNet_preprocessed": str(folder / "nnUNet_preprocessed"),
        "nnUNet_results": str(folder / "nnUNet_results"),
        "OMP_NUM_THREADS": "1",
        "nnUNet_def_n_proc": "1",
        "nnUNet_n_proc_DA": "0",
    }
    return train_fold(job, environment, _model_folder(folder, iteration), folder / f"fold-{fold}.log")


def _divide_anew(at: IterationPaths, iteration: Iteration, folder: Path) -> None:
    """Link the iteration's preprocessed cases, with nnU-Net's own split of them."""
    source, dataset = at.preprocessed, folder / "nnUNet_preprocessed" / at.preprocessed.name
    if dataset.is_dir():
        return
    dataset.mkdir(parents=True)
    for path in source.iterdir():
        if path.name != "splits_final.json":
            (dataset / path.name).symlink_to(path.resolve())
    names = np.array(sorted(case["case_id"] for case in iteration.training_cases()))
    splits = generate_crossval_split(names, seed=SEED_OF_NNUNET, n_splits=iteration.folds)
    write_json(dataset / "splits_final.json", splits)


def _model_folder(folder: Path, iteration: Iteration) -> Path:
    at = IterationPaths(folder / iteration.name)
    results = folder / "nnUNet_results" / at.nnunet_dataset
    return trained_model_folder(results, iteration.plans_name, iteration.configuration)


def gaps(rows: Sequence[Row]) -> list[float]:
    """By how much validation is above test, round by round."""
    return [mean_validation_dice(row) - mean_dice(row) for row in rows]


def known_share(work: Path, rounds: int) -> list[float]:
    """Round by round, the share of validated cases that the network or its ancestors have learned."""
    learned: dict[int, set[str]] = {}
    shares = []
    for number in range(1, rounds + 1):
        (file,) = work.glob(f"round-{number}/nnUNet_preprocessed/*/splits_final.json")
        splits = list(enumerate(read_json(file)))
        known = [case in learned.get(fold, set()) for fold, split in splits for case in split["val"]]
        shares.append(float(np.mean(known)))
        for fold, split in splits:
            learned.setdefault(fold, set()).update(split["train"])
    return shares


def main() -> None:
    """Play, and write the gaps of both ways beside the simulation's other results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("home", type=Path)
    parser.add_argument("dataset")
    parser.add_argument("arm", help="of the simulation; one that starts warm and is drawn at random")
    chosen = parser.parse_args()
    source = DatasetPaths(chosen.home.resolve(), chosen.dataset)
    ways: dict[str, dict[str, list[Row]]] = {"IterSeg": {}, "anew": {}}
    shares: list[list[float]] = []
    for lab_home in sorted(source.simulations.glob(f"{chosen.arm}-*")):
        with at_home(lab_home):
            work = source.simulations / "divided-anew" / lab_home.name
            rows = played(DatasetPaths(lab_home, chosen.dataset), work)
        shares.append(known_share(work, len(rows)))
        ways["IterSeg"][lab_home.name] = read_json(lab_home / "rounds.json")
        ways["anew"][lab_home.name] = rows
    labs = list(ways["IterSeg"].values())
    labelled = [float(np.mean([row["labelled"] for row in rows])) for rows in zip(*labs, strict=False)]
    lines = {
        f"{way}, {name}": [interval_of_mean(list(found)) for found in zip(*figures, strict=False)]
        for way, rows in ways.items()
        for name, figure in FIGURES.items()
        for figures in [[list(map(figure, lab)) for lab in rows.values()]]
    }
    write_json(DOCS / "leakage.json", ways)
    words = "Dice of what validates and of the test set, over labelled cases"
    lowest = min(point.low for points in lines.values() for point in points)
    picture = curve(words, [], lines, 1.0, dict.fromkeys(lines, labelled), bottom=int(lowest * 20) / 20)
    write_text(DOCS / "leakage.svg", standing_alone(picture))
    for way, rows in ways.items():
        points = [interval_of_mean(list(found)) for found in zip(*map(gaps, rows.values()), strict=False)]
        said = " ".join(f"{p.value:+.3f} ({p.low:+.3f} to {p.high:+.3f})" for p in points)
        print(f"{way}, validation above test: {said}")
    means = [[np.mean(gaps(rows)[1:]) for rows in labs.values()] for labs in ways.values()]
    more = interval_of_mean([float(anew - own) for own, anew in zip(*means, strict=True)])
    print(
        f"anew above IterSeg after the first round: {more.value:+.3f} ({more.low:+.3f} to {more.high:+.3f})"
    )
    print(
        "validated cases that were learned:", " ".join(f"{np.mean(s):.0%}" for s in zip(*shares, strict=True))
    )


if __name__ == "__main__":
    main()
