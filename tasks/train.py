"""Train: folds in programs of their own, and the record of the model that they make."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import task

from tasks.cluster.attempts import Stopped, a_broken_node_takes_no_more
from tasks.cluster.placement import gpu_of_this_worker, take_no_more, this_worker
from tasks.cluster.retries import RETRIED
from tasks.cluster.slurm_queue import end_of_this_job
from tasks.copies import is_one_of
from tasks.errors import UserDataError
from tasks.ledger.dated import DatedName
from tasks.ledger.files import digest_of, read_json, write_json
from tasks.ledger.iteration_paths import fold_folder
from tasks.ledger.iterations import Contender, Iteration
from tasks.ledger.journal import now
from tasks.ledger.models import (
    ModelRecord,
    leaked_patients,
    load_model,
    load_models,
    parent_in,
    save_model,
)
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.store import Store
from tasks.ledger.withdrawals import load_withdrawals
from tasks.nnunet.fold import ASKED, RESULT, STOPPED, VALIDATED, FoldJob, trained_model_folder
from tasks.nnunet.fold import train_fold as run_fold
from tasks.processes.program import JOB_ENDS_AT, on_threads
from tasks.review.card import write_card
from tasks.review.scores import mean_scores
from tasks.settings.dataset import DatasetSettings
from tasks.shown.steps import shown_steps, steps_file
from tasks.versions import versions

NIGHT = "night.json"
"""In a fold's folder: which night it was last trained in, and when its share of that is used up."""


def model_id_of(iteration: Iteration, dataset_id: str) -> str:
    """A model has the short name of its iteration."""
    name = DatedName.parse(iteration.name, dataset_id)
    assert name is not None
    return name.short


def model_of(paths: DatasetPaths, iteration: Iteration) -> ModelRecord | None:
    """The model that an iteration has already become."""
    wanted = model_id_of(iteration, paths.dataset_id)
    return next((record for record in load_models(paths) if record.model_id == wanted), None)


def require_current(paths: DatasetPaths, iteration: Iteration) -> None:
    """Raise :class:`UserDataError` for a prepared iteration that would not be prepared like this any more."""
    out = withdrawn_since(paths, iteration.cases)
    parent = parent_in(paths, iteration.lineage)
    other = iteration.parent != (parent.model_id if parent else None)
    if out or other:
        why = f"{len(out)} of its cases were withdrawn" if out else "another model is in use"
        raise UserDataError(
            f"since {iteration.name} was prepared {why}; run `iterseg prepare {paths.dataset_id}` first"
        )


