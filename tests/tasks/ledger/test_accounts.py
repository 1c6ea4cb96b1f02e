"""What became of each file of a delivery, as plain text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import ConfigError, UserDataError
from tasks.ledger.accounts import FileRow, FileState, count_reasons, count_states, read_account, write_account

words = st.text(max_size=8)
headers = st.fixed_dictionaries(
    {"kind": st.sampled_from(["CT", "RTSTRUCT"]), "sop_instance_uid": words, "series_instance_uid": words},
    optional={
        "patient": words,
        "referenced_series": st.lists(words, min_size=1),
        "referenced_instances": st.lists(words, min_size=1),
        "localizer": st.just(True),
    },
)
rows = st.builds(
    FileRow,
    path=words,
    state=st.sampled_from(get_args(FileState)),
    reason=st.none() | st.just("no-dicom"),
    detail=words,
    sha256=words,
    size_bytes=st.integers(0),
    header=st.none() | headers,
    source_sha256=words,
)


def header(number: int, series: str = "1.2") -> dict[str, Any]:
    return {"kind": "CT", "sop_instance_uid": f"{series}.{number}", "series_instance_uid": series}


def taken(number: int, series: str = "1.2") -> FileRow:
    return FileRow(f"CT/{number}.dcm", "taken", None, "", f"sha{number}", 9, header(number, series))


@given(st.lists(rows, max_size=6))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, given_rows: list[FileRow]) -> None:
    file = tmp_path_factory.mktemp("account") / "manifest.json"
    write_account(file, given_rows, {"origin": "copied"})
    assert read_account(file) == (tuple(given_rows), {"origin": "copied"})


def test_a_file_is_a_line_and_what_a_series_shares_stands_once(tmp_path: Path) -> None:
    file = tmp_path / "manifest.json"
    write_account(file, [taken(1), taken(2), taken(3, "1.3")], {"origin": "copied"})
    assert file.read_text() == (
        "{\n"
        ' "version": 2,\n'
        ' "origin": "copied",\n'
        ' "series": [\n'
        '  {"kind": "CT", "series_instance_uid": "1.2"},\n'
        '  {"kind": "CT", "series_instance_uid": "1.3"}\n'
        " ],\n"
        ' "files": [\n'
        '  {"path": "CT/1.dcm", "state": "taken", "sha256": "sha1", "size_bytes": 9, "series": 0, '
        '"sop_instance_uid": "1.2.1"},\n'
        '  {"path": "CT/2.dcm", "state": "taken", "sha256": "sha2", "size_bytes": 9, "series": 0, '
        '"sop_instance_uid": "1.2.2"},\n'
        '  {"path": "CT/3.dcm", "state": "taken", "sha256": "sha3", "size_bytes": 9, "series": 1, '
        '"sop_instance_uid": "1.3.3"}\n'
        " ]\n"
        "}\n"
    )


def test_an_account_without_files_is_one_too(tmp_path: Path) -> None:
    write_account(tmp_path / "a.json", [], {"source": "s"})
    assert '"files": []' in (tmp_path / "a.json").read_text()
    assert read_account(tmp_path / "a.json") == ((), {"source": "s"})


def test_names_that_are_no_utf8_come_back_as_they_were(tmp_path: Path) -> None:
    row = taken(1)._replace(path="caf\udce9.dcm")
    write_account(tmp_path / "a.json", [row], {})
    assert read_account(tmp_path / "a.json")[0] == (row,)


def test_an_account_of_version_1_is_read(tmp_path: Path) -> None:
    """Sealed snapshots never change: those of an earlier IterSeg stay as they are."""
    file = tmp_path / "manifest.json"
    file.write_text(json.dumps({"version": 1, "origin": "by hand", "files": [taken(1)._asdict()]}))
    assert read_account(file) == ((taken(1),), {"origin": "by hand"})


def test_an_account_of_a_newer_version_is_not_guessed_at(tmp_path: Path) -> None:
    file = tmp_path / "manifest.json"
    file.write_text(json.dumps({"version": 3, "files": []}))
    with pytest.raises(ConfigError, match=r"written by a newer IterSeg \(version 3\); upgrade"):
        read_account(file)


@pytest.mark.parametrize(
    "content", ['{"files": [', "[]", '{"version": 2, "series": [], "files": [{"path": "a", "series": 1}]}']
)
def test_a_damaged_account_is_told(tmp_path: Path, content: str) -> None:
    file = tmp_path / "manifest.json"
    file.write_text(content)
    with pytest.raises(UserDataError, match="is damaged; restore it from the backup"):
        read_account(file)


def test_counts_add_up() -> None:
    found = [taken(1), taken(2), taken(3)._replace(state="rejected", reason="unreadable")]
    assert count_states(found) == {"taken": 2, "duplicate": 0, "rejected": 1, "ignored": 0}
    assert count_reasons(found) == {"unreadable": 1}
