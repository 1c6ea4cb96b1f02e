"""Whether a scheduled run is still wanted when it begins."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import httpx
import pytest

from flows import scheduled

OURS, ANOTHER, DEPLOYMENT = (UUID(int=n) for n in (1, 2, 3))
A_RUN = {
    "auto_scheduled": True,
    "deployment_id": DEPLOYMENT,
    "created_by": SimpleNamespace(id=OURS),
    "run_count": 1,
}


def schedules(*known: tuple[UUID, bool], paused: bool = False) -> Any:
    listed = [SimpleNamespace(id=uid, active=active) for uid, active in known]
    return SimpleNamespace(paused=paused, schedules=listed)


@pytest.mark.parametrize(
    ("run", "known", "taken_off"),
    [
        (A_RUN, schedules((ANOTHER, True), (OURS, True)), False),
        (A_RUN, schedules((ANOTHER, True)), True),
        (A_RUN, schedules(), True),
        (A_RUN, schedules((OURS, False)), True),
        (A_RUN, schedules((OURS, True), paused=True), True),
        (A_RUN, httpx.ConnectError("nobody there"), False),  # a night is not lost for it
        ({**A_RUN, "auto_scheduled": False}, schedules(), False),  # somebody asked for it
        ({**A_RUN, "run_count": 2}, schedules((OURS, False)), False),  # and pressed Retry
        ({**A_RUN, "deployment_id": None}, schedules(), False),
        ({**A_RUN, "created_by": None}, schedules(), False),
        (None, schedules(), False),  # by the command line
    ],
)
def test_a_run_is_wanted_as_long_as_its_schedule_is_there_and_active(
    monkeypatch: pytest.MonkeyPatch, run: Any, known: Any, taken_off: bool
) -> None:
    def read_deployment(uid: UUID) -> Any:
        assert uid == DEPLOYMENT
        if isinstance(known, Exception):
            raise known
        return known

    context = SimpleNamespace(flow_run=SimpleNamespace(**run)) if run else None
    client = SimpleNamespace(read_deployment=read_deployment)
    monkeypatch.setattr(scheduled, "FlowRunContext", SimpleNamespace(get=lambda: context))
    monkeypatch.setattr(scheduled, "get_client", lambda **_: nullcontext(client))
    assert scheduled.is_taken_off() is taken_off


@pytest.mark.parametrize(
    ("by_deployment", "hours_ago", "run_count", "late_h"),
    [(True, 12, 1, 12), (True, 12, 2, 0), (False, 12, 1, 0), (True, None, 1, 0)],
)
def test_who_retries_a_night_in_the_morning_is_not_late(
    monkeypatch: pytest.MonkeyPatch, by_deployment: bool, hours_ago: int | None, run_count: int, late_h: int
) -> None:
    """Skipped, a night that failed would turn green in the UI, with nothing done."""
    due = None if hours_ago is None else datetime.now(UTC) - timedelta(hours=hours_ago)
    run = SimpleNamespace(scheduled_start_time=due, run_count=run_count)
    monkeypatch.setattr(scheduled, "flow_run", run)
    monkeypatch.setattr(scheduled, "deployment", SimpleNamespace(id="x" if by_deployment else None))
    assert scheduled.hours_late() == pytest.approx(late_h, abs=0.1)