def withdrawn_since(paths: DatasetPaths, cases: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those cases of an iteration that are out by now."""
    withdrawals, store = load_withdrawals(paths.withdrawals), Store(paths.store)
    return [
        case
        for case in cases
        if withdrawals.hold(case["patient"], case["case_id"])
        or is_one_of(withdrawals.scans, store.image(case["case_id"], case["image_key"]))
    ]


def control_is_due(paths: DatasetPaths, iteration: Iteration, every: int | None) -> bool:
    """Whether a training from scratch is to race the warm start of this iteration.

    A lineage of warm starts may end worse than a training from scratch on the same cases
    (TotalSegmentator#358), so it is tried every so many iterations.
    """
    if every is None or iteration.parent is None:
        return False
    since = 1
    for record in reversed(load_models(paths)):
        if record.lineage != iteration.lineage:
            continue
        if record.parent is None or record.control is not None:
            break
        since += 1
    return since >= every


def candidate_folder(paths: DatasetPaths, iteration: Iteration, *, control: bool = False) -> Path:
    """nnU-Net's folder of the model that an iteration becomes, or of the control that races it."""
    at = paths.iteration_named(iteration.name)
    results = at.results_of_control if control else at.results
    return trained_model_folder(results, iteration.plans_name, iteration.configuration)


def is_finished(paths: DatasetPaths, iteration: Iteration, contender: Contender, fold: int) -> bool:
    """Whether a training has a result; whether it is still that of its job is seen when it is asked for."""
    folder = candidate_folder(paths, iteration, control=contender == "control")
    return (fold_folder(folder, fold) / RESULT).is_file()


def fold_job(
    paths: DatasetPaths, iteration: Iteration, fold: int, settings: DatasetSettings, *, control: bool = False
) -> FoldJob:
    """Everything that decides a fold's training; a control has no parent.

    Raises
    ------
    UserDataError
        Where the parent's weights have seen a patient that would now validate them.
    """
    training = settings.training
    parent = load_model(paths, iteration.parent) if iteration.parent and not control else None
    early_stop = training.early_stop.model_dump() if training.early_stop else {}
    warm_start, sha256 = (None, None) if parent is None else _warm_start(paths, iteration, fold, parent)
    return FoldJob(
        dataset=paths.iteration_named(iteration.name).nnunet_dataset,
        plans_name=iteration.plans_name,
        configuration=iteration.configuration,
        fold=fold,
        device=training.device,
        choices={
            "epochs": training.epochs_fine_tune if parent else training.epochs_first,
            "iterations_per_epoch": training.iterations_per_epoch,
            "validation_iterations": training.validation_iterations,
            "optimizer": training.optimizer,
            "learning_rate": (training.learning_rate_fine_tune if parent else training.learning_rate_first),
            "checkpoint_every_s": training.checkpoint_every_s,
            "mirroring": settings.prediction.mirroring,
            **early_stop,
            # Only where it is not so: trainings that were begun before it could be chosen go on.
            **({} if training.mirrored else {"mirrored": False}),
        },
        data=digest_of([iteration.digest, iteration.preparation]),
        warm_start=warm_start,
        warm_start_sha256=sha256,
    )


def _warm_start(paths: DatasetPaths, iteration: Iteration, fold: int, parent: ModelRecord) -> tuple[str, str]:
    """The parent's checkpoint for a fold, with its sha256."""
    judges = [*iteration.fold_of_cases(fold), *iteration.test_cases()]
    leaked = leaked_patients(parent, {fold: [case["patient"] for case in judges]})
    if leaked:
        raise UserDataError(
            f"fold {fold} would be judged by {len(leaked[fold])} patients that model "
            f"{parent.model_id} or its ancestors were trained on in this fold; the warm start is "
            f"refused. Was {paths.patients} changed or lost? Restore it from the backup"
        )
    # A model from elsewhere may have fewer folds; none of them has seen anybody from here.
    stranger = parent.imported_from is not None and not parent.seen
    own = str(fold % len(parent.checkpoints)) if stranger else str(fold)
    return str(parent.checkpoint(paths, own)), parent.checkpoints[own]


@dataclass(frozen=True)
class Share:
    """What a training may use of the budget of a night."""

    night: str
    seconds: float


def _stop_at(
    paths: DatasetPaths, iteration: Iteration, contender: Contender, fold: int, share: Share
) -> float:
    """When a training has used its share, in seconds since the epoch; the same for all attempts of a night.

    The clock starts with the first of them: the time in the queue before it costs nothing.
    """
    folder = fold_folder(candidate_folder(paths, iteration, control=contender == "control"), fold)
    file = folder / NIGHT
    known = read_json(file) if file.is_file() else {}
    if known.get("night") != share.night:
        known = {"night": share.night, "stop_at": time.time() + share.seconds}
        write_json(file, known)
    return float(known["stop_at"])


@task(task_run_name="{contender}-{fold}", **RETRIED)
def train_fold(
    dataset_id: str,
    iteration: Iteration,
    fold: int,
    settings: DatasetSettings,
    threads: int,
    contender: Contender = "fold",
    share: Share | None = None,
) -> dict[str, Any] | Stopped:
    """Train one fold; its progress is an artifact that moves with every epoch.

    Parameters
    ----------
    share
        What this training may use of the budget: it ends before that is used up, and saves.

    Returns
    -------
    What :func:`tasks.nnunet.fold.train_fold` does, with ``fold`` and the name of the ``worker``; or where
    it stopped.
    """
    paths = DatasetPaths.of(dataset_id)
    at = paths.iteration_named(iteration.name)
    control = contender == "control"
    name = f"{contender}-{fold}"
    show = shown_steps(dataset_id, name, steps_file(paths, iteration, name))

    stop_at = None if share is None else _stop_at(paths, iteration, contender, fold, share)
    if stop_at is not None and stop_at < time.time() and not is_finished(paths, iteration, contender, fold):
        return Stopped((0, 0), None, budget_spent=True)
    job_ends_at = end_of_this_job()
    limits = [limit for limit in (job_ends_at, stop_at) if limit is not None]
    with a_broken_node_takes_no_more():
        result = run_fold(
            fold_job(paths, iteration, fold, settings, control=control),
            {**at.environment(control=control), **fold_environment(threads, settings, limits)},
            candidate_folder(paths, iteration, control=control),
            paths.log(f"{iteration.name}.{name}"),
            show,
        )
    if STOPPED in result:
        take_no_more()
        # It stops within an epoch or a case of the limit, unless somebody clears its node.
        spent = not result[ASKED] and stop_at is not None and stop_at == min(limits)
        return Stopped((result[STOPPED], result[VALIDATED]), this_worker(), budget_spent=spent)
    return {"fold": fold, "worker": this_worker(), **{k: v for k, v in result.items() if k != "job"}}


def fold_environment(threads: int, settings: DatasetSettings, limits: Sequence[float]) -> dict[str, str]:
    """What a fold's program is told besides where things lie; ``limits`` in seconds since the epoch."""
    augmentation = settings.training.augmentation_workers
    return {
        **gpu_of_this_worker(),
        **({JOB_ENDS_AT: str(min(limits))} if limits else {}),
        **on_threads(threads),
        "nnUNet_def_n_proc": str(threads),
        "nnUNet_n_proc_DA": str(max(1, threads - 1) if augmentation is None else augmentation),
    }


@task(task_run_name="record-model", **RETRIED)
def record_model(
    dataset_id: str,
    iteration: Iteration,
    folds: Sequence[dict[str, Any]],
    test_cases: Sequence[dict[str, Any]],
    judgement: Mapping[str, Any],
    race: Mapping[str, Any] | None = None,
) -> ModelRecord:
    """Write the model's record; its ancestry of patients is its parent's and its own.

    Parameters
    ----------
    race
        What :func:`tasks.promote.race` found, where a control raced the warm start.
    """
    paths = DatasetPaths.of(dataset_id)
    control = race is not None and race["winner"] == "control"
    parent = load_model(paths, iteration.parent) if iteration.parent and not control else None
    folder = candidate_folder(paths, iteration, control=control)
    record = ModelRecord(
        model_id=model_id_of(iteration, dataset_id),
        parent=parent.model_id if parent else None,
        folder=str(folder.relative_to(paths.home)),
        created=now(),
        structures=iteration.structures,
        mask_strategy=iteration.mask_strategy,
        seen={str(fold): _seen(iteration, parent, fold) for fold in range(iteration.folds)},
        checkpoints={str(result["fold"]): result["checkpoint_sha256"] for result in folds},
        epochs={str(result["fold"]): result["epochs"] for result in folds},
        cases={
            "training": len(iteration.training_cases()),
            "test": len(iteration.test_cases()),
        },
        validation_dice={str(result["fold"]): result["validation_dice"] for result in folds},
        cross_validation=mean_scores(
            [dice for result in folds for dice in result["cases"].values()], iteration.structures
        ),
        test_dice=_mean("dice", test_cases, iteration),
        test_surface_dice=_mean("surface_dice", test_cases, iteration),
        test_hd95_mm=_mean("hd95_mm", test_cases, iteration),
        test_cases=list(test_cases),
        lineage=iteration.lineage,
        parent_digest=parent.digest if parent else None,
        ancestors=[*parent.ancestors, parent.digest] if parent else [],
        training_s={str(result["fold"]): result["training_s"] for result in folds},
        control=None if race is None else dict(race),
        versions=versions(),
        **judgement,
    )
    write_card(paths, record)
    save_model(paths, record)
    return record


def _mean(
    score: str, test_cases: Sequence[Mapping[str, Any]], iteration: Iteration
) -> dict[str, float | None]:
    return mean_scores([case[score] for case in test_cases], iteration.structures)


def _seen(iteration: Iteration, parent: ModelRecord | None, fold: int) -> list[str]:
    own = {c["patient"] for c in iteration.training_cases() if c["place"] != fold}
    return sorted(own | set(parent.seen.get(str(fold), []) if parent else []))
