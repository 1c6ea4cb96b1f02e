"""Train: the folds of an iteration, in parallel; a model that is not worse takes the place of the old.

Inputs: a prepared iteration; the model in use, from which the folds start warm. Output: a model.
Command: ``iterseg train DATASET``.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from prefect import flow
from pydantic import Field

from flows.parameters import ComputeParameters, run_name, show_table
from tasks.cluster import outcome_of, task_runner, threads_per_worker, worker_count
from tasks.errors import ConfigError, IterSegError
from tasks.ledger.iterations import Contender, Iteration, newest_iteration
from tasks.ledger.lineages import load_lineages
from tasks.ledger.lock import dataset_lock
from tasks.ledger.models import ModelRecord, latest_model
from tasks.ledger.paths import DatasetPaths
from tasks.progress import progress
from tasks.promote import judge_candidate, promote_model, race, score_test_set
from tasks.report import suspects_of, write_report
from tasks.settings import ClusterSettings, DatasetSettings, load_cluster, load_dataset_settings
from tasks.state import require_dataset
from tasks.train import (
    candidate_folder,
    control_is_due,
    model_id_of,
    model_of,
    record_model,
    train_fold,
)


class TrainParameters(ComputeParameters):
    """What to train."""

    folds: list[int] | None = Field(default=None, description="Some folds only; all if left out.")
    iteration: str | None = Field(default=None, description="A prepared iteration; the newest if left out.")


@flow(name="train", flow_run_name=run_name("train"), task_runner=task_runner())
def train(parameters: TrainParameters) -> dict[str, Any]:
    """Train the folds; score the ensemble on the test set; put the model into use."""
    paths = DatasetPaths.of(parameters.dataset_id)
    settings = load_dataset_settings(paths.config, paths.dataset_id)
    cluster = load_cluster(paths.config, parameters.cluster)
    require_dataset(paths)
    with dataset_lock(paths.procdata):
        day = str(parameters.date) if parameters.date else None
        lineage = load_lineages(paths)[1] if parameters.iteration is None else None
        iteration = newest_iteration(paths, day, parameters.iteration, lineage)
        known = model_of(paths, iteration)
        if known is not None:
            current = latest_model(paths)
            in_use = current.model_id if current else None
            if known.accepted and not known.promoted and in_use == known.compared_with:
                # The run before was killed between the model's record and its promotion.
                promote_model(paths.dataset_id, known)
            return _report(paths, iteration, known, "nothing new")
        folds = _folds(iteration, parameters.folds)
        whole = len(folds) == iteration.folds
        controlled = whole and control_is_due(paths, iteration, settings.training.control_every)
        contenders: list[Contender] = ["fold", "control"] if controlled else ["fold"]
        results = _train_folds(paths, iteration, folds, contenders, settings, cluster)
        if not whole:
            return _some_folds(paths, iteration, results["fold"])
        threads = threads_per_worker(cluster) * worker_count(cluster)
        record = _judged(paths, iteration, results, settings, threads)
        if record.accepted:
            promote_model(paths.dataset_id, record)
        write_report(paths.dataset_id)
    return _report(paths, iteration, record, "trained")


def _some_folds(paths: DatasetPaths, iteration: Iteration, results: list[dict[str, Any]]) -> dict[str, Any]:
    done = [{"fold": result["fold"], "epochs": result["epochs"]} for result in results]
    folds = [result["fold"] for result in results]
    show_table("train", paths.dataset_id, done, f"folds {folds} of {iteration.name}")
    return {
        "stage": "train",
        "state": f"folds {folds} are done; `iterseg train {paths.dataset_id}` trains the others "
        "and puts the model into use",
        "iteration": iteration.name,
        "folds": results,
        "cases": [],
        "totals": {},
    }


def _judged(
    paths: DatasetPaths,
    iteration: Iteration,
    results: dict[Contender, list[dict[str, Any]]],
    settings: DatasetSettings,
    threads: int,
) -> ModelRecord:
    """Score the candidate and the model in use on the same cases, and write the candidate's record.

    Where a control raced the warm start, the better of the two is the candidate.
    """
    dataset_id, current = paths.dataset_id, latest_model(paths)
    name = model_id_of(iteration, dataset_id)
    scores: dict[Contender, list[dict[str, Any]]] = {}
    for contender in results:
        control = contender == "control"
        folder = candidate_folder(paths, iteration, control=control)
        called = f"{name}-control" if control else name
        scores[contender] = score_test_set(dataset_id, iteration, called, folder, settings, threads)
    raced = race(iteration, results, scores) if "control" in results else None
    winner: Contender = "control" if raced is not None and raced["winner"] == "control" else "fold"
    before = [] if current is None else _scores_of(paths, iteration, current, settings, threads)
    judgement = judge_candidate(dataset_id, iteration, results[winner], scores[winner], before, settings)
    return record_model(dataset_id, iteration, results[winner], scores[winner], judgement, raced)


def _scores_of(
    paths: DatasetPaths, iteration: Iteration, model: ModelRecord, settings: DatasetSettings, threads: int
) -> list[dict[str, Any]]:
    """What the model in use scores on the cases of today's test set."""
    # An imported model was validated elsewhere; without a test set it is asked what the folds are.
    validated_elsewhere = model.imported_from is not None and not iteration.test_cases()
    return score_test_set(
        paths.dataset_id,
        iteration,
        model.model_id,
        paths.home / model.folder,
        settings,
        threads,
        known=model.test_cases,
        labels=model.labels,
        cases=iteration.training_cases() if validated_elsewhere else None,
    )


