"""Iterate: ingest, prepare, train, predict for the newest data, as every night.

Inputs: the dataset's folders. Output: the next model and its predictions, or the state "Nothing new".
Command: ``iterseg run DATASET``.
"""

from __future__ import annotations

from typing import Any

from prefect import State, flow
from prefect.states import Completed

from flows.ingest import ingest
from flows.parameters import ClusterName, DatasetId, Day, run_name, show_table
from flows.predict import predict
from flows.prepare import prepare
from flows.train import train
from tasks.dicom.reasons import Reason
from tasks.last_run import inputs_of, nothing_new, remember_run
from tasks.ledger.models import latest_model
from tasks.ledger.paths import DatasetPaths
from tasks.state import require_dataset


@flow(name="iterate", flow_run_name=run_name("iterate"))
def iterate(
    dataset_id: DatasetId, cluster: ClusterName = "local", date: Day = None
) -> dict[str, Any] | State[dict[str, Any]]:
    """The four stages in sequence; each does only what is new, and none runs where nothing is."""
    paths = DatasetPaths.of(dataset_id)
    require_dataset(paths)
    if date is None and nothing_new(dataset_id):
        return Completed(name="Nothing new", message="nothing to do since the last run", data=_idle(paths))
    ingested = ingest(dataset_id)
    inputs = inputs_of(paths)
    prepared = prepare(dataset_id, cluster, date)
    trained = train(dataset_id, cluster, iteration=prepared["iteration"])
    predicted = predict(dataset_id, cluster)
    rows = [
        {"stage": "ingest", "outcome": ", ".join(ingested["snapshots"]) or "nothing new"},
        {"stage": "prepare", "outcome": prepared["iteration"]},
        {"stage": "train", "outcome": f"model {trained['model']}, {trained['state']}"},
        {"stage": "predict", "outcome": str(predicted["totals"])},
    ]
    show_table("iterate", dataset_id, rows, f"model {trained['model']}, test {trained['test_dice']}")
    # What failed for no known reason, or was not readable, is tried again the next night.
    unsettled = {Reason.UNEXPECTED.value, Reason.CHANGED.value}
    if date is None and not unsettled & {row["reason"] for row in [*prepared["cases"], *predicted["cases"]]}:
        remember_run(dataset_id, inputs)
    return {
        "stage": "iterate",
        "state": trained["state"],
        "stages": [ingested, prepared, trained, predicted],
        "report": predicted["report"],
        "cases": prepared["cases"],
        "totals": prepared["totals"],
    }


def _idle(paths: DatasetPaths) -> dict[str, Any]:
    """What a run says that has nothing to do."""
    model = latest_model(paths)
    summary = f"model {model.model_id} stays in use" if model else "there is no model"
    show_table("iterate", paths.dataset_id, [{"stage": "all", "outcome": "nothing new"}], summary)
    return {
        "stage": "iterate",
        "state": "nothing new",
        "stages": [],
        "model": model.model_id if model else None,
        "report": str(paths.report),
        "cases": [],
        "totals": {"done": 0, "rejected": 0, "ignored": 0},
    }
