"""The pinned versions serve: the server starts, and a cron schedule really creates runs.

With prefect 3.8.8, fastapi 0.155 keeps the server from starting, and SQLAlchemy 2.1 makes schedules
create nothing, in silence.
"""

from __future__ import annotations

import time

from tests_support import PrefectServer


def test_a_cron_schedule_creates_runs(prefect_server: PrefectServer) -> None:
    flow = prefect_server.post("/flows/", {"name": "nightly-probe"})
    deployment = prefect_server.post(
        "/deployments/",
        {
            "name": "probe",
            "flow_id": flow["id"],
            "schedules": [{"schedule": {"cron": "0 3 * * *", "timezone": "Europe/Berlin"}}],
        },
    )
    deadline = time.monotonic() + 60
    runs: list[dict[str, str]] = []
    while not runs and time.monotonic() < deadline:
        runs = prefect_server.post("/flow_runs/filter", {"deployments": {"id": {"any_": [deployment["id"]]}}})
        time.sleep(0.5)
    assert {run["state_type"] for run in runs} == {"SCHEDULED"}
