"""Put the deployments, the datasets' schedules and the notifications on the server.

make deploy

Run again after any change; what is no longer chosen is taken off.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import httpx
from notifications import notify
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectAlreadyExists
from prefect.settings import PREFECT_API_URL
from pydantic import ValidationError

from tasks.doctor.services import POOL
from tasks.errors import ConfigError, IterSegError
from tasks.ledger.home import config_folder, home
from tasks.settings.cluster import load_cluster
from tasks.settings.dataset import check_choices, load_dataset_settings
from tasks.settings.night import NightSettings
from tasks.settings.notifications import load_notifications

FILE = Path(__file__).with_name("prefect.yaml")


def main() -> None:
    """Deploy everything."""
    if not PREFECT_API_URL.value():
        raise ConfigError(
            "PREFECT_API_URL is not set: `make server`, then "
            "`prefect config set PREFECT_API_URL=http://127.0.0.1:4200/api`"
        )
    nights, notifications = _nights(config_folder()), load_notifications(config_folder())
    with get_client(sync_client=True) as client:
        try:
            client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
        except ObjectAlreadyExists:
            pass
        paused = {known.id for known in client.read_deployments() if known.paused}
        command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
        try:
            subprocess.run([*command, "--prefect-file", str(FILE)], check=True, cwd=home())
        finally:
            for deployment in paused:  # `prefect deploy` wakes them, also where it fails after that
                client.pause_deployment(deployment)
        nightly = client.read_deployment_by_name("iterate/nightly").id
        _schedule(client, nightly, nights)
        on_arrival = client.read_deployment_by_name("iterate/on-arrival").id
        notify(client, notifications, [nightly, on_arrival])
    for dataset_id, night in nights.items():
        print(f"iterate/nightly: {dataset_id} at {night.cron!r} ({night.timezone}) on {night.cluster}")


def _nights(config: Path) -> dict[str, NightSettings]:
    """The datasets that have nights, each checked as far as it can be without running it."""
    nights = {}
    for file in sorted(config.glob("dataset_*.yaml")):
        dataset_id = file.stem.removeprefix("dataset_")
        settings = load_dataset_settings(config, dataset_id)
        if settings.night is not None:
            check_choices(config, dataset_id)
            load_cluster(config, settings.night.cluster)
            nights[dataset_id] = settings.night
    return nights


def _schedule(client: SyncPrefectClient, deployment: UUID, nights: dict[str, NightSettings]) -> None:
    """One schedule for each dataset; what has not changed is left alone, what was paused stays paused."""
    before = client.read_deployment_schedules(deployment)
    active = {schedule.slug: schedule.active for schedule in before}
    wanted = [
        DeploymentScheduleCreate(
            schedule=_cron(dataset_id, night),
            parameters={
                "dataset_id": dataset_id,
                **night.model_dump(exclude={"cron", "timezone", "on_arrival"}, exclude_none=True),
            },
            slug=dataset_id,
            active=active.get(dataset_id, True),
        )
        for dataset_id, night in nights.items()
    ]
    # Only now: what cannot be made must not cost the others' nights.
    new = {schedule.slug: schedule for schedule in wanted}
    for schedule in before:
        one = new.pop(schedule.slug, None)
        if one is None:
            client.delete_deployment_schedule(deployment, schedule.id)
        elif (schedule.schedule, schedule.parameters) != (one.schedule, one.parameters):
            # In its place: with one that is deleted, runs of all datasets go that are due and wait.
            client.update_deployment_schedule(
                deployment, schedule.id, schedule=one.schedule, parameters=one.parameters
            )
    if new:
        client.create_deployment_schedules(deployment, list(new.values()))


def _cron(dataset_id: str, night: NightSettings) -> CronSchedule:
    try:
        return CronSchedule(cron=night.cron, timezone=night.timezone)
    except ValidationError as error:
        (first, *_) = error.errors()
        raise ConfigError(f"config/dataset_{dataset_id}.yaml: night.cron: {first['msg']}") from None


if __name__ == "__main__":
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    try:
        main()
    except IterSegError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except httpx.HTTPError as error:
        address = PREFECT_API_URL.value()
        print(f"error: the server at {address} does not answer ({error}); `make server`", file=sys.stderr)
        sys.exit(1)
    except subprocess.CalledProcessError:
        print(
            "error: `prefect deploy` failed, for the reason above; no schedule was changed", file=sys.stderr
        )
        sys.exit(1)
