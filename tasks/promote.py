"""Promote: a candidate is judged beside the model in use, and put into use or kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from prefect import task

from tasks.cluster.retries import RETRIED
from tasks.leads import validated_before
from tasks.ledger.files import read_json
from tasks.ledger.iteration_paths import fold_folder
from tasks.ledger.iterations import Contender, Iteration
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
)
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.store import Store
from tasks.nnunet.fold import RESULT
from tasks.review.promotion import ScoredCase, Scores, Verdict, judge
from tasks.review.scores import mean_of_defined, mean_scores
from tasks.settings.dataset import DatasetSettings
from tasks.shown.events import tell_event

ALARMS = ("false_alarms", "false_alarms_before", "empty", "alarm_bound")
"""What a verdict says of the cases in which nothing is."""


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
        What that model scored on the test set; of an imported one also on cases outside it, none of which it
        has seen, where there is none or none of its cases has a structure.
    current
        That model; None: there is none, and the candidate is the first.

    Returns
    -------
    The fields ``compared_with``, ``basis``, ``verdicts`` and ``accepted`` of a model's record.
    """
    paths = DatasetPaths.of(dataset_id)
    if current is None:
        return {"compared_with": None, "basis": "the first model", "verdicts": [], "accepted": True}
    validation = _cross_validation(paths, current, settings.prediction.mirroring)
    basis = "test set" if test_cases else validation
    before = {row["case_id"]: row["dice"] for row in current_cases}
    shared = [name for name in iteration.structures if name in current.structures]
    verdicts: dict[str, Verdict] = {}
    if test_cases:
        after = {row["case_id"]: row["dice"] for row in test_cases}
        verdicts = _verdicts(paths, iteration, after, before, shared, settings)
    if untested := [name for name in shared if name not in verdicts or not verdicts[name].cases]:
        tested_on = {row["case_id"] for row in test_cases}
        earlier = {case_id: dice for case_id, dice in before.items() if case_id not in tested_on}
        earlier = earlier or validated_before(paths, current, iteration, settings.surface_tolerance_mm)
        validated = {case_id: dice for fold in folds for case_id, dice in fold["cases"].items()}
        found = _verdicts(paths, iteration, validated, earlier, untested, settings)
        other = validation if test_cases else ""
        for name, verdict in found.items():
            # A structure that no test case has may still be found in one.
            tested = verdicts.get(name, verdict)
            told = tested if verdict.quiet else verdict
            verdicts[name] = replace(
                verdict,
                basis=other if verdict.cases else "",
                non_inferior=verdict.non_inferior and tested.non_inferior,
                **{field: getattr(told, field) for field in ALARMS},
            )
    in_order = [verdicts[name] for name in shared]
    compared = any(verdict.cases for verdict in in_order)
    return {
        "compared_with": current.model_id,
        "basis": basis if compared else f"{basis}, without a case and a structure that both know",
        "verdicts": [asdict(verdict) for verdict in in_order],
        "accepted": compared and all(verdict.non_inferior for verdict in in_order),
    }


def _cross_validation(paths: DatasetPaths, current: ModelRecord, mirroring: bool) -> str:
    """What to call it: a former model's folds are not validated again when ``mirroring`` is changed."""
    files = (fold_folder(paths.home / current.folder, fold) / RESULT for fold in current.checkpoints)
    before = [read_json(file).get("job", {}).get("choices", {}) for file in files if file.is_file()]
    unlike = any(choices.get("mirroring", mirroring) != mirroring for choices in before)
    return "cross-validation" + (", with mirroring and without" if unlike else "")


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


def untested_structures(
    paths: DatasetPaths, iteration: Iteration, cases: Sequence[Mapping[str, Any]]
) -> list[str]:
    """The structures of an iteration that no label of some cases holds; where it is not known, one may."""
    store, there = Store(paths.store), set[int]()
    for case in cases:
        if not store.voxel_counts(case["case_id"], case["label_key"]).is_file():
            return []
        there |= store.read_voxel_counts(case["case_id"], case["label_key"]).keys()
    return [name for name in iteration.structures if there.isdisjoint(iteration.labels.values[name])]


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
