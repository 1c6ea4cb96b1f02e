"""Iterate: ingest, prepare, train, predict for the newest data, as every night.

Inputs: the dataset's folders. Output: the next model and its predictions.
Command: ``iterseg run DATASET``.
"""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.ingest import IngestParameters, ingest
from flows.parameters import ComputeParameters, run_name
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
    return {
        "stage": "iterate",
        "stages": [ingested, prepared, trained, predicted],
        "report": predicted["report"],
        "cases": prepared["cases"],
        "totals": prepared["totals"],
    }
