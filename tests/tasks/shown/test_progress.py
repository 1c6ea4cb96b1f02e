"""On a terminal it is said how far a command is; everywhere else nothing is printed."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from tasks.shown import progress
from tasks.shown.progress import note_step, noted_step, steps_shown, told, waiting


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


def test_what_has_no_end_in_sight_shows_how_long_it_takes(terminal: Terminal) -> None:
    with waiting("starting Prefect"):
        until(lambda: "starting Prefect … 00:01" in terminal.getvalue())


def test_what_begins_unasked_is_told(terminal: Terminal) -> None:
    told("going on")
    assert terminal.getvalue() == "going on\n"


def test_folds_that_train_together_share_a_bar(terminal: Terminal, tmp_path: Path) -> None:
    files = [tmp_path / "0.steps", tmp_path / "1.steps"]
    with steps_shown(files):
        until(lambda: "0%" in terminal.getvalue())
        note_step(files[0], "epoch", 2, 4)
        until(lambda: "epoch 2/4" in terminal.getvalue())
        files[1].write_text("[3, ")  # half of a line
        note_step(files[0], "epoch", 3, 4)
        until(lambda: "epoch 3/4" in terminal.getvalue())
        note_step(files[1], "epoch", 4, 4)
        until(lambda: "88%" in terminal.getvalue())
        assert "epoch 3/4, epoch 4/4" in terminal.getvalue()


def test_folds_that_are_trained_have_a_bar_of_their_validation(terminal: Terminal, tmp_path: Path) -> None:
    """Minutes pass in which no epoch ends."""
    files = [tmp_path / "0.steps", tmp_path / "1.steps"]
    with steps_shown(files):
        note_step(files[0], "epoch", 2, 4)
        note_step(files[1], "validated", 1, 10)
        until(lambda: "train:  75%" in terminal.getvalue())
        note_step(files[0], "validated", 1, 5)
        until(lambda: "validate:  15%" in terminal.getvalue())
    assert "train:   0%" not in terminal.getvalue().partition("train:  75%")[2], "it never goes back"
    assert "validated 1/5, validated 1/10" in terminal.getvalue()


def test_a_test_set_has_a_bar_of_its_cases(terminal: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "test.steps"
    with steps_shown([file], "scored"):
        until(lambda: "score:   0%" in terminal.getvalue())
        note_step(file, "scored", 1, 4)
        until(lambda: "score:  25%" in terminal.getvalue())
    assert "train" not in terminal.getvalue()


def test_where_all_is_done_already_there_is_no_bar(terminal: Terminal) -> None:
    with steps_shown([]):
        pass
    assert terminal.getvalue() == ""


def test_without_a_terminal_nothing_is_printed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with waiting("x"), steps_shown([tmp_path / "0.steps"]):
        assert list(progress.progress([1, 2], "read")) == [1, 2]
    assert capsys.readouterr() == ("", "")


def test_what_a_lost_task_has_noted_grows_from_its_first_epoch_to_its_last_case(tmp_path: Path) -> None:
    file = tmp_path / "fold-0.steps"
    found = [noted_step(file)]
    for step, done in (("epoch", 1), ("epoch", 30), ("validated", 1), ("validated", 4)):
        note_step(file, step, done, 30)  # type: ignore[arg-type]
        found.append(noted_step(file))
    assert found == sorted(set(found))
