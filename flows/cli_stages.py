"""The commands of the stages, and what stands beside them: each runs the flow of its name."""

from __future__ import annotations

import signal
import threading
from contextlib import nullcontext
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import SecretStr

from flows.command import checked, existing_folder, fail, hidden, run_flow, show
from flows.options import AsJson, Cluster, Dataset, Day, Verbose
from tasks.delivery import files_below, refuse_a_day_to_come
from tasks.errors import ConfigError, UserDataError
from tasks.nnunet.preprocess import imported_early

PANEL = "Night after night"
of_stages = typer.Typer()


@of_stages.command(rich_help_panel=PANEL)
def ingest(
    dataset: Dataset,
    source: Annotated[Path | None, typer.Option("--from", help="A folder of DICOM files.")] = None,
    dicomweb: Annotated[str | None, typer.Option(help="The root of a DICOMweb server.")] = None,
    study: Annotated[list[str] | None, typer.Option(help="A StudyInstanceUID there; may repeat.")] = None,
    deidentify: Annotated[
        bool | None,
        typer.Option("--deidentify/--keep-identities", help="Default: DICOMweb yes, folders no."),
    ] = None,
    day: Day = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Sort a delivery of DICOM into a dated snapshot. Example: iterseg ingest PM_IASLC --from /incoming"""
    when = checked(_day_of_delivery, day, as_json)
    place = checked(_delivery, source, as_json)
    if study and not dicomweb:
        fail(ConfigError("--study names a study of a server; give --dicomweb too"), as_json)
    if deidentify is not None and not source and not dicomweb:
        fail(ConfigError("--deidentify and --keep-identities are of --from or --dicomweb; give one"), as_json)

    def run() -> dict[str, Any]:
        from flows.ingest import ingest as flow

        return flow(
            dataset_id=dataset,
            date=when,
            source=hidden(place),
            dicomweb=hidden(dicomweb),
            studies=[SecretStr(uid) for uid in study or []],
            deidentify=deidentify,
        )

    brings = source is not None or dicomweb is not None
    run_flow(dataset, run, as_json, verbose, needs_data=not brings, takes_data=brings)


@of_stages.command(rich_help_panel=PANEL)
def receive(
    dataset: Dataset,
    allow: Annotated[list[str], typer.Option(help="An AE title that may send; may repeat.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 11112,
    aet: Annotated[str, typer.Option(help="The AE title to be called by.")] = "ITERSEG",
    host: Annotated[str, typer.Option(help="Where to listen; 0.0.0.0 is every network.")] = "127.0.0.1",
    quiet_s: Annotated[float, typer.Option(min=0, help="Ingest after so many quiet seconds.")] = 10.0,
    ingest: Annotated[bool, typer.Option(help="Ingest what arrived, or leave it to the next run.")] = True,
    keep_identities: Annotated[bool, typer.Option("--keep-identities", help="Do not de-identify.")] = False,
    verbose: Verbose = False,
) -> None:
    """Receive DICOM over the network until stopped. Example: iterseg receive PM_IASLC --allow PACS"""

    def run() -> dict[str, Any]:
        from flows.receive import Listening, receive
        from tasks.dicom.receiver import Address

        address = Address(host, port, aet, allow)
        listening = Listening(dataset, address, not keep_identities, quiet_s, ingest)
        receive(listening, typer.echo, _stop_on_signals())
        return {"stage": "receive"}

    run_flow(dataset, run, as_json=False, verbose=verbose, needs_data=False, takes_data=True)


@of_stages.command(rich_help_panel=PANEL)
def withdraw(
    dataset: Dataset,
    patient: Annotated[str | None, typer.Option(help="A PatientID: all of their scans.")] = None,
    case: Annotated[str | None, typer.Option(help="A case id: this scan only.")] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Delete their data too.")] = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Take a patient or a case out, for ever. Example: iterseg withdraw PM_IASLC --patient 042 --delete"""
    if (patient is None) == (case is None):
        fail(ConfigError("give --patient or --case, and not both"), as_json)

    def run() -> dict[str, Any]:
        from flows.withdraw import withdraw as flow

        return flow(dataset_id=dataset, patient=hidden(patient), case_id=case, delete=delete)

    run_flow(dataset, run, as_json, verbose)


@of_stages.command(rich_help_panel=PANEL)
def prepare(
    dataset: Dataset,
    day: Day = None,
    convert_only: Annotated[bool, typer.Option(help="Stop after the conversion to NIfTI.")] = False,
    cluster: Cluster = "local",
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Convert, plan and preprocess. Example: iterseg prepare PM_IASLC"""
    when = checked(_day, day, as_json)

    def run() -> dict[str, Any]:
        from flows.prepare import prepare as flow

        return flow(dataset_id=dataset, date=when, convert_only=convert_only, cluster=cluster)

    # While Prefect is imported, which takes about as long.
    with imported_early() if cluster == "local" and not convert_only else nullcontext():
        run_flow(dataset, run, as_json, verbose, cluster)


@of_stages.command(rich_help_panel=PANEL)
def train(
    dataset: Dataset,
    day: Day = None,
    folds: Annotated[str | None, typer.Option(help="Some folds only: 0,1,2.")] = None,
    cluster: Cluster = "local",
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Train the folds and put the model into use. Example: iterseg train PM_IASLC --folds 0,1"""
    when, chosen = checked(_day, day, as_json), checked(_folds, folds, as_json)

    def run() -> dict[str, Any]:
        from flows.train import train as flow

        return flow(dataset_id=dataset, date=when, folds=chosen, cluster=cluster)

    run_flow(dataset, run, as_json, verbose, cluster)


@of_stages.command(rich_help_panel=PANEL)
def run(
    dataset: Dataset,
    day: Day = None,
    cluster: Cluster = "local",
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """All stages for the latest data, as every night. Example: iterseg run PM_IASLC"""
    when = checked(_day, day, as_json)

    def run_all() -> dict[str, Any]:
        from flows.iterate import iterate

        report = iterate(dataset_id=dataset, date=when, cluster=cluster)
        assert isinstance(report, dict)  # Prefect unpacks a state
        return report

    run_flow(dataset, run_all, as_json, verbose, cluster)


@of_stages.command(rich_help_panel=PANEL)
def status(
    dataset: Dataset,
    verify: Annotated[bool, typer.Option("--verify", help="Hash every file again.")] = False,
    as_json: AsJson = False,
) -> None:
    """What the dataset holds, and what the next run would do. Example: iterseg status PM_IASLC"""
    from flows.status import status_of

    report = checked(lambda name: status_of(name, verify=verify), dataset, as_json)
    show(report, as_json)
    if report["verified"] and report["verified"]["findings"]:
        raise typer.Exit(UserDataError.exit_code)


def _stop_on_signals() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _delivery(folder: Path) -> str:
    existing_folder(folder, "--from")
    if not files_below(folder):
        raise UserDataError(f"--from {folder}: the folder holds no files")
    return str(folder.resolve())


def _day(text: str) -> date:
    try:
        return datetime.strptime(text, "%Y-%m-%d").date()
    except ValueError:
        raise ConfigError(f"--date {text}: a date is written YYYY-MM-DD") from None


def _day_of_delivery(text: str) -> date:
    day = _day(text)
    refuse_a_day_to_come(day, f"--date {text}")
    return day


def _folds(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"--folds {text}: write numbers with commas, such as 0,1,2") from None
