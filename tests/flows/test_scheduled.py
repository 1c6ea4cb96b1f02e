"""Whether a scheduled run is still wanted when it begins."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import httpx
import pytest

from flows import scheduled

OURS, ANOTHER, DEPLOYMENT = (UUID(int=n) for n in (1, 2, 3))
A_RUN = {"auto_scheduled": True, "deployment_id": DEPLOYMENT, "created_by": SimpleNamespace(id=OURS)}


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
