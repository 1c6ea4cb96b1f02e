"""Train: the folds of an iteration, in parallel; a model that is not worse takes the place of the old.

Inputs: a prepared iteration; the model in use, from which the folds start warm. Output: a model.
Command: ``iterseg train DATASET``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any

from prefect import flow
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from pydantic import Field

from flows.judgement import judged
from flows.pages import write_pages
from flows.parameters import ClusterName, DatasetId, Day, GpuHours, Jobs, run_name
from tasks.cluster.attempts import run_all
from tasks.cluster.pieces import submitting
from tasks.cluster.runner import task_runner, threads_per_worker
from tasks.errors import ConfigError, IterSegError, UserDataError
from tasks.inputs import Inputs
from tasks.ledger.iterations import Contender, Iteration, load_iteration, newest_iteration
from tasks.ledger.lineages import load_lineages
from tasks.ledger.models import ModelRecord, latest_model, load_models, was_rolled_back_since
from tasks.ledger.paths import DatasetPaths
from tasks.promote import promote_model
from tasks.settings.cluster import ClusterSettings, load_cluster
from tasks.settings.dataset import DatasetSettings, check_choices
from tasks.shown.artifacts import show_table
from tasks.shown.progress import noted_step, steps_shown, told
from tasks.shown.steps import steps_file
from tasks.state import require_dataset
from tasks.suspects import suspects_of
from tasks.train import (
    Share,
    control_is_due,
    is_finished,
    model_of,
    require_current,
    train_fold,
    withdrawn_since,
)
from tasks.turn import turn_of


@flow(name="train", flow_run_name=run_name("train"), task_runner=task_runner("train"))
def train(
    dataset_id: DatasetId,
    cluster: ClusterName = "local",
    date: Day = None,
    folds: Annotated[list[int] | None, Field(description="Some folds only; all if left out.")] = None,
    iteration: Annotated[
        str | None, Field(description="A prepared iteration; the newest if left out.")
    ] = None,
    gpu_hours: GpuHours = None,
    jobs: Jobs = None,
) -> dict[str, Any]:
    """Train the folds; score the ensemble on the test set; put the model into use."""
    paths = DatasetPaths.of(dataset_id)
    rois, settings = check_choices(paths.config, paths.dataset_id)
    where = load_cluster(paths.config, cluster)
    require_dataset(paths)
    with turn_of(paths, where, settings):
        lineage = load_lineages(paths)[1] if iteration is None else None
        prepared = newest_iteration(paths, str(date) if date else None, iteration, lineage)
        known = model_of(paths, prepared)
        if known is not None:
            finish_promotion(paths)
            return _report(paths, prepared, model_of(paths, prepared) or known, "nothing new")
        require_current(paths, prepared)
        if not Inputs(prepared.lineage, prepared.cases, settings, rois).are_of(prepared):
            raise UserDataError(
                f"since {prepared.name} was prepared, settings or structures that decide what is learned "
                f"were changed; run `iterseg prepare {paths.dataset_id}` first, or set them back"
            )
        chosen = _folds(prepared, folds)
        return _train(paths, prepared, chosen, settings, where, _Budget(gpu_hours, jobs))


def finish_promotion(paths: DatasetPaths) -> None:
    """Put the newest model into use where a run was killed between its record and the end of its promotion.

    Whatever has come in since: a label that comes by day must not cost the night before. Not where somebody
    was withdrawn since, of whom it has learned: who withdraws is told which model is in use.
    """
    models = load_models(paths)
    if not models:
        return
    newest = models[-1]
    waits = newest.accepted and not newest.promoted and not was_rolled_back_since(paths, newest)
    if not waits or _in_use(paths) not in (newest.compared_with, newest.model_id):
        return
    own = load_iteration(newest.iteration(paths))
    if own is not None and (out := len(withdrawn_since(paths, own.training_cases()))):
        told(
            f"model {newest.model_id} was accepted, and is not put into use: "
            f"{out} of its cases were withdrawn since"
        )
        get_run_logger().warning("model %s is not put into use: %s cases withdrawn", newest.model_id, out)
        return
    try:
        promote_model(paths.dataset_id, newest)
    except UserDataError as error:  # somebody made room; what has come since can be learned from
        told(f"model {newest.model_id} was accepted, and is not put into use: {error}")
        get_run_logger().error("model %s was accepted, and is not put into use: %s", newest.model_id, error)
        return
    write_pages(paths)


def _train(
    paths: DatasetPaths,
    iteration: Iteration,
    folds: list[int],
    settings: DatasetSettings,
    where: ClusterSettings,
    budget: _Budget,
) -> dict[str, Any]:
    """Train, judge, promote: as far as the folds that are wanted and the budget allow."""
    whole = len(folds) == iteration.folds
    controlled = whole and control_is_due(paths, iteration, settings.training.control_every)
    contenders: list[Contender] = ["fold", "control"] if controlled else ["fold"]
    trainings = [(contender, fold) for contender in contenders for fold in folds]
    done = _train_folds(paths, iteration, trainings, settings, where, budget)
    if len(done) < len(trainings):
        return _unfinished(paths, iteration, [training for training in trainings if training not in done])
    results = {contender: [done[contender, fold] for fold in folds] for contender in contenders}
    if not whole:
        return _some_folds(paths, iteration, results["fold"])
    record = judged(paths, iteration, results, settings, where)
    if record.accepted:
        promote_model(paths.dataset_id, record)
    write_pages(paths)
    _show_learning_curve(paths)
    return _report(paths, iteration, record, "trained")


def _show_learning_curve(paths: DatasetPaths) -> None:
    """Every model of the dataset, oldest first, as the report draws them."""
    rows = [
        {
            "model": record.model_id,
            "parent": record.parent or "scratch",
            "training cases": record.cases["training"],
            **{f"test Dice {structure}": value for structure, value in record.test_dice.items()},
            "used": "yes" if record.promoted else "no",
        }
        for record in load_models(paths)
    ]
    show_table("learning-curve", paths.dataset_id, rows, f"drawn in {paths.report}")


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


def _folds(iteration: Iteration, chosen: list[int] | None) -> list[int]:
    wrong = sorted(set(chosen or []) - set(range(iteration.folds)))
    if wrong:
        raise ConfigError(f"--folds {wrong}: the folds are 0 to {iteration.folds - 1}")
    return sorted(set(chosen)) if chosen else list(range(iteration.folds))


@dataclass(frozen=True)
class _Budget:
    """What a night may cost."""

    gpu_hours: float | None
    jobs: int | None

    def share_of(self, trainings: int) -> Share | None:
        """The hours are divided among the trainings that are not finished; each uses its own."""
        if self.gpu_hours is None:
            return None
        return Share(str(flow_run.get_id()), self.gpu_hours * 3600 / max(1, trainings))


def _train_folds(
    paths: DatasetPaths,
    iteration: Iteration,
    trainings: list[tuple[Contender, int]],
    settings: DatasetSettings,
    where: ClusterSettings,
    budget: _Budget,
) -> dict[tuple[Contender, int], dict[str, Any]]:
    """Train folds at the same time; what the budget left unfinished is not among the results.

    One that fails does not stop the others, and fails the flow.
    """
    threads = threads_per_worker(where, "train")
    # What an earlier night finished costs no training any more.
    finished = [training for training in trainings if is_finished(paths, iteration, *training)]
    share = budget.share_of(len(trainings) - len(finished))
    submit = {
        (contender, fold): submitting(
            train_fold,
            f"{contender}-{fold}",
            (paths.dataset_id, iteration, fold, settings, threads, contender, share),
        )
        for contender, fold in sorted(trainings, key=lambda training: training not in finished)
    }
    most = None if budget.jobs is None else budget.jobs + len(finished)
    begun = [key for key in list(submit)[:most] if key not in finished]
    notes = {key: steps_file(paths, iteration, f"{key[0]}-{key[1]}") for key in submit}
    with steps_shown([notes[key] for key in begun]):
        found: dict[tuple[Contender, int], Any] = dict(
            run_all(submit, where.attempts, most, lambda key: noted_step(notes[key]))
        )
    failed = {key: error for key, error in found.items() if isinstance(error, Exception)}
    if failed:
        model = latest_model(paths)
        stays = f"`latest` stays at {model.model_id}" if model else "no model is in use"
        reasons = "; ".join(f"{contender} {fold}: {error}" for (contender, fold), error in failed.items())
        raise IterSegError(
            f"{len(failed)} of {len(submit)} folds failed, {stays}. {reasons}. Run the command again: "
            "what is finished is kept"
        )
    return {key: found[key] for key in trainings if found[key] is not None}


def _unfinished(
    paths: DatasetPaths, iteration: Iteration, trainings: list[tuple[Contender, int]]
) -> dict[str, Any]:
    """What a run says whose budget is spent."""
    rows = [{"training": f"{contender}-{fold}", "outcome": "unfinished"} for contender, fold in trainings]
    state = f"budget spent, {len(rows)} trainings are unfinished; the next run goes on from there"
    show_table("train", paths.dataset_id, rows, state)
    return {
        "stage": "train",
        "state": state,
        "iteration": iteration.name,
        "model": None,
        "folds": [],
        "cases": [],
        "totals": {},
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
