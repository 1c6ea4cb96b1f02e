"""What was said once cannot be changed or taken out unseen."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.errors import UserDataError
from tasks.ledger.journal import Journal


def journal(tmp_path: Path) -> Journal:
    book = Journal(tmp_path / "book.json")
    for word in ("one", "two", "three"):
        book.append({"said": word})
    return book


def test_entries_are_kept_in_order_each_naming_the_one_before(tmp_path: Path) -> None:
    book = journal(tmp_path)
    entries = book.entries()
    assert [entry["said"] for entry in entries] == ["one", "two", "three"]
    assert entries[0]["parent"] is None
    assert len({entry["parent"] for entry in entries}) == 3


def test_the_head_tells_whether_it_has_only_grown(tmp_path: Path) -> None:
    book = journal(tmp_path)
    head = book.head()
    book.append({"said": "four"})
    assert book.has_been_at(head)
    assert book.has_been_at(None)
    book.path.unlink()
    assert book.head() is None
    assert not book.has_been_at(head)


def _edit(change: Callable[[list[dict[str, Any]]], Any]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        content = json.loads(path.read_text())
        change(content["entries"])
        path.write_text(json.dumps(content))

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        _edit(lambda entries: entries[0].update(said="other")),
        _edit(lambda entries: entries.pop(1)),
        _edit(lambda entries: entries.pop(0)),
        _edit(lambda entries: entries.reverse()),
        _edit(lambda entries: entries.clear()),
        _edit(lambda entries: entries[2].pop("parent")),
        lambda path: path.write_text(path.read_text()[:-20]),
        lambda path: path.write_text('{"version": 1, "patients": {}}'),
        lambda path: path.write_text("[]"),
    ],
)
def test_what_other_hands_changed_is_an_error(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    book = journal(tmp_path)
    damage(book.path)
    before = book.path.read_bytes()
    for act in (book.entries, book.head, lambda: book.append({"said": "more"})):
        with pytest.raises(UserDataError, match="Restore it from the backup"):
            act()
    assert book.path.read_bytes() == before


def test_a_changed_last_entry_is_found_by_who_has_its_digest(tmp_path: Path) -> None:
    book = journal(tmp_path)
    head = book.head()
    _edit(lambda entries: entries[2].update(said="other"))(book.path)
    assert not book.has_been_at(head)


def test_a_journal_of_another_version_is_said_to_be_one(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.json")
    journal.append({"n": 1})
    content = json.loads(journal.path.read_text())
    journal.path.write_text(json.dumps({**content, "version": 9}))
    with pytest.raises(UserDataError, match="in format 9; this one reads"):
        journal.entries()
