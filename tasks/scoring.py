"""Score a model's ensemble on the test set, case by case."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from prefect import task

from tasks.cluster.attempts import a_broken_node_takes_no_more
from tasks.cluster.retries import RETRIED
from tasks.errors import TransientError, UserDataError
from tasks.labels import Labels
from tasks.ledger.files import read_json, write_json
from tasks.ledger.iterations import Iteration
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.scores import KEYS, what_is_scored
from tasks.ledger.store import Store
from tasks.nnunet.predict import predict_batch
from tasks.processes.program import Message
from tasks.review.scores import scores_of_files
from tasks.settings.dataset import DatasetSettings
from tasks.shown.steps import shown_steps, steps_file

Row = dict[str, Any]
SCORES = "scores.json"
"""Beside the predictions: the scores so far, and of which weights they are."""


@task(task_run_name="test-set-{name}", **RETRIED)
def score_test_set(
    dataset_id: str,
    iteration: Iteration,
    name: str,
    model_folder: Path,
    weights: Sequence[str],
    settings: DatasetSettings,
    threads: int,
    known: Sequence[Mapping[str, Any]] = (),
    labels: Labels | None = None,
    cases: Sequence[Mapping[str, Any]] | None = None,
) -> list[Row]:
    """Predict the held-out patients with a model's ensemble and compare with their labels.

    A case is scored while the next one is predicted, and its scores are written at once: a killed job
    loses the cases it was at.

    Parameters
    ----------
    name
        What the model is called.
    weights
        The sha256 of the checkpoint of each fold: scores of other weights are not taken over.
    known
        Scores that it has; those of the same image, label, tolerance and mirroring are not computed again.
    labels
        What the model's integers mean, where it is of another lineage than the iteration.
    cases
        Other cases than those of the test set, such as the model has never seen.

    Returns
    -------
    For each case ``case_id``, ``image_key``, ``label_key``, ``tolerance_mm``, ``mirroring``, and ``dice``,
    ``surface_dice`` and ``hd95_mm`` (structure → value, None where it is not defined).
    """
    paths = DatasetPaths.of(dataset_id)
    store = Store(paths.store)
    folder = _folder(paths, iteration, name)
    how = {"tolerance_mm": settings.surface_tolerance_mm, "mirroring": settings.prediction.mirroring}
    wanted = [
        {**how, **{key: case[key] for key in KEYS if key in case}}
        for case in (iteration.test_cases() if cases is None else cases)
    ]
    scored = {what_is_scored(row): dict(row) for row in known}
    scored |= {what_is_scored(row): row for row in _scored_before(folder / SCORES, weights)}
    missing = [case for case in wanted if what_is_scored(case) not in scored]

    def score(case: Row) -> None:
        truth = store.label(case["case_id"], case["label_key"])
        prediction = _prediction(folder, case)
        found = scores_of_files(truth, prediction, iteration.labels, case["tolerance_mm"], labels)
        scored[what_is_scored(case)] = {**case, **found}
        done = [scored[what_is_scored(case)] for case in wanted if what_is_scored(case) in scored]
        write_json(folder / SCORES, {"weights": list(weights), "scores": done})

    show = shown_steps(dataset_id, f"test-set-{name}", scoring_file(paths, iteration, name))
    hear = _each(missing, score, show)
    with a_broken_node_takes_no_more():
        _predict(paths, iteration, name, model_folder, settings, threads, missing, hear)
    untold = [case["case_id"] for case in wanted if what_is_scored(case) not in scored]
    if untold:  # a message was lost, between lines of another thread
        raise TransientError(f"model {name}: nothing was heard of {', '.join(untold)}; run it again")
    return [scored[what_is_scored(case)] for case in wanted]


def scoring_file(paths: DatasetPaths, iteration: Iteration, name: str) -> Path:
    """Where the scoring of a model notes how far it is."""
    return steps_file(paths, iteration, f"test-set-{name}")


def _each(
    cases: Sequence[Row], score: Callable[[Row], None], show: Callable[[Message], None]
) -> Callable[[Message], None]:
    """Score each case as soon as it is told to be written, and tell how far it is."""
    by_id, begun, done = {case["case_id"]: case for case in cases}, time.monotonic(), 0

    def hear(message: Message) -> None:
        nonlocal done
        if "written" not in message:
            return
        score(by_id[message["written"]])
        done += 1
        # On average: the first waits for the program, and torch, to start.
        show({"scored": done, "of": len(cases), "seconds": (time.monotonic() - begun) / done})

    return hear


def _predict(
    paths: DatasetPaths,
    iteration: Iteration,
    name: str,
    model_folder: Path,
    settings: DatasetSettings,
    threads: int,
    cases: Sequence[Row],
    on_message: Callable[[Message], None],
) -> None:
    store, folder = Store(paths.store), _folder(paths, iteration, name)
    failures = predict_batch(
        [
            {
                "case_id": case["case_id"],
                "image": str(store.image(case["case_id"], case["image_key"])),
                "output": str(_prediction(folder, case)),
            }
            for case in cases
        ],
        model_folder=model_folder,
        folds=None,
        device=settings.prediction.device,
        mirroring=settings.prediction.mirroring,
        log=paths.log(f"{iteration.name}.test-{name}"),
        threads=threads,
        on_message=on_message,
    )
    if failures:
        raise UserDataError(f"model {name} cannot predict test cases: {failures}")


def _scored_before(file: Path, weights: Sequence[str]) -> list[Row]:
    """The scores of an attempt that was interrupted."""
    known = read_json(file) if file.is_file() else {}
    return known["scores"] if known.get("weights") == list(weights) else []


def _folder(paths: DatasetPaths, iteration: Iteration, name: str) -> Path:
    """In the iteration's own folder: what a model makes of its test set."""
    return paths.iteration_named(iteration.name).root / "test_predictions" / name


def _prediction(folder: Path, case: Mapping[str, Any]) -> Path:
    return folder / f"{case['case_id']}.nii.gz"
