"""Judge: the candidate and the model in use on the same cases; a part of the flow ``train``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.cluster.pieces import run_one
from tasks.cluster.runner import threads_per_worker, worker_count
from tasks.errors import UserDataError
from tasks.labels import Labels
from tasks.ledger.iterations import Contender, Iteration
from tasks.ledger.models import ModelRecord, check_weights, latest_model
from tasks.ledger.paths import DatasetPaths
from tasks.promote import best_in_use, judge_candidate, race
from tasks.scoring import score_test_set, scoring_file
from tasks.settings.cluster import ClusterSettings
from tasks.settings.dataset import DatasetSettings
from tasks.shown.progress import steps_shown
from tasks.train import candidate_folder, model_id_of, record_model


def judged(
    paths: DatasetPaths,
    iteration: Iteration,
    results: dict[Contender, list[dict[str, Any]]],
    settings: DatasetSettings,
    where: ClusterSettings,
) -> ModelRecord:
    """Score the candidate and the model in use on the same cases, and write the candidate's record.

    Where a control raced the warm start, the better of the two is the candidate. It must not be worse than
    the model in use, nor than those since the last rollback that were best in a structure.
    """
    dataset_id, current = paths.dataset_id, latest_model(paths)
    name = model_id_of(iteration, dataset_id)
    scores: dict[Contender, list[dict[str, Any]]] = {}
    for contender, folds in results.items():
        control = contender == "control"
        folder = candidate_folder(paths, iteration, control=control)
        called = f"{name}-control" if control else name
        weights = [result["checkpoint_sha256"] for result in folds]
        scores[contender] = _scored(where, paths, iteration, called, (folder, weights), settings)
    raced = race(iteration, results, scores) if "control" in results else None
    winner: Contender = "control" if raced is not None and raced["winner"] == "control" else "fold"
    before = [] if current is None else _scores_of(paths, iteration, current, settings, where)
    candidate = (dataset_id, iteration, results[winner], scores[winner])
    judgement = judge_candidate(*candidate, before, settings, current)
    for best in best_in_use(paths, iteration, current, before, settings) if judgement["accepted"] else []:
        if current is not None and best.model_id == current.model_id:
            continue
        # A margin that is granted night after night adds up.
        try:
            earlier = _scores_of(paths, iteration, best, settings, where)
        except UserDataError as error:
            way_out = f"Or delete the folder {best.folder} as a whole: it is no measure for others then"
            raise UserDataError(f"{error}. {way_out}") from None
        beside_best = judge_candidate(*candidate, earlier, settings, best)
        if any(not verdict["non_inferior"] for verdict in beside_best["verdicts"]):
            judgement = beside_best
            break
    return record_model(dataset_id, iteration, results[winner], scores[winner], judgement, raced)


def _scores_of(
    paths: DatasetPaths,
    iteration: Iteration,
    model: ModelRecord,
    settings: DatasetSettings,
    where: ClusterSettings,
) -> list[dict[str, Any]]:
    """What a model scores on the cases of today's test set."""
    # An imported model was validated elsewhere; without a test set it is asked what the folds are, unless it
    # is one of ours that came back and has learned from them.
    validated_elsewhere = model.imported_from is not None and not model.seen and not iteration.test_cases()
    if validated_elsewhere or iteration.test_cases():
        check_weights(paths, model)  # with a fold less it would be easier to beat
    return _scored(
        where,
        paths,
        iteration,
        model.model_id,
        (paths.home / model.folder, list(model.checkpoints.values())),
        settings,
        known=model.test_cases,
        labels=model.labels,
        cases=iteration.training_cases() if validated_elsewhere else None,
    )


def _scored(
    where: ClusterSettings,
    paths: DatasetPaths,
    iteration: Iteration,
    name: str,
    model: tuple[Path, list[str]],
    settings: DatasetSettings,
    known: Sequence[Mapping[str, Any]] = (),
    labels: Labels | None = None,
    cases: Sequence[Mapping[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """Score where the folds were trained: on a cluster the flow's own machine has no GPU.

    ``model`` is its folder and the sha256 of the checkpoints in it.
    """
    if not (iteration.test_cases() if cases is None else cases):
        return []  # and no job waits in a queue for it
    # The folds are done, and their workers idle: locally the whole machine is there for it.
    share = worker_count(where, "train") if where.kind == "local" else 1
    threads = threads_per_worker(where, "train") * share
    arguments = (paths.dataset_id, iteration, name, *model, settings, threads, known, labels, cases)
    with steps_shown([scoring_file(paths, iteration, name)], "scored"):
        return list(run_one(score_test_set, f"test-set-{name}", arguments, where.attempts))
