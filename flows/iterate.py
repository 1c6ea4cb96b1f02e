"""Iterate: ingest, prepare, train, predict for the newest data, as every night.

Inputs: the dataset's folders. Output: the next model and its predictions, or the state "Nothing new".
Command: ``iterseg run DATASET``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Annotated, Any

from prefect import State, flow
from prefect.logging import get_run_logger
from prefect.runtime import deployment
from prefect.states import Completed
from pydantic import Field

from flows.ingest import ingest
from flows.parameters import ClusterName, DatasetId, Day, GpuHours, Jobs, run_name
from flows.predict import predict
from flows.prepare import prepare
from flows.scheduled import hours_late, is_taken_off
from flows.train import finish_promotion, train
from tasks.dicom.reasons import UNSETTLED
from tasks.errors import BusyError, IterSegError
from tasks.last_run import inputs_of, nothing_new, remember_run
from tasks.ledger.lock import held_for_h, is_lost
from tasks.ledger.models import latest_model
from tasks.ledger.paths import DatasetPaths
from tasks.prepare import is_stored
from tasks.settings.cluster import load_cluster
from tasks.settings.dataset import load_dataset_settings
from tasks.shown.artifacts import show_table
from tasks.shown.progress import told
from tasks.state import require_known
from tasks.turn import turn_of
from tasks.unfinished import unfinished_iteration

LONGEST_RUN_H = 36
"""After a day and a half a run of another machine, of which nothing can be known, is taken for lost."""
STILL_H = 12
"""No epoch takes so long."""
WAITS_H = 1.0
"""A scheduled run, for whoever works on the dataset when its time has come."""
ASKS_AGAIN_S = 20.0
OUTCOMES: Mapping[str, Callable[[dict[str, Any]], str]] = {
    "ingest": lambda stage: ", ".join(stage["snapshots"]) or "nothing new",
    "prepare": lambda stage: str(stage["iteration"]),
    "train": lambda stage: f"model {stage['model']}, {stage['state']}",
    "predict": lambda stage: str(stage["totals"]),
}


@flow(name="iterate", flow_run_name=run_name("iterate"))
def iterate(
    dataset_id: DatasetId,
    cluster: ClusterName = "local",
    date: Day = None,
    late_after_h: Annotated[
        float | None, Field(gt=0, description="Skip a scheduled run that begins so many hours late.")
    ] = None,
    gpu_hours: GpuHours = None,
    jobs: Jobs = None,
) -> dict[str, Any] | State[dict[str, Any]]:
    """The four stages in sequence; each does only what is new, and none runs where nothing is."""
    paths = DatasetPaths.of(dataset_id)
    if is_taken_off():
        return _skipped(paths, "its schedule is paused, or no longer there")
    where = load_cluster(paths.config, cluster)
    require_known(paths)
    late_h = hours_late()
    if late_after_h is not None and late_h > late_after_h:
        return _skipped(paths, f"it would begin {late_h:.1f} h late")
    settings = load_dataset_settings(paths.config, dataset_id)
    began = time.monotonic()
    while True:
        try:
            with turn_of(paths, where, settings):
                return _iterate(paths, cluster, date, gpu_hours, jobs)
        except BusyError as error:
            # A lock that nobody gives back must be heard of: skipping is no failure. A first training takes
            # days.
            lost = is_lost(paths.lock_folder, LONGEST_RUN_H) or _stands_still(paths)
            if deployment.id is None or lost:
                raise
            waited_h = (time.monotonic() - began) / 3600
            if waited_h >= WAITS_H or (late_after_h is not None and hours_late() >= late_after_h):
                return _skipped(paths, str(error))
            # A delivery that is being fetched in the evening must not cost the night.
            time.sleep(ASKS_AGAIN_S)


def _stands_still(paths: DatasetPaths) -> bool:
    """Whether the run that works on a dataset lives, and has been told nothing of for long.

    A training of days adds to its log with each epoch; one that hangs on a driver or a disk does not.
    """
    if held_for_h(paths.lock_folder) <= LONGEST_RUN_H:
        return False
    told_at = max((file.stat().st_mtime for file in paths.logs.rglob("*") if file.is_file()), default=0.0)
    return time.time() - told_at > STILL_H * 3600


def _skipped(paths: DatasetPaths, why: str) -> State[dict[str, Any]]:
    show_table("iterate", paths.dataset_id, [{"stage": "all", "outcome": "skipped"}], why)
    return Completed(name="Skipped", message=why, data=_nothing_done(paths, f"skipped: {why}"))


def _iterate(
    paths: DatasetPaths, cluster: str, day: date | None, gpu_hours: float | None, jobs: int | None
) -> dict[str, Any] | State[dict[str, Any]]:
    dataset_id = paths.dataset_id
    if day is None and nothing_new(dataset_id):
        return Completed(name="Nothing new", message="nothing to do since the last run", data=_idle(paths))
    finish_promotion(paths)
    stages = [ingest(dataset_id)]
    inputs = inputs_of(paths)
    learned, waits = _learned(paths, cluster, day, gpu_hours, jobs)
    stages += learned
    trained = _last(stages, "train")
    if trained["model"] is None and latest_model(paths) is None:
        return _unfinished(paths, stages)
    stages.append(predict(dataset_id, cluster))
    _show_stages(dataset_id, stages)
    if trained["model"] is None:
        return _unfinished(paths, stages)
    prepared, predicted = _last(stages, "prepare"), _last(stages, "predict")
    # What is not settled is tried again the next night.
    refinements = _last(stages, "ingest")["refinements"].get("unsettled", 0)
    reasons = {row["reason"] for row in [*prepared["cases"], *predicted["cases"]]}
    if day is None and not waits and not refinements and not UNSETTLED & reasons:
        remember_run(dataset_id, inputs)
    return {
        "stage": "iterate",
        "state": trained["state"],
        "stages": stages,
        "report": predicted["report"],
        "cases": prepared["cases"],
        "totals": prepared["totals"],
    }


def _learned(
    paths: DatasetPaths, cluster: str, day: date | None, gpu_hours: float | None, jobs: int | None
) -> tuple[list[dict[str, Any]], bool]:
    """Go on with what was begun, then prepare and train what is there; the stages, and whether that waits.

    A night has one budget: where what was begun has used of it, what has come since is for the next run.
    """
    resumed = _resumed(paths, cluster, gpu_hours, jobs) if day is None else None
    if resumed is not None and resumed["model"] is None:
        return [resumed], True
    prepared = prepare(paths.dataset_id, cluster, day)
    if resumed is None:
        before = []
    elif resumed["iteration"] == prepared["iteration"]:
        return [prepared, resumed], False
    elif (gpu_hours, jobs) != (None, None):
        resumed["state"] += "; what has come since is learned from in the next run"
        return [resumed, prepared], True
    else:
        before = [resumed]
    trained = train(
        paths.dataset_id, cluster, iteration=prepared["iteration"], gpu_hours=gpu_hours, jobs=jobs
    )
    return [*before, prepared, trained], False


def _last(stages: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    """A training that was resumed comes before that of tonight."""
    return next(stage for stage in reversed(stages) if stage["stage"] == name)


def _show_stages(dataset_id: str, stages: Sequence[dict[str, Any]]) -> None:
    rows = [{"stage": stage["stage"], "outcome": OUTCOMES[stage["stage"]](stage)} for stage in stages]
    trained = _last(stages, "train")
    show_table("iterate", dataset_id, rows, f"model {trained['model']}, test {trained.get('test_dice')}")


def _resumed(
    paths: DatasetPaths, cluster: str, gpu_hours: float | None, jobs: int | None
) -> dict[str, Any] | None:
    """Go on with a training that was begun, whatever has come in since; None where there is none."""
    begun = unfinished_iteration(paths)
    if begun is None:
        return None
    name = paths.dataset_id
    if not is_stored(paths, begun):
        told(f"making again what {begun.name} is made of")
        # What is there of that day by now may be another iteration; then there is nothing to go on with.
        if prepare(name, cluster, date.fromisoformat(begun.name[:10]))["iteration"] != begun.name:
            return None
    goes_on = f"going on with the training of {begun.name}; what has come since it was begun follows"
    told(goes_on)
    get_run_logger().info(goes_on)
    try:
        return train(name, cluster, iteration=begun.name, gpu_hours=gpu_hours, jobs=jobs)
    except IterSegError as error:
        if type(error) is not IterSegError:  # folds that failed are; what else there is says what to do
            raise
        raise IterSegError(
            f"{error}. (It goes on with {begun.name}, which was begun before; to give that up for what has "
            f"come since, run `iterseg prepare {name}` first)"
        ).with_report(error.report) from None


def _unfinished(paths: DatasetPaths, stages: list[dict[str, Any]]) -> State[dict[str, Any]]:
    """The budget of the night is spent; the next one goes on from the checkpoints."""
    trained = _last(stages, "train")
    report = {**_nothing_done(paths, trained["state"]), "stages": stages}
    return Completed(name="Budget spent", message=trained["state"], data=report)


def _idle(paths: DatasetPaths) -> dict[str, Any]:
    """What a run says that has nothing to do."""
    model = latest_model(paths)
    summary = f"model {model.model_id} stays in use" if model else "there is no model"
    show_table("iterate", paths.dataset_id, [{"stage": "all", "outcome": "nothing new"}], summary)
    return _nothing_done(paths, "nothing new")


def _nothing_done(paths: DatasetPaths, state: str) -> dict[str, Any]:
    model = latest_model(paths)
    return {
        "stage": "iterate",
        "state": state,
        "stages": [],
        "model": model.model_id if model else None,
        "report": str(paths.report),
        "cases": [],
        "totals": {"done": 0, "rejected": 0, "ignored": 0},
    }
