"""A run tells how to give up the training that it goes on with, and waits for its turn."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows import iterate
from tasks.errors import BusyError, ConfigError, IterSegError
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
    monkeypatch.setattr(iterate, "is_stored", lambda *_: True)
    monkeypatch.setattr(iterate, "get_run_logger", lambda: logging.getLogger("test"))
    monkeypatch.setattr(iterate, "train", fails)
    with pytest.raises(type(error), match=words) as caught:
        iterate._resumed(DatasetPaths.of("D"), "local", None, None)
    assert caught.value.report == {"cases": ["known"]}


class Busy:
    """A dataset on which somebody works for a while: how often it was asked for, and a clock."""

    def __init__(self, until_s: float) -> None:
        self.until_s, self.asked, self.now_s = until_s, 0, 0.0

    @contextmanager
    def turn(self, *_: Any) -> Iterator[None]:
        self.asked += 1
        if self.now_s < self.until_s:
            raise BusyError("another run works on this dataset")
        yield

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.mark.parametrize(
    ("deployed", "busy_s", "late_after_h", "state"),
    [
        pytest.param(True, 600, None, "done", id="a delivery that is fetched in the evening costs no night"),
        pytest.param(True, 86_400, None, "skipped", id="a training of days is not waited for"),
        pytest.param(True, 7_200, 0.5, "skipped", id="nor by day for a night"),
        pytest.param(False, 600, None, None, id="who sits before a terminal is told at once"),
    ],
)
def test_a_scheduled_run_waits_for_its_turn(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    deployed: bool,
    busy_s: float,
    late_after_h: float | None,
    state: str | None,
) -> None:
    busy = Busy(busy_s)
    (home / "config" / "roi_D.yaml").write_text("GTV: GTV\n")
    monkeypatch.setattr(iterate, "turn_of", busy.turn)
    clock = SimpleNamespace(monotonic=lambda: busy.now_s, sleep=busy.sleep)
    monkeypatch.setattr(iterate, "time", clock)
    monkeypatch.setattr(iterate, "deployment", SimpleNamespace(id="one" if deployed else None))
    monkeypatch.setattr(iterate, "hours_late", lambda: busy.now_s / 3600)
    monkeypatch.setattr(iterate, "require_known", lambda _: None)
    monkeypatch.setattr(iterate, "is_lost", lambda *_: False)
    monkeypatch.setattr(iterate, "_stands_still", lambda _: False)
    monkeypatch.setattr(iterate, "_iterate", lambda *_: {"state": "done"})
    monkeypatch.setattr(iterate, "_skipped", lambda *_: {"state": "skipped"})
    if state is None:
        with pytest.raises(BusyError):
            iterate.iterate.fn("D")
        assert busy.asked == 1
        return
    assert iterate.iterate.fn("D", late_after_h=late_after_h) == {"state": state}
    assert busy.now_s <= 3600 + 60 if late_after_h is None else busy.now_s <= late_after_h * 3600 + 60


@pytest.mark.parametrize(
    ("held_h", "told_h_ago", "still"),
    [
        pytest.param(40, 0.2, False, id="a training of days, whose last epoch was a moment ago"),
        pytest.param(40, 13, True, id="one that hangs"),
        pytest.param(40, None, True, id="one of which nothing was ever told"),
        pytest.param(20, 13, False, id="one that may be at something else"),
    ],
)
def test_a_run_that_hangs_is_heard_of(
    home: Path, monkeypatch: pytest.MonkeyPatch, held_h: float, told_h_ago: float | None, still: bool
) -> None:
    """It lives, so that every night would be skipped in silence."""
    paths = DatasetPaths.of("D")
    monkeypatch.setattr(iterate, "held_for_h", lambda _: held_h)
    if told_h_ago is not None:
        log = paths.logs / "jobs" / "fold-0.log"
        log.parent.mkdir(parents=True)
        log.touch()
        os.utime(log, (time.time() - told_h_ago * 3600,) * 2)
    assert iterate._stands_still(paths) == still


@pytest.mark.parametrize(
    ("reasons", "unsettled", "done"),
    [
        ([None, "missing-roi"], 0, True),
        ([None, "changed-after-sealing"], 0, False),
        ([None], 1, False),  # a correction that could not be compared with its prediction
    ],
)
def test_what_is_not_settled_is_tried_again_the_next_night(
    home: Path, monkeypatch: pytest.MonkeyPatch, reasons: list[str | None], unsettled: int, done: bool
) -> None:
    """A run that is remembered makes the next one say that nothing is new."""
    rows = [{"reason": reason} for reason in reasons]
    ingested = {"stage": "ingest", "refinements": {"unsettled": unsettled}}
    learned = [
        {"stage": "prepare", "cases": rows, "totals": {}},
        {"stage": "train", "model": "m", "state": "trained"},
    ]
    remembered: list[str] = []
    stubs: dict[str, Any] = {
        "nothing_new": lambda _: False,
        "finish_promotion": lambda _: None,
        "ingest": lambda _: ingested,
        "inputs_of": lambda _: {},
        "_learned": lambda *_: (learned, False),
        "predict": lambda *_: {"stage": "predict", "cases": [], "report": ""},
        "_show_stages": lambda *_: None,
        "remember_run": lambda dataset_id, _: remembered.append(dataset_id),
    }
    for name, stub in stubs.items():
        monkeypatch.setattr(iterate, name, stub)
    iterate._iterate(DatasetPaths.of("D"), "local", None, None, None)
    assert bool(remembered) is done
