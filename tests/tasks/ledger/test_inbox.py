"""What arrives while what arrived before is taken away."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.ledger.inbox import Inbox


def test_a_series_of_which_more_arrives_meanwhile_stays(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    inbox.begin("first", "series")
    inbox.put("series", "a", b"a")
    inbox.end("first", whole=True)
    ready = inbox.ready()
    inbox.begin("second", "series")
    inbox.remove(ready)
    inbox.put("series", "b", b"b")
    inbox.end("second", whole=True)
    assert [file.name for file in inbox.ready()] == ["b"]


def test_a_folder_that_is_taken_away_as_more_arrives_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox, touch, taken = Inbox(tmp_path), Path.touch, []

    def touch_too_late(path: Path) -> None:
        if not taken:
            taken.append(path)
            path.parent.rmdir()
        touch(path)

    monkeypatch.setattr(Path, "touch", touch_too_late)
    inbox.begin("first", "series")
    inbox.put("series", "a", b"a")
    inbox.end("first", whole=True)
    assert [file.name for file in inbox.ready()] == ["a"]
    assert taken
