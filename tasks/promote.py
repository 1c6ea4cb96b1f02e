"""Promote: a candidate is judged beside the model in use, and put into use or kept."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from prefect import task

from tasks.cluster.retries import RETRIED
from tasks.ledger.files import read_json
from tasks.ledger.iteration_paths import fold_folder, validation_prediction
from tasks.ledger.iterations import Contender, Iteration, load_iteration
from tasks.ledger.lineages import resume_lineage
from tasks.ledger.models import (
    BY_ROLLBACK,
    ModelRecord,
    check_record,
    check_weights,
    latest_model,
    load_model,
    promote,
    save_model,
    used_since_rollback,
)
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.store import Store
from tasks.nnunet.fold import RESULT
from tasks.review.promotion import ScoredCase, Scores, Verdict, judge
from tasks.review.scores import mean_of_defined, mean_scores, scores_of_files
from tasks.settings.dataset import DatasetSettings
from tasks.shown.events import tell_event


@task(task_run_name="judge", **RETRIED)
def judge_candidate(
    dataset_id: str,
    iteration: Iteration,
    folds: Sequence[Mapping[str, Any]],
    test_cases: Sequence[Mapping[str, Any]],
    current_cases: Sequence[Mapping[str, Any]],
    settings: DatasetSettings,
    current: ModelRecord | None,
) -> dict[str, Any]:
    """Whether a candidate is not worse than another model, as a rule the one in use.

    On the test set where there is one; else, and for a structure that no test case has, on the cases that
    both models were validated on in the same fold, each by weights that have never seen them.

    Parameters
    ----------
    current_cases
        What that model scored on the test set; without one, an imported model's scores on all cases, none
        of which it has seen.
    current
        That model; None: there is none, and the candidate is the first.

    Returns
    -------
    The fields ``compared_with``, ``basis``, ``verdicts`` and ``accepted`` of a model's record.
    """
    paths = DatasetPaths.of(dataset_id)
    if current is None:
        return {"compared_with": None, "basis": "the first model", "verdicts": [], "accepted": True}
    basis = "test set" if test_cases else "cross-validation"
    before = {row["case_id"]: row["dice"] for row in current_cases}
    shared = [name for name in iteration.structures if name in current.structures]
    verdicts: dict[str, Verdict] = {}
    if test_cases:
        after = {row["case_id"]: row["dice"] for row in test_cases}
        verdicts = _verdicts(paths, iteration, after, before, shared, settings)
    if untested := [name for name in shared if name not in verdicts or not verdicts[name].cases]:
        earlier = {} if test_cases else before
        earlier = earlier or _validated_before(paths, current, iteration, settings.surface_tolerance_mm)
        validated = {case_id: dice for fold in folds for case_id, dice in fold["cases"].items()}
        found = _verdicts(paths, iteration, validated, earlier, untested, settings)
        other = "" if basis == "cross-validation" else "cross-validation"
        for name, verdict in found.items():
            # A structure that no test case has may still be found in one.
            tested = verdicts.get(name, verdict)
            verdicts[name] = replace(
                verdict,
                basis=other if verdict.cases else "",
                non_inferior=verdict.non_inferior and tested.non_inferior,
                false_alarms=tested.false_alarms,
                false_alarms_before=tested.false_alarms_before,
                empty=tested.empty,
            )
    in_order = [verdicts[name] for name in shared]
    compared = any(verdict.cases for verdict in in_order)
    return {
        "compared_with": current.model_id,
        "basis": basis if compared else f"{basis}, without a case and a structure that both know",
        "verdicts": [asdict(verdict) for verdict in in_order],
        "accepted": compared and all(verdict.non_inferior for verdict in in_order),
    }


def _verdicts(
    paths: DatasetPaths,
    iteration: Iteration,
    after: Mapping[str, Scores],
    before: Mapping[str, Scores],
    structures: Sequence[str],
    settings: DatasetSettings,
) -> dict[str, Verdict]:
    """Structure → what the cases say that both models have scores of."""
    cases = {case["case_id"]: case for case in iteration.cases}
    scored = [
        ScoredCase(cases[c]["patient"], after[c], before[c], _absent(paths, iteration, cases[c]))
        for c in sorted(after.keys() & before.keys())
    ]
    found = judge(scored, structures, **settings.promotion.model_dump())
    return {verdict.structure: verdict for verdict in found}


def _absent(paths: DatasetPaths, iteration: Iteration, case: Mapping[str, Any]) -> frozenset[str]:
    """The structures that a label knows are not there; of one that knows only a part of the image, none."""
    store = Store(paths.store)
    if not store.voxel_counts(case["case_id"], case["label_key"]).is_file():
        return frozenset()
    there = store.read_voxel_counts(case["case_id"], case["label_key"]).keys()
    if iteration.labels.ignore in there:
        return frozenset()
    values = iteration.labels.values
    return frozenset(name for name in iteration.structures if there.isdisjoint(values[name]))


def best_in_use(
    paths: DatasetPaths,
    iteration: Iteration,
    current: ModelRecord | None,
    current_cases: Sequence[Mapping[str, Any]],
    settings: DatasetSettings,
) -> list[ModelRecord]:
    """Of the models in use since the last rollback, for each structure the one furthest above that of now.

    Case by case, where both have a Dice on record of the same image and label: a mean of another day is of
    another test set, and one that was easy then would be held against all that follow. Structure by
    structure: what one gains in many nights would hide what another loses. Likewise the one that is furthest
    ahead of it in false alarms.

    Parameters
    ----------
    current_cases
        What the model in use scores on today's test set; empty without one, where both are compared on the
        cases that they were validated on.
    """
    if current is None:
        return []
    tested = bool(iteration.test_cases())
    today = {_image_and_label(case) for case in iteration.test_cases()}

    def on_record(model: ModelRecord) -> Mapping[str, Scores]:
        if not tested:
            return _validated_before(paths, model, iteration, None)
        alike = [row for row in model.test_cases if row.get("mirroring") == settings.prediction.mirroring]
        return {row["case_id"]: row["dice"] for row in alike if _image_and_label(row) in today}

    own = {row["case_id"]: row["dice"] for row in current_cases} if tested else on_record(current)
    best: dict[tuple[str, str], tuple[float, str, ModelRecord]] = {}
    for model in used_since_rollback(paths, iteration.structures):
        for what, mean in _ahead(on_record(model), own).items():
            found = (mean, model.created, model)
            if mean > 0 and (what not in best or found[:2] > best[what][:2]):
                best[what] = found
    models = {model.model_id: model for _, _, model in best.values()}
    return [models[model_id] for model_id in sorted(models)]


def _ahead(theirs: Mapping[str, Scores], own: Mapping[str, Scores]) -> dict[tuple[str, str], float]:
    """By how much another model is better, in the mean of the cases of which both have a score.

    Structure and ``Dice`` → the difference; structure and ``silence`` → of the cases in which one or both
    have no Dice, since nothing is there and they see nothing, the share that it is silent in, less our own.
    """
    changes: dict[tuple[str, str], list[float]] = defaultdict(list)
    for case_id in own.keys() & theirs.keys():
        for name in own[case_id].keys() & theirs[case_id].keys():
            dice, other = own[case_id][name], theirs[case_id][name]
            if dice is not None and other is not None:
                changes[name, "Dice"].append(other - dice)
            else:
                changes[name, "silence"].append(float(other is None) - float(dice is None))
    return {what: sum(found) / len(found) for what, found in changes.items()}


def _image_and_label(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["case_id"], row.get("image_key"), row.get("label_key")


def _validated_before(
    paths: DatasetPaths, current: ModelRecord, iteration: Iteration, tolerance_mm: float | None
) -> dict[str, dict[str, float | None]]:
    """Case → Dice of the model in use by weights that have not seen it, against the label of today.

    Where the label has changed since, the prediction of then is scored again, or left out where
    ``tolerance_mm`` is None. An imported model was validated elsewhere, on nothing that is known here.
    """
    folder = paths.home / current.folder
    own = load_iteration(current.iteration(paths))
    if own is None:
        return {}
    store, now = Store(paths.store), {case["case_id"]: case for case in iteration.cases}
    scores: dict[str, dict[str, float | None]] = {}
    for then in own.training_cases():
        case_id, fold = then["case_id"], fold_folder(folder, then["place"])
        today = now.get(case_id)
        if today is None or today["image_key"] != then["image_key"]:
            continue
        prediction = validation_prediction(fold, case_id)
        truth = store.label(case_id, today["label_key"])
        if today["label_key"] == then["label_key"]:
            scores[case_id] = read_json(fold / RESULT)["cases"][case_id]
        elif tolerance_mm is not None and prediction.is_file() and truth.is_file():
            scores[case_id] = scores_of_files(
                truth, prediction, iteration.labels, tolerance_mm, current.labels
            )["dice"]
    return scores


@task(task_run_name="race", **RETRIED)
def race(
    iteration: Iteration,
    folds: Mapping[Contender, Sequence[Mapping[str, Any]]],
    test_cases: Mapping[Contender, Sequence[Mapping[str, Any]]],
) -> dict[str, Any]:
    """Which of the warm start and the training from scratch is the better one.

    On the test set where there is one, else on the validation cases, which are the same for both. The
    mean over structures of the mean Dice decides; of two that are equal the warm start wins.

    Parameters
    ----------
    folds, test_cases
        Contender (``fold`` or ``control``) → its folds' results and its scores on the test set.

    Returns
    -------
    ``winner`` (``warm start`` or ``control``), ``basis``, and ``dice``: contender → structure → mean Dice.
    """
    basis = "test set" if iteration.test_cases() else "cross-validation"
    dice = {}
    names: dict[Contender, str] = {"fold": "warm start", "control": "control"}
    for contender, name in names.items():
        rows = [row["dice"] for row in test_cases[contender]]
        rows = rows or [row for result in folds[contender] for row in result["cases"].values()]
        dice[name] = mean_scores(rows, iteration.structures)
    means = {name: mean_of_defined(scores.values()) or 0.0 for name, scores in dice.items()}
    winner = "control" if means["control"] > means["warm start"] else "warm start"
    return {"winner": winner, "basis": basis, "dice": dice}


@task(task_run_name="promote", **RETRIED)
def promote_model(dataset_id: str, record: ModelRecord) -> None:
    """Point ``latest`` at a model that was accepted, in one atomic step."""
    paths = DatasetPaths.of(dataset_id)
    check_record(paths, record)
    check_weights(paths, record)
    than = f"not worse than {record.compared_with} on the " if record.compared_with else ""
    why = f"{than}{record.basis}"
    promote(paths, record, why)
    save_model(paths, replace(record, promoted=True))
    tell_event("iterseg.model.promoted", dataset_id, model=record.model_id, why=why)


@task(task_run_name="rollback", **RETRIED)
def put_back(dataset_id: str, model_id: str) -> dict[str, Any]:
    """Point ``latest`` at a former model, whatever was judged; the history says so.

    Later iterations go on from it, in its lineage.

    Raises
    ------
    UserDataError
        Where there is no such model, or its weights are not those on record.
    """
    paths = DatasetPaths.of(dataset_id)
    record, before = load_model(paths, model_id), latest_model(paths)
    check_record(paths, record)
    check_weights(paths, record)
    resume_lineage(paths, record.lineage, f"rollback to {record.model_id}")
    promote(paths, record, BY_ROLLBACK)
    save_model(paths, replace(record, promoted=True))
    return {"model": record.model_id, "instead_of": before.model_id if before else None}
