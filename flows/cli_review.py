"""The commands of those who correct: what is predicted, where it goes, what comes first."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from flows.command import checked, existing_folder, hidden, run_flow
from flows.options import AsJson, Cluster, Dataset, Verbose

of_review = typer.Typer()


@of_review.command()
def predict(
    dataset: Dataset,
    source: Annotated[Path | None, typer.Option("--input", help="A folder of DICOM files.")] = None,
    model: Annotated[str, typer.Option(help="A model's id, or latest.")] = "latest",
    triage: Annotated[bool, typer.Option("--triage", help="Only rank the images, for the worklist.")] = False,
    cluster: Cluster = "local",
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Predict unlabelled images as DICOM SEG and RTSTRUCT. Example: iterseg predict PM_IASLC --input /new"""
    place = checked(lambda folder: existing_folder(folder, "--input"), source, as_json)

    def run() -> dict[str, Any]:
        from flows.predict import predict as flow

        return flow(dataset_id=dataset, input=hidden(place), model=model, triage=triage, cluster=cluster)

    run_flow(dataset, run, as_json, verbose, cluster)


@of_review.command()
def send(
    dataset: Dataset,
    destination: Annotated[str | None, typer.Option("--to", help="One of `send_to`; else all.")] = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Send predictions that are not where people look yet. Example: iterseg send PM_IASLC --to viewer"""

    def run() -> dict[str, Any]:
        from flows.send import send as flow

        return flow(dataset_id=dataset, destination=destination)

    run_flow(dataset, run, as_json, verbose)


@of_review.command()
def accept(
    dataset: Dataset,
    case: Annotated[list[str], typer.Argument(help="Ids of predicted cases, as in the worklist.")],
    model: Annotated[str, typer.Option(help="Who predicted them: a model's id, or latest.")] = "latest",
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Take predictions for labels, unedited. Example: iterseg accept PM_IASLC case0123456789abcdef"""

    def run() -> dict[str, Any]:
        from flows.accept import accept as flow

        return flow(dataset_id=dataset, cases=case, model=model)

    run_flow(dataset, run, as_json, verbose)
