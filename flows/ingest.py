"""Ingest: a delivery of DICOM becomes a dated, sealed snapshot.

Inputs: a folder, a DICOMweb server, the inbox of the receiver, folders that were filled by hand.
Output: a snapshot and the fate of each file and series. Command: ``iterseg ingest DATASET --from FOLDER``.
"""

from __future__ import annotations

from typing import Annotated, Any

from prefect import flow
from prefect.logging import get_run_logger
from prefect.runtime import deployment, flow_run
from pydantic import Field

from flows.pages import write_pages_if_possible
from flows.parameters import DatasetId, Day, Hidden, local_path, run_name
from tasks.delivery import refuse_a_day_to_come
from tasks.errors import ConfigError, TransientError
from tasks.ingest import (
    account_of_series,
    passed_over,
    seal_by_hand,
    take_delivery,
    take_inbox,
    without_patient_id,
)
from tasks.ledger.inbox import Inbox
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.snapshots import day_of_arrival, load_snapshots
from tasks.refine import recognise_refinements
from tasks.retrieve import retrieve_series
from tasks.settings.dataset import load_dataset_settings
from tasks.settings.night import Budget
from tasks.shown.artifacts import show_table
from tasks.shown.events import RUN_ON_ARRIVAL, tell_event
from tasks.state import require_begun, totals
from tasks.turn import turn_of

MOST_FILES_SHOWN = 500
"""Rows of the table of files in the UI; the manifest has them all."""
ORDER_OF_FATES = ("rejected", "ignored", "duplicate", "taken", "withdrawn")


@flow(name="ingest", flow_run_name=run_name("ingest"))
def ingest(
    dataset_id: DatasetId,
    date: Day = None,
    source: Annotated[
        Hidden | None, Field(description="A folder of DICOM; left out: what was put or sent to the dataset.")
    ] = None,
    deidentify: Annotated[
        bool | None,
        Field(description="Remove identities; left out: for DICOMweb yes, for folders as configured."),
    ] = None,
    dicomweb: Annotated[Hidden | None, Field(description="The root of a DICOMweb server.")] = None,
    studies: Annotated[list[Hidden], Field(description="StudyInstanceUIDs; none: all of the server.")] = [],  # noqa: B006
) -> dict[str, Any]:
    """Take what came in, by whatever way, and account for every file."""
    paths, folder = DatasetPaths.of(dataset_id), local_path(source)
    # From the UI's form as from the command line, whose own look comes before anything starts.
    require_begun(paths)
    if date is not None:
        refuse_a_day_to_come(date, f"date {date}")
    if deidentify is not None and source is None and dicomweb is None:
        raise ConfigError(
            "identities are kept or removed of what is fetched now; give a folder or a DICOMweb server too"
        )
    with turn_of(paths):
        day = date or day_of_arrival(paths)
        deliveries = seal_by_hand(dataset_id)
        retrieved = None if dicomweb is None else _retrieved(dataset_id, dicomweb, studies, deidentify)
        received = take_inbox(dataset_id, day)
        deliveries += [received] if received else []
        if folder is not None:
            deliveries.append(take_delivery(dataset_id, folder, day, deidentify))
        refined = recognise_refinements(dataset_id)
        rows = account_of_series(dataset_id) if load_snapshots(paths) else []
        left = passed_over(dataset_id)
        if any(delivery["snapshot"] for delivery in deliveries) and (said := without_patient_id(dataset_id)):
            left.append(said)
        if refined and flow_run.parent_flow_run_id is None:  # an iteration writes them at its end
            write_pages_if_possible(paths)
    report = {**_report(paths, deliveries, retrieved, rows), "refinements": refined, "passed_over": left}
    for sentence in left:
        get_run_logger().warning(sentence)
    _show(dataset_id, report)
    if report["snapshots"]:
        _tell_of_arrival(paths)
    if retrieved and retrieved["series"].get("failed"):
        raise TransientError(
            f"{retrieved['series']['failed']} series could not be fetched; the others are "
            "ingested. Run it again"
        ).with_report(report)
    return report


def _retrieved(
    dataset_id: str, dicomweb: Hidden, studies: list[Hidden], deidentify: bool | None
) -> dict[str, Any]:
    if studies and deployment.id is not None:
        raise ConfigError(
            "StudyInstanceUIDs name scans that are to lose their identity, and a run's parameters are in "
            "Prefect's database. Leave them out (what is known is not fetched again), or use the command"
        )
    chosen = [study.get_secret_value() for study in studies]
    return retrieve_series(
        dataset_id, dicomweb.get_secret_value(), chosen, deidentify=deidentify is not False
    )


def _tell_of_arrival(paths: DatasetPaths) -> None:
    """Call for the iteration that learns from it, where the dataset wants one by day.

    Not where an iteration ingests, which would call for another.
    """
    if flow_run.parent_flow_run_id is not None:
        return
    night = load_dataset_settings(paths.config, paths.dataset_id).night
    budget = night.on_arrival if night else None
    cluster = night.cluster if night else "local"
    # Whoever has automations of their own hears of every delivery; ours starts what was asked for.
    labels = {RUN_ON_ARRIVAL: "no" if budget is None else "yes"}
    cost = (budget or Budget()).model_dump()
    tell_event("iterseg.delivery.complete", paths.dataset_id, labels, cluster=cluster, **cost)


def _report(
    paths: DatasetPaths,
    deliveries: list[dict[str, Any]],
    retrieved: dict[str, Any] | None,
    rows: list[dict[str, Any]],
) -> dict[str, Any]:
    return {
        "stage": "ingest",
        "snapshots": [d["snapshot"] for d in deliveries if d["snapshot"]],
        "manifests": [d["manifest"] for d in deliveries if d["manifest"]],
        "files": _sum([delivery["files"] for delivery in deliveries]),
        "reasons": _sum([delivery["reasons"] for delivery in deliveries]),
        "rows": [row for delivery in deliveries for row in delivery["rows"]],
        "retrieved": retrieved,
        "held": Inbox(paths.inbox).held(),
        "cases": rows,
        "totals": totals(rows),
    }


def _show(dataset_id: str, report: dict[str, Any]) -> None:
    """Two tables in the UI: the series, and the files with those that were set aside first."""
    summary = f"files {report['files']}, reasons {report['reasons']}"
    show_table("ingest", dataset_id, report["cases"], summary)
    aside_first = sorted(report["rows"], key=lambda row: ORDER_OF_FATES.index(row["state"]))
    shown = aside_first[:MOST_FILES_SHOWN]
    more = f", the first {len(shown)} of {len(aside_first)}" if len(shown) < len(aside_first) else ""
    show_table("ingest-files", dataset_id, shown, summary + more)


def _sum(counts: list[dict[str, int]]) -> dict[str, int]:
    keys = dict.fromkeys(key for count in counts for key in count)
    return {key: sum(count.get(key, 0) for count in counts) for key in keys}
