"""Events of the loop, for automations: a delivery is complete, a model is in use, the queue is full."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from prefect.events import emit_event
from prefect.settings import PREFECT_API_URL

from tasks.ledger.home import is_a_lab

Event = Literal["iterseg.delivery.complete", "iterseg.model.promoted", "iterseg.queue.full"]


RUN_ON_ARRIVAL = "iterseg.run-on-arrival"
"""A label of a delivery's event: ``yes`` where `iterate/on-arrival` shall start."""


def tell_event(
    event: Event, dataset_id: str, labels: Mapping[str, str] | None = None, **payload: Any
) -> None:
    """Emit an event of a dataset, where there is a server; nothing in it may name a patient.

    ``labels`` are what a trigger can choose by, besides the dataset.

    What a simulated lab does is no news of the dataset that it plays with.
    """
    if not PREFECT_API_URL.value() or is_a_lab():
        return
    emit_event(
        event,
        resource={
            "prefect.resource.id": f"iterseg.dataset.{dataset_id}",
            "prefect.resource.name": dataset_id,
            **(labels or {}),
        },
        payload={"dataset_id": dataset_id, **payload},
    )
