"""Work in pieces: none, some, and how far it is."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tasks.pieces import run_chunks, successes

DONE = {"dice": 0.9}


class Future:
    """A task that has ended well."""

    def __init__(self, outcome: Any) -> None:
        self.outcome, self.task_run_id, self.wrapped_future = outcome, uuid4(), self

    def done(self) -> bool:
        return True

    def release(self) -> None:
        pass

    def result(self, *, raise_on_failure: bool) -> Any:
        return self.outcome


def test_no_pieces_are_no_work(shown: list[str]) -> None:
    assert run_chunks(None, [], lambda *_: (), "predict", 3) == []  # type: ignore[arg-type]
    assert shown == []


def test_how_many_pieces_are_done_is_shown_from_none_to_all(shown: list[str]) -> None:
    submit = {name: lambda _: Future(DONE) for name in "abc"}
    assert successes(submit, 3, "predict") == dict.fromkeys("abc", DONE)
    assert shown == ["0 predict: 0 of 3 pieces", "100 predict: 3 of 3 pieces"]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr("tasks.pieces.progress_artifact", lambda _: lambda p, w: said.append(f"{p:.0f} {w}"))
    return said
