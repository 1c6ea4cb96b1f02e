"""The automations that tell people: made anew with every deployment, so that they are what the file says."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import SyncPrefectClient
from prefect.events import AutomationCore, EventTrigger, Posture
from prefect.events.actions import CallWebhook
from pydantic import SecretStr

from tasks.settings.notifications import NotificationSettings, Occasion

BLOCK = "iterseg-notifications"
PREFIX = "iterseg: "
TEXTS: dict[Occasion, str] = {
    "failure": '{"text": {{ ("IterSeg: " ~ flow_run.name ~ " ended as " ~ flow_run.state.name ~ ". " ~ '
    "flow_run.state.message)|tojson }}}",
    "promotion": '{"text": {{ ("IterSeg: " ~ event.payload.dataset_id ~ " uses model " ~ '
    'event.payload.model ~ ": " ~ event.payload.why)|tojson }}}',
    "full_queue": '{"text": {{ ("IterSeg: " ~ event.payload.dataset_id ~ " waits for the cluster: " ~ '
    'event.payload.waiting ~ " jobs, " ~ event.payload.reason)|tojson }}}',
}
"""What is said may hold quotes and line breaks: `tojson` keeps it one string."""
BEGINS_WITHIN = timedelta(minutes=30)
LATE = (
    '{"text": "IterSeg: a run that is due has not begun for half an hour. Is the worker up? `iterseg doctor` '
    'asks it; `make worker`, or its systemd unit, starts it."}'
)


def notify(client: SyncPrefectClient, chosen: NotificationSettings | None, deployments: list[UUID]) -> None:
    """Replace this project's automations by those that are chosen now.

    Parameters
    ----------
    deployments
        Whose runs people hear of when they fail.
    """
    for automation in client.read_automations():
        if automation.name.startswith(PREFIX):
            client.delete_automation(automation.id)
    if chosen is None:
        return
    hook = Webhook(method="POST", url=SecretStr(str(chosen.webhook)))
    block_id = hook.save(BLOCK, overwrite=True)
    for occasion in chosen.occasions:
        client.create_automation(
            AutomationCore(
                name=f"{PREFIX}{occasion}",
                trigger=_trigger(occasion, deployments),
                actions=[CallWebhook(block_document_id=block_id, payload=TEXTS[occasion])],
            )
        )
    if "failure" in chosen.occasions:
        client.create_automation(
            AutomationCore(
                name=f"{PREFIX}late",
                trigger=_never_begun(deployments),
                actions=[CallWebhook(block_document_id=block_id, payload=LATE)],
            )
        )


def _never_begun(deployments: list[UUID]) -> EventTrigger:
    """A run whose time has come and that no worker begins: it is only late, and stays so for ever."""
    return EventTrigger(
        after={"prefect.flow-run.Late"},
        expect={"prefect.flow-run.Pending", "prefect.flow-run.Running"},
        for_each={"prefect.resource.id"},
        match={"prefect.resource.id": "prefect.flow-run.*"},
        match_related=_of(deployments),
        posture=Posture.Proactive,
        threshold=1,
        within=BEGINS_WITHIN,
    )


def _of(deployments: list[UUID]) -> dict[str, str | list[str]]:
    return {
        "prefect.resource.role": "deployment",
        "prefect.resource.id": [f"prefect.deployment.{uid}" for uid in deployments],
    }


def _trigger(occasion: Occasion, deployments: list[UUID]) -> EventTrigger:
    if occasion == "failure":
        return EventTrigger(
            expect={"prefect.flow-run.Failed", "prefect.flow-run.Crashed"},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related=_of(deployments),
            posture=Posture.Reactive,
            threshold=1,
        )
    event = {"promotion": "iterseg.model.promoted", "full_queue": "iterseg.queue.full"}[occasion]
    return EventTrigger(
        expect={event},
        match={"prefect.resource.id": "iterseg.dataset.*"},
        posture=Posture.Reactive,
        threshold=1,
    )
