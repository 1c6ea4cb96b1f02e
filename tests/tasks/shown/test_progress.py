"""On a terminal it is said how far a command is; everywhere else nothing is printed."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from tasks.shown import progress
from tasks.shown.progress import epochs_shown, note_epoch, told, waiting


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    stream = Terminal()
    # pytest gives sys its own streams again before each test.
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=stream))
    monkeypatch.setattr(progress, "EVERY_S", 0.01)
    return stream


def until(said: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not said():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_loop_shows_a_bar(terminal: Terminal) -> None:
    assert list(progress.progress(iter("abc"), "read", 3)) == ["a", "b", "c"]
    assert "read" in terminal.getvalue()
    assert "0/3" in terminal.getvalue()


def test_what_has_no_end_in_sight_shows_how_long_it_took(terminal: Terminal) -> None:
    with waiting("starting Prefect"):
        until(lambda: "starting Prefect … 00:0" in terminal.getvalue())


def test_what_begins_unasked_is_told(terminal: Terminal) -> None:
    told("going on")
    assert terminal.getvalue() == "going on\n"


def test_folds_that_train_together_share_a_bar(terminal: Terminal, tmp_path: Path) -> None:
    files = [tmp_path / "0.epoch", tmp_path / "1.epoch"]
    with epochs_shown(files):
        until(lambda: "0%" in terminal.getvalue())
        note_epoch(files[0], 2, 4)
        until(lambda: "epochs 2/4" in terminal.getvalue())
        files[1].write_text("[3, ")  # half of a line
        note_epoch(files[0], 3, 4)
        until(lambda: "epochs 3/4" in terminal.getvalue())
        note_epoch(files[1], 4, 4)
        until(lambda: "88%" in terminal.getvalue())
    assert "epochs 3/4, 4/4" in terminal.getvalue()


def test_without_a_terminal_nothing_is_printed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with waiting("x"), epochs_shown([tmp_path / "0.epoch"]):
        assert list(progress.progress([1, 2], "read")) == [1, 2]
    assert capsys.readouterr() == ("", "")
