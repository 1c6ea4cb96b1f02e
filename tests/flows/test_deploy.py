"""What `make deploy` puts on the server, what it leaves as somebody has set it there, and what is not run."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from pydantic import HttpUrl
from tests_support import MORTAL, PrefectServer, wait_until
from web_hook import web_hook

from tasks.settings.notifications import NotificationSettings

SCRIPT = Path(__file__).parents[2] / "deployments" / "deploy.py"
NIGHT = 'arrival_quiet_s: 0\nnight: {cron: "0 20 * * *", timezone: Europe/Berlin, cluster: local}\n'


@dataclass
class Deployed:
    """Two datasets with nights, on a server of their own: what is deployed on it is no other test's."""

    home: Path
    server: PrefectServer

    def call(self, *command: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **self.server.environment, "ITERSEG_HOME": str(self.home)}
        return subprocess.run(
            [*MORTAL, sys.executable, *command],
            env=environment,
            cwd=self.home,
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
        )

    def deploy(self) -> None:
        done = self.call(str(SCRIPT))
        assert done.returncode == 0, done.stderr

    def nights(self) -> dict[str, dict[str, Any]]:
        """Dataset → its schedule."""
        known = self.server.get("/deployments/name/iterate/nightly")
        return {schedule["slug"]: schedule for schedule in known["schedules"]}

    def runs_to_come(self) -> list[dict[str, Any]]:
        chosen = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
        found: list[dict[str, Any]] = self.server.post("/flow_runs/filter", chosen)
        return [run for run in found if run["parameters"]["dataset_id"] == "E"]

    def end_of(self, run: dict[str, Any]) -> tuple[str, str]:
        """Let a run begin now; the name and the message of the state in which it ends."""
        now = {"state": {"type": "PENDING"}, "force": True}  # else it waits for its night
        self.server.post(f"/flow_runs/{run['id']}/set_state", now)
        done = self.call("-m", "prefect", "flow-run", "execute", run["id"])
        # Prefect's own default is to copy the folder that a run is started in: here a home with its scans.
        assert "Downloading flow code" not in done.stdout + done.stderr
        state = self.server.get(f"/flow_runs/{run['id']}")["state"]
        return state["name"], state["message"]


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    config = tmp_path_factory.mktemp("home") / "config"
    (config / "clusters").mkdir(parents=True)
    for name in ("D", "E"):
        (config / f"roi_{name}.yaml").write_text("GTV: GTV\n")
        (config / f"dataset_{name}.yaml").write_text(NIGHT)
    (config / "clusters" / "local.yaml").write_text("workers: 1\n")
    with PrefectServer(tmp_path_factory.mktemp("server")) as server:
        deployed = Deployed(config.parent, server)
        deployed.deploy()
        yield deployed


def test_what_was_paused_stays_paused(deployed: Deployed) -> None:
    """As over a question of consent, while the code is upgraded; and what has not changed is left alone."""
    before = deployed.nights()
    assert {name: schedule["active"] for name, schedule in before.items()} == {"D": True, "E": True}
    with httpx.Client(base_url=deployed.server.api_url) as client:
        nightly = client.get("/deployments/name/iterate/nightly").json()
        paused = client.patch(
            f"/deployments/{nightly['id']}/schedules/{before['D']['id']}", json={"active": False}
        )
        paused.raise_for_status()
        arrival = client.get("/deployments/name/iterate/on-arrival").json()["id"]
        client.post(f"/deployments/{arrival}/pause_deployment").raise_for_status()
    (deployed.home / "config" / "dataset_D.yaml").write_text(NIGHT.replace("20", "21"))
    deployed.deploy()
    after = deployed.nights()
    assert {name: schedule["active"] for name, schedule in after.items()} == {"D": False, "E": True}
    assert after["D"]["schedule"]["cron"] == "0 21 * * *"
    # A schedule that is deleted takes runs of others with it, which are due and wait.
    assert {name: schedule["id"] for name, schedule in after.items()} == {
        name: schedule["id"] for name, schedule in before.items()
    }
    assert deployed.server.get("/deployments/name/iterate/on-arrival")["paused"] is True
    assert deployed.server.get("/deployments/name/iterate/nightly")["paused"] is False


def test_what_was_paused_stays_so_where_a_deployment_fails(deployed: Deployed, tmp_path: Path) -> None:
    """Those before it were put up, and woken by that."""
    arrival = deployed.server.get("/deployments/name/iterate/on-arrival")["id"]
    deployed.server.post(f"/deployments/{arrival}/pause_deployment", {})
    broken = yaml.safe_load((SCRIPT.parent / "prefect.yaml").read_text())
    broken["deployments"].append(
        {**broken["deployments"][0], "entrypoint": "flows.gone.gone", "name": "gone"}
    )
    file = tmp_path / "prefect.yaml"
    file.write_text(yaml.safe_dump(broken))
    script = f"import deploy, pathlib; deploy.FILE = pathlib.Path({str(file)!r}); deploy.main()"
    done = deployed.call("-c", f"import sys; sys.path.insert(0, {str(SCRIPT.parent)!r}); {script}")
    assert (done.returncode, "flows.gone" in done.stdout + done.stderr) == (1, True), done.stderr
    assert deployed.server.get("/deployments/name/iterate/on-arrival")["paused"] is True


def test_a_run_whose_schedule_is_gone_is_skipped(deployed: Deployed) -> None:
    """The server's scheduler may write the runs of a schedule a moment after that was taken off."""
    wait_until(lambda: len(deployed.runs_to_come()) > 1, 60)
    wanted, left, *_ = deployed.runs_to_come()
    name, message = deployed.end_of(wanted)
    assert (name, "there is no dataset 'E'" in message) == ("Failed", True), message
    with sqlite3.connect(deployed.server.home / "prefect.db", timeout=60) as database:
        database.execute("DELETE FROM deployment_schedule")
    assert deployed.end_of(left) == ("Skipped", "its schedule is paused, or no longer there")


def test_a_run_that_no_worker_begins_is_told(deployed: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Late is not failed: weeks of nights might not begin, and nobody hear of it."""
    monkeypatch.syspath_prepend(SCRIPT.parent)
    notifications = import_module("notifications")
    monkeypatch.setattr(notifications, "BEGINS_WITHIN", timedelta(seconds=10))  # Prefect's least
    nightly = deployed.server.get("/deployments/name/iterate/nightly")["id"]
    with (
        web_hook() as (address, heard),
        temporary_settings({PREFECT_API_URL: deployed.server.api_url}),
        get_client(sync_client=True) as client,
    ):
        chosen = NotificationSettings(webhook=HttpUrl(address), occasions=["failure"])
        notifications.notify(client, chosen, [UUID(nightly)])
        for _ in range(2):
            client.create_flow_run_from_deployment(UUID(nightly), parameters={"dataset_id": "E"})
        wait_until(lambda: len(heard) == 2, 180)
        assert all("has not begun for half an hour" in words for words in heard)
        notifications.notify(client, None, [])
        left = [automation["name"] for automation in deployed.server.post("/automations/filter", {})]
        assert not [name for name in left if name.startswith("iterseg: ")]
