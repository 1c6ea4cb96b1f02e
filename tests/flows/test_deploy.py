"""What `make deploy` puts on the server, and what it leaves as somebody has set it there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests_support import PrefectServer

SCRIPT = Path(__file__).parents[2] / "deployments" / "deploy.py"
NIGHT = 'arrival_quiet_s: 0\nnight: {cron: "0 20 * * *", timezone: Europe/Berlin, cluster: local}\n'


def deploy(home: Path, server: PrefectServer) -> None:
    environment = {**os.environ, **server.environment, "ITERSEG_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, str(SCRIPT)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PrefectServer]:
    """One of its own: what is deployed on it is no other test's."""
    (tmp_path / "server").mkdir()
    with PrefectServer(tmp_path / "server") as server:
        yield server


def test_what_was_paused_stays_paused(home: Path, server: PrefectServer) -> None:
    """As over a question of consent, while the code is upgraded."""
    for name in ("D", "E"):
        (home / "config" / f"roi_{name}.yaml").write_text("GTV: GTV\n")
        (home / "config" / f"dataset_{name}.yaml").write_text(NIGHT)
    (home / "config" / "clusters" / "local.yaml").write_text("workers: 1\n")
    deploy(home, server)
    with httpx.Client(base_url=server.api_url) as client:

        def night() -> dict[str, bool]:
            schedules = client.get("/deployments/name/iterate/nightly").raise_for_status().json()["schedules"]
            return {schedule["slug"]: schedule["active"] for schedule in schedules}

        assert night() == {"D": True, "E": True}
        nightly = client.get("/deployments/name/iterate/nightly").json()
        (of_d,) = (schedule["id"] for schedule in nightly["schedules"] if schedule["slug"] == "D")
        client.patch(
            f"/deployments/{nightly['id']}/schedules/{of_d}", json={"active": False}
        ).raise_for_status()
        arrival = client.get("/deployments/name/iterate/on-arrival").json()["id"]
        client.post(f"/deployments/{arrival}/pause_deployment").raise_for_status()
        deploy(home, server)
        assert night() == {"D": False, "E": True}
        assert client.get("/deployments/name/iterate/on-arrival").json()["paused"] is True
        assert client.get("/deployments/name/iterate/nightly").json()["paused"] is False
