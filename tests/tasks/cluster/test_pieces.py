"""Work in pieces: none, some, and how far it is."""

from __future__ import annotations

from typing import Any

import pytest
from ended import Ended

from tasks.cluster.pieces import run_chunks, successes

DONE = {"dice": 0.9}


@pytest.mark.parametrize("here", [True, False])
def test_no_pieces_are_no_work(shown: list[str], here: bool) -> None:
    nothing: Any = None
    assert run_chunks(nothing, [], lambda *_: (), "predict", 3, here=here, shown=True) == []
    assert shown == []


@pytest.mark.parametrize(
    ("wanted", "said"), [(True, ["0 predict: 0 of 2 pieces", "100 predict: 2 of 2 pieces"]), (False, [])]
)
def test_of_pieces_that_are_done_here_it_is_shown_where_that_is_wanted(
    shown: list[str], wanted: bool, said: list[str]
) -> None:
    def double(number: int) -> int:
        return 2 * number

    work: Any = double
    assert run_chunks(work, [3, 4], lambda _, piece: (piece,), "predict", 3, here=True, shown=wanted) == [
        6,
        8,
    ]
    assert shown == said


def test_how_many_pieces_are_done_is_shown_from_none_to_all(shown: list[str]) -> None:
    submit = {name: lambda _: Ended(DONE) for name in "abc"}
    assert successes(submit, 3, "predict") == dict.fromkeys("abc", DONE)
    assert shown == ["0 predict: 0 of 3 pieces", "100 predict: 3 of 3 pieces"]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr(
        "tasks.cluster.pieces.progress_artifact", lambda _: lambda p, w: said.append(f"{p:.0f} {w}")
    )
    return said
