"""Judge: the candidate and the model in use on the same cases; a part of the flow ``train``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.cluster.pieces import run_one
from tasks.cluster.runner import threads_per_worker, worker_count
from tasks.errors import UserDataError
from tasks.labels import Labels
from tasks.leads import best_in_use
from tasks.ledger.iterations import Contender, Iteration
from tasks.ledger.models import ModelRecord, check_weights, latest_model
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.refinements import drawn_over
from tasks.ledger.scores import keep_scores, scores_on_record
from tasks.promote import judge_candidate, race, untested_structures
from tasks.scoring import score_test_set, scoring_file
from tasks.settings.cluster import ClusterSettings
from tasks.settings.dataset import DatasetSettings
from tasks.shown.progress import steps_shown
from tasks.train import candidate_folder, model_id_of, record_model

Row = dict[str, Any]


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
    if current is not None and judgement["accepted"]:
        # A margin that is granted night after night adds up.
        untested = [verdict["structure"] for verdict in judgement["verdicts"] if verdict["basis"]]
        for best, scored in _best(paths, iteration, (current, before), untested, settings, where):
            beside_best = judge_candidate(*candidate, scored, settings, best)
            if any(not verdict["non_inferior"] for verdict in beside_best["verdicts"]):
                judgement = beside_best
                break
    return record_model(dataset_id, iteration, results[winner], scores[winner], judgement, raced)


def _best(
    paths: DatasetPaths,
    iteration: Iteration,
    current: tuple[ModelRecord, list[Row]],
    untested: Sequence[str],
    settings: DatasetSettings,
    where: ClusterSettings,
) -> list[tuple[ModelRecord, list[Row]]]:
    """The former models that are ahead of the one in use, scored on all cases of today.

    One that seems to be so by the few cases of its day is scored on the others, and may turn out not to be:
    then it hides no other one.
    """
    scored = {current[0].model_id: current[1]}
    while True:
        best = best_in_use(paths, iteration, current[0], scored, settings.prediction.mirroring, untested)
        new = [model for model in best if model.model_id not in scored]
        if not new:
            return [(model, scored[model.model_id]) for model in best]
        for model in new:
            try:
                scored[model.model_id] = _scores_of(paths, iteration, model, settings, where)
            except UserDataError as error:
                way_out = f"Or delete the folder {model.folder} as a whole: it is no measure for others then"
                raise UserDataError(f"{error}. {way_out}") from None


def _scores_of(
    paths: DatasetPaths,
    iteration: Iteration,
    model: ModelRecord,
    settings: DatasetSettings,
    where: ClusterSettings,
) -> list[Row]:
    """What a model scores on the cases of today's test set; kept, so that another night need not predict."""
    asked = _asked(paths, iteration, model)
    if asked or iteration.test_cases():
        check_weights(paths, model)  # with a fold less it would be easier to beat
    rows = _scored(
        where,
        paths,
        iteration,
        model.model_id,
        (paths.home / model.folder, list(model.checkpoints.values())),
        settings,
        known=scores_on_record(paths, model),
        labels=model.labels,
        cases=asked,
    )
    keep_scores(paths, model, rows)
    return rows


def _asked(paths: DatasetPaths, iteration: Iteration, model: ModelRecord) -> list[dict[str, Any]] | None:
    """The cases that a model is scored on; None: those of the test set.

    An imported model was validated elsewhere. Without a test set it is asked what the folds are, and for a
    structure that it knows and no test case has, also the training cases that have it; unless it is one of
    ours that came back and has learned from them.
    """
    if model.imported_from is None or model.seen:
        return None
    tested = iteration.test_cases()
    if not tested:
        return _fair_cases(paths, iteration, model)
    untested = set(untested_structures(paths, iteration, tested)) & set(model.structures)
    others = [
        case
        for case in (_fair_cases(paths, iteration, model) if untested else [])
        if untested - set(untested_structures(paths, iteration, [case]))
    ]
    return [*tested, *others] if others else None


def _fair_cases(paths: DatasetPaths, iteration: Iteration, model: ModelRecord) -> list[dict[str, Any]]:
    """The cases outside the test set, but those whose label began as this model's own prediction.

    There it would be asked whether it agrees with itself. Where there are no others it is, and is hard to
    beat: better nothing new than something worse.
    """
    cases = iteration.training_cases()
    own = drawn_over(paths, model.model_id, {case["case_id"]: case["label_key"] for case in cases})
    return [case for case in cases if case["case_id"] not in own] or cases


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
