"""A run that goes on with a training tells how to give it up where that fails."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows import iterate
from tasks.errors import ConfigError, IterSegError
from tasks.ledger.paths import DatasetPaths


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            IterSegError("2 of 2 folds failed"),
            "2 of 2 folds failed.*2026-11-21__D.*`iterseg prepare D` first",
        ),
        (ConfigError("no such cluster"), "^no such cluster$"),
    ],
)
def test_a_training_that_cannot_be_gone_on_with_can_be_given_up(
    home: Path, monkeypatch: pytest.MonkeyPatch, error: IterSegError, words: str
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise error.with_report({"cases": ["known"]})

    begun = SimpleNamespace(name="2026-11-21__D")
    monkeypatch.setattr(iterate, "unfinished_iteration", lambda _: begun)
    monkeypatch.setattr(iterate, "get_run_logger", lambda: logging.getLogger("test"))
    monkeypatch.setattr(iterate, "train", fails)
    with pytest.raises(type(error), match=words) as caught:
        iterate._resumed(DatasetPaths.of("D"), "local", None, None)
    assert caught.value.report == {"cases": ["known"]}
