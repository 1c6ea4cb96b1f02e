"""On which cases the model in use is judged beside a candidate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from predicted_lab import a_model

from flows import judgement
from tasks.ledger.paths import DatasetPaths


@pytest.mark.parametrize(
    ("imported_from", "seen", "test_cases", "asked"),
    [
        ("a file", {}, [], ["every case"]),  # validated elsewhere: it has seen nobody from here
        ("a file", {}, ["t"], None),  # the test set tells
        ("a file", {"0": ["p1"]}, [], None),  # one of ours that came back: it has learned from them
        (None, {"0": ["p1"]}, [], None),
    ],
)
def test_an_imported_model_is_scored_on_what_it_has_not_seen(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    imported_from: str | None,
    seen: dict[str, list[str]],
    test_cases: list[str],
    asked: list[str] | None,
) -> None:
    model = replace(a_model(DatasetPaths.of("D"), ["GTV"]), imported_from=imported_from, seen=seen)
    iteration: Any = SimpleNamespace(test_cases=lambda: test_cases, training_cases=lambda: ["every case"])
    monkeypatch.setattr(judgement, "_scored", lambda *_, cases, **__: cases)
    nothing: Any = None
    assert judgement._scores_of(DatasetPaths.of("D"), iteration, model, nothing, nothing) == asked