def _folds(iteration: Iteration, chosen: list[int] | None) -> list[int]:
    wrong = sorted(set(chosen or []) - set(range(iteration.folds)))
    if wrong:
        raise ConfigError(f"--folds {wrong}: the folds are 0 to {iteration.folds - 1}")
    return sorted(set(chosen)) if chosen else list(range(iteration.folds))


def _train_folds(
    paths: DatasetPaths,
    iteration: Iteration,
    folds: list[int],
    contenders: list[Contender],
    settings: DatasetSettings,
    cluster: ClusterSettings,
) -> dict[Contender, list[dict[str, Any]]]:
    """Train folds at the same time. One that fails does not stop the others, and fails the flow."""
    threads = threads_per_worker(cluster)
    futures = {
        (contender, fold): train_fold.submit(paths.dataset_id, iteration, fold, settings, threads, contender)
        for contender in contenders
        for fold in folds
    }
    outcomes: dict[tuple[Contender, int], Any] = {
        key: outcome_of(future) for key, future in progress(futures.items(), "train", len(futures))
    }
    failed = {key: error for key, error in outcomes.items() if isinstance(error, Exception)}
    if failed:
        model = latest_model(paths)
        stays = f"`latest` stays at {model.model_id}" if model else "no model is in use"
        reasons = "; ".join(f"{contender} {fold}: {error}" for (contender, fold), error in failed.items())
        raise IterSegError(
            f"{len(failed)} of {len(futures)} folds failed, {stays}. {reasons}. Run the command again: "
            "what is finished is kept"
        )
    return {
        contender: [outcome for (which, _), outcome in outcomes.items() if which == contender]
        for contender in contenders
    }


def _in_use(paths: DatasetPaths) -> str | None:
    current = latest_model(paths)
    return current.model_id if current else None


def _report(paths: DatasetPaths, iteration: Iteration, record: ModelRecord, state: str) -> dict[str, Any]:
    rows = [
        {"fold": fold, "epochs": record.epochs[fold], **{f"dice {k}": v for k, v in dice.items()}}
        for fold, dice in record.validation_dice.items()
    ]
    show_table("train", paths.dataset_id, rows, f"model {record.model_id}, test {record.test_dice}")
    cases = [
        {
            "case_id": case["case_id"],
            "state": "done",
            "reason": None,
            "detail": f"test Dice {case['dice']}",
            "image": None,
            "label": None,
        }
        for case in record.test_cases
    ]
    return {
        "stage": "train",
        "state": state,
        "iteration": iteration.name,
        "model": record.model_id,
        "parent": record.parent,
        "accepted": record.accepted,
        "in_use": _in_use(paths),
        "compared_with": record.compared_with,
        "basis": record.basis,
        "verdicts": record.verdicts,
        "control": record.control,
        "suspects": [asdict(suspect) for suspect in suspects_of(paths, record)],
        "latest": str(paths.latest),
        "validation_dice": record.validation_dice,
        "test_dice": record.test_dice,
        "report": str(paths.report),
        "cases": cases,
        "totals": {"done": len(cases), "rejected": 0, "ignored": 0},
    }
