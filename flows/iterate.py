"""Iterate: ingest, prepare, train, predict for the newest data, as every night.

Inputs: the dataset's folders. Output: the next model and its predictions.
Command: ``iterseg run DATASET``.
"""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.ingest import IngestParameters, ingest
from flows.parameters import ComputeParameters, run_name, show_table
from flows.predict import PredictParameters, predict
from flows.prepare import PrepareParameters, prepare
from flows.train import TrainParameters, train


class IterateParameters(ComputeParameters):
    """The dataset to bring up to date."""


@flow(name="iterate", flow_run_name=run_name("iterate"))
def iterate(parameters: IterateParameters) -> dict[str, Any]:
    """The four stages in sequence; each does only what is new."""
    dataset_id, cluster, day = parameters.dataset_id, parameters.cluster, parameters.date
    ingested = ingest(IngestParameters(dataset_id=dataset_id))
    prepared = prepare(PrepareParameters(dataset_id=dataset_id, cluster=cluster, date=day))
    trained = train(TrainParameters(dataset_id=dataset_id, cluster=cluster, iteration=prepared["iteration"]))
    predicted = predict(PredictParameters(dataset_id=dataset_id, cluster=cluster))
    rows = [
        {"stage": "ingest", "outcome": ", ".join(ingested["snapshots"]) or "nothing new"},
        {"stage": "prepare", "outcome": prepared["iteration"]},
        {"stage": "train", "outcome": f"model {trained['model']}, {trained['state']}"},
        {"stage": "predict", "outcome": str(predicted["totals"])},
    ]
    show_table("iterate", dataset_id, rows, f"model {trained['model']}, test {trained['test_dice']}")
    return {
        "stage": "iterate",
        "stages": [ingested, prepared, trained, predicted],
        "report": predicted["report"],
        "cases": prepared["cases"],
        "totals": prepared["totals"],
    }
