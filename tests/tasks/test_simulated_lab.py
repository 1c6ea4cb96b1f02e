"""A lab plays with patients of whom nobody can tell who they are, and tells nobody of what it does."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from dicom_factory import ball, write_rois, write_series
from prefect.settings import PREFECT_API_URL, temporary_settings

from tasks.errors import ConfigError
from tasks.ingest import take_delivery
from tasks.ledger.home import at_home, is_a_lab
from tasks.ledger.paths import DatasetPaths
from tasks.settings.simulation import Arm, Simulation
from tasks.shown import artifacts as shown
from tasks.shown import events
from tasks.simulated_lab import Lab, _key_of, open_lab


def key(home: Path, seed: int = 1, **more: Any) -> str:
    source = DatasetPaths(home, "D")
    return _key_of(Lab(source, "a", Arm(), seed), Simulation(arms={"a": Arm()}, **more))


def secret(home: Path, text: str) -> None:
    file = DatasetPaths(home, "D").patient_key
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_its_key_follows_from_the_datasets_own(home: Path) -> None:
    secret(home, "one")
    keys = {key(home), key(home, seed=2)}
    secret(home, "other")
    assert len({*keys, key(home), key(home, seed=2)}) == 4
    assert key(home) == key(home)


def test_public_data_may_be_played_alike_by_everybody(home: Path) -> None:
    secret(home, "one")
    before = key(home, places_key="hippocampus")
    secret(home, "other")
    assert key(home, places_key="hippocampus") == before != key(home, seed=2, places_key="hippocampus")


def test_what_a_lab_does_is_no_news_of_the_dataset(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(events, "emit_event", lambda event, **_: told.append(event))
    monkeypatch.setattr(shown, "create_table_artifact", lambda **made: told.append(made["key"]))
    lab = home / "data" / "simulations" / "D" / "random-1"
    lab.mkdir(parents=True)
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}):
        for where in (lab, home):
            with at_home(where):
                assert is_a_lab() is (where == lab)
                events.tell_event("iterseg.model.promoted", "D")
                shown.show_table("train", "D", [], "")
    assert told == ["iterseg.model.promoted", "train-d"]


@pytest.fixture
def lab(home: Path, tmp_path: Path) -> Lab:
    (home / "config" / "roi_D.yaml").write_text("GTV: GTV\n")
    scan = write_series(tmp_path / "scan", (6, 20, 24))
    write_rois(tmp_path / "scan" / "rt.dcm", scan, {"GTV": ball((6, 20, 24), (3, 8, 8), 3)})
    take_delivery.fn("D", tmp_path / "scan", date(2026, 11, 24))
    return Lab(DatasetPaths(home, "D"), "a", Arm(), 1)


def test_a_lab_that_was_begun_with_other_choices_is_not_played_on(lab: Lab) -> None:
    """Its rounds would stand beside settings that they were not made with."""
    simulation = Simulation(arms={"a": Arm()})
    open_lab.fn(lab, simulation)
    open_lab.fn(lab, Simulation(arms={"a": Arm()}, rounds=9, seeds=[1, 2]))
    other = replace(lab, arm=Arm(settings={"training": {"epochs_first": 5}}))
    for changed, of in ((other, simulation), (lab, Simulation(arms={"a": Arm()}, budget=3))):
        with pytest.raises(ConfigError, match="lab a-1 has begun with other choices .* give the arm another"):
            open_lab.fn(changed, of)


def test_a_round_that_is_noted_again_takes_its_own_place(lab: Lab) -> None:
    """A task that is tried again has been there before."""
    for row in ({"round": 1}, {"round": 2}, {"round": 2, "again": True}):
        lab.note(row)
    assert lab.rounds() == [{"round": 1}, {"round": 2, "again": True}]
