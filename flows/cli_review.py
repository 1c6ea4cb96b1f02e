"""The commands of those who correct: what is predicted, where it goes, what comes first."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from flows.command import checked, existing_folder, hidden, run_flow, show
from flows.options import AsJson, Cluster, Dataset, Verbose
from tasks.errors import ConfigError

of_review = typer.Typer()


@of_review.command(rich_help_panel="What people see")
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

    # A model that was imported predicts before anything was ingested.
    run_flow(dataset, run, as_json, verbose, cluster, needs_data=source is None)


@of_review.command(rich_help_panel="What people see")
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


@of_review.command(rich_help_panel="What people see")
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


@of_review.command(rich_help_panel="What people see")
def worklist(
    dataset: Dataset,
    assign: Annotated[list[str] | None, typer.Option(help="CASE=WHO: who is to correct it.")] = None,
    lock: Annotated[list[str] | None, typer.Option(help="CASE: somebody is at it now.")] = None,
    flag: Annotated[list[str] | None, typer.Option(help="CASE: somebody else is to look at it.")] = None,
    skip: Annotated[list[str] | None, typer.Option(help="CASE: not worth anybody's time.")] = None,
    clear: Annotated[list[str] | None, typer.Option(help="CASE: takes back what was said of it.")] = None,
    as_json: AsJson = False,
) -> None:
    """What to correct next, and why. Example: iterseg worklist PM_IASLC --assign case0123456789abcdef=me"""
    nothing = {"assigned": "", "locked": False, "flagged": False, "skipped": False}
    said: dict[str, dict[str, Any]] = {case: dict(nothing) for case in clear or []}
    for cases, word in ((lock, "locked"), (flag, "flagged"), (skip, "skipped")):
        for case in cases or []:
            said.setdefault(case, {})[word] = True
    for text in assign or []:
        case, who = checked(_assignment, text, as_json)
        said.setdefault(case, {})["assigned"] = who

    def answer(name: str) -> dict[str, Any]:
        from flows.status import worklist_report

        return worklist_report(name, said)

    show(checked(answer, dataset, as_json), as_json)


def _assignment(text: str) -> tuple[str, str]:
    case, given, who = text.partition("=")
    if not given or not case or not who.strip():
        raise ConfigError(f"--assign {text}: write CASE=WHO")
    if who.strip()[0] in "=+-@":
        raise ConfigError(f"--assign {text}: a spreadsheet would take it for a formula")
    return case, who.strip()
