"""A promotion that was cut off is finished by the next run, unless a person has said otherwise."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
from trained_models import case, trained

from flows.train import finish_promotion
from tasks.ledger.models import latest_model, load_promotions, save_model
from tasks.ledger.paths import DatasetPaths
from tasks.promote import promote_model, put_back


@pytest.fixture
def paths(home: Path) -> DatasetPaths:
    return DatasetPaths.of("D")


def test_who_stays_with_the_model_in_use_has_declined_what_was_accepted_since(paths: DatasetPaths) -> None:
    """A run was killed before it put that into use; the next one would."""
    cases = [case(0, 0), case(1, 1)]
    first = trained(paths, "2026-01-01", cases, 0.5)
    promote_model.fn("D", first)
    second = replace(trained(paths, "2026-01-02", cases, 0.6), compared_with="2026-01-01")
    save_model(paths, second)
    put_back.fn("D", "2026-01-01")
    put_back.fn("D", "2026-01-01")
    assert [entry["why"] for entry in load_promotions(paths)][1:] == ["rollback"], "once"
    finish_promotion(paths)
    current = latest_model(paths)
    assert current is not None
    assert current.model_id == "2026-01-01"


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_an_accepted_model_without_its_weights_stops_no_night(
    paths: DatasetPaths, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody made room while it waited: it is not in use."""
    cases = [case(0, 0), case(1, 1)]
    first = trained(paths, "2026-01-01", cases, 0.5)
    promote_model.fn("D", first)
    second = replace(trained(paths, "2026-01-02", cases, 0.6), compared_with="2026-01-01")
    save_model(paths, second)
    file = second.checkpoint(paths, "0")
    if damage == "gone":
        file.unlink()
    else:
        file.write_text("other")
    said: list[str] = []
    monkeypatch.setattr("flows.train.promote_model", promote_model.fn)
    monkeypatch.setattr("flows.train.told", said.append)
    monkeypatch.setattr("flows.train.get_run_logger", lambda: logging.getLogger("test"))
    finish_promotion(paths)
    current = latest_model(paths)
    assert current is not None
    assert current.model_id == "2026-01-01"
    assert "model 2026-01-02 was accepted, and is not put into use: fold 0" in said[0]
