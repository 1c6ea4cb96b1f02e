"""Ingest: a delivery of DICOM becomes a dated, sealed snapshot.

Inputs: a folder (or folders that were filled by hand). Output: a snapshot and the fate of each file
and series. Command: ``iterseg ingest DATASET --from FOLDER``.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

from prefect import flow
from pydantic import Field, SecretStr

from flows.parameters import DatasetParameters, run_name, show_table
from tasks.ingest import account_of_series, seal_by_hand, take_delivery
from tasks.ledger.lock import dataset_lock
from tasks.ledger.paths import DatasetPaths
from tasks.state import totals


class IngestParameters(DatasetParameters):
    """What to ingest. The folder is kept out of Prefect's database: its name may be a patient's."""

    source: SecretStr | None = Field(
        default=None, description="A folder of DICOM; left out: folders that were filled by hand."
    )


@flow(name="ingest", flow_run_name=run_name("ingest"))
def ingest(parameters: IngestParameters) -> dict[str, Any]:
    """Take a delivery, or what was put into rawdata by hand, and account for every file."""
    dataset_id = parameters.dataset_id
    with dataset_lock(DatasetPaths.of(dataset_id).procdata):
        deliveries = seal_by_hand(dataset_id)
        if parameters.source is not None:
            source = Path(parameters.source.get_secret_value())
            day = parameters.date or date.today()
            deliveries.append(take_delivery(dataset_id, source, day))
        known = any(d["snapshot"] for d in deliveries) or parameters.source is None
        rows = account_of_series(dataset_id) if known or _has_data(dataset_id) else []
    files = _sum([delivery["files"] for delivery in deliveries])
    reasons = _sum([delivery["reasons"] for delivery in deliveries])
    show_table("ingest", dataset_id, rows, f"files {files}, reasons {reasons}")
    return {
        "stage": "ingest",
        "snapshots": [d["snapshot"] for d in deliveries if d["snapshot"]],
        "files": files,
        "reasons": reasons,
        "cases": rows,
        "totals": totals(rows),
    }


def _has_data(dataset_id: str) -> bool:
    from tasks.ledger.snapshots import load_snapshots

    return bool(load_snapshots(DatasetPaths.of(dataset_id)))


def _sum(counts: list[dict[str, int]]) -> dict[str, int]:
    keys = dict.fromkeys(key for count in counts for key in count)
    return {key: sum(count.get(key, 0) for count in counts) for key in keys}
