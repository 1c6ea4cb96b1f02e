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
    stages = [
        ingest(IngestParameters(dataset_id=dataset_id)),
        prepare(PrepareParameters(dataset_id=dataset_id, cluster=cluster, date=day)),
        train(TrainParameters(dataset_id=dataset_id, cluster=cluster)),
        predict(PredictParameters(dataset_id=dataset_id, cluster=cluster)),
    ]
    prepared, predicted = stages[1], stages[3]
    return {
        "stage": "iterate",
        "stages": stages,
        "report": predicted["report"],
        "cases": prepared["cases"],
        "totals": prepared["totals"],
    }
