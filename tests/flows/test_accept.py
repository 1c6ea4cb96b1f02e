"""What became of a prediction that somebody stood for."""

from __future__ import annotations

from typing import Any

import pytest

from flows.accept import _row


@pytest.mark.parametrize(
    ("fate", "state"),
    [
        (None, "done"),  # it had come back before
        ({"state": "taken", "reason": None, "detail": ""}, "done"),
        ({"state": "duplicate", "reason": None, "detail": ""}, "done"),  # of a run that was killed after it
        ({"state": "rejected", "reason": "uid-conflict", "detail": "x"}, "rejected"),
        ({"state": "ignored", "reason": "withdrawn", "detail": ""}, "rejected"),
    ],
)
def test_only_what_is_a_label_now_counts_as_done(fate: dict[str, Any] | None, state: str) -> None:
    row = _row("case1", fate)
    assert row["state"] == state
    assert row["reason"] == (fate["reason"] if fate and state == "rejected" else None)
