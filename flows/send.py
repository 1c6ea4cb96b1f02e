"""Send: predictions that are not where people look yet.

Inputs: the destinations in the dataset's YAML. Output: what was sent to whom.
Command: ``iterseg send DATASET``.
"""

from __future__ import annotations

from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from flows.parameters import DatasetId, run_name
from tasks.conversion import conversions
from tasks.dicom.reasons import Reason
from tasks.errors import ConfigError
from tasks.ledger.models import load_model
from tasks.ledger.paths import DatasetPaths
from tasks.send import send_to_all
from tasks.settings.dataset import check_choices, dataset_file
from tasks.shown.artifacts import show_table
from tasks.shown.progress import waiting
from tasks.state import require_dataset, state_at
from tasks.turn import turn_of


@flow(name="send", flow_run_name=run_name("send"))
def send(
    dataset_id: DatasetId,
    destination: Annotated[str | None, Field(description="One of the dataset's; left out: all.")] = None,
) -> dict[str, Any]:
    """Send what the model in use predicted of the dataset's unlabelled images."""
    paths = DatasetPaths.of(dataset_id)
    rois, settings = check_choices(paths.config, paths.dataset_id)
    require_dataset(paths)
    chosen = [d for d in settings.send_to if destination in (None, d.name)]
    if not chosen:
        known = f"names {', '.join(d.name for d in settings.send_to)}" if settings.send_to else "is empty"
        asked = "there is nowhere to send to" if destination is None else f"there is no {destination!r}"
        raise ConfigError(f"`send_to` in {dataset_file(paths.config, dataset_id)} {known}: {asked}")
    used = load_model(paths, "latest")
    with turn_of(paths):
        assembly, _ = state_at(paths, settings)
        to_convert = conversions(settings, rois)
        jobs = [to_convert(case) for case in assembly.images if case.reason == Reason.UNLABELLED]
        with waiting("sending"):
            sent = send_to_all(dataset_id, chosen, jobs, used)
    rows = [{"destination": name, **counts} for name, counts in sent.items()]
    show_table("send", dataset_id, rows, f"model {used.model_id}")
    return {"stage": "send", "model": used.model_id, "sent": sent, "cases": [], "totals": {}}
