"""What arrives while what arrived before is taken away."""

from __future__ import annotations

import shutil
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
    inbox, write, taken = Inbox(tmp_path), Path.write_text, []

    def write_too_late(path: Path, text: str) -> None:
        if not taken:
            taken.append(path)
            path.parent.rmdir()
        write(path, text)

    monkeypatch.setattr(Path, "write_text", write_too_late)
    inbox.begin("first", "series")
    inbox.put("series", "a", b"a")
    inbox.end("first", whole=True)
    assert [file.name for file in inbox.ready()] == ["a"]
    assert taken


def test_one_of_two_transfers_does_not_free_what_the_other_left_half_sent(tmp_path: Path) -> None:
    """A PACS sends a series over two associations, of which one is cut off: the rest makes an even grid."""
    inbox = Inbox(tmp_path)
    inbox.begin("one", "series")
    inbox.begin("other", "series")
    inbox.put("series", "a", b"a")
    inbox.end("one", whole=False)
    inbox.put("series", "b", b"b")
    inbox.end("other", whole=True)
    assert inbox.ready() == []
    assert inbox.held() == {"series": 2}
    inbox.begin("again", "series")
    inbox.put("series", "c", b"c")
    inbox.end("again", whole=True)
    assert [file.name for file in inbox.ready()] == ["a", "b", "c"]


def test_a_series_that_an_ingest_takes_away_meanwhile_stops_no_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receiver looks on as a night empties the inbox."""
    inbox = Inbox(tmp_path)
    for name in ("gone", "there"):
        inbox.begin("t", name)
        inbox.put(name, "1.dcm", b"x")
    inbox.end("t", whole=True)
    folders = [tmp_path / "gone", tmp_path / "there"]
    shutil.rmtree(folders[0])
    monkeypatch.setattr(Inbox, "_folders", lambda _: folders)
    assert inbox.ready() == inbox.all() == [tmp_path / "there" / "1.dcm"]
    assert inbox.held() == {}
    assert inbox.quiet_for_s() < 60
