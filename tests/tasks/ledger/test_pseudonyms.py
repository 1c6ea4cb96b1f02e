"""The same patient is the same stranger for ever, and nobody can make one that passes for ours."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import UserDataError
from tasks.ledger.pseudonyms import Pseudonyms

UIDS = st.from_regex(r"1\.2(\.(0|[1-9][0-9]{0,8})){1,5}", fullmatch=True)


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("key") / "a.key"


@pytest.fixture(scope="module")
def ours(key_file: Path) -> Pseudonyms:
    return Pseudonyms(key_file, first=True)


@pytest.fixture(scope="module")
def others(key_file: Path) -> Pseudonyms:
    return Pseudonyms(key_file.with_name("b.key"), first=True)


def test_patients_are_hashed_with_a_key_that_only_the_owner_reads(
    key_file: Path, ours: Pseudonyms, others: Pseudonyms
) -> None:
    again = Pseudonyms(key_file, first=False)
    john, jane = "patient:DOE^JOHN", "patient:DOE^JANE"
    assert ours.patient(john) == again.patient(john) != others.patient(john)
    assert ours.patient(john) != ours.patient(jane)
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600


def test_a_key_that_could_not_be_written_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty one would be taken for damaged, with no backup to restore it from."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk, pytest.raises(OSError, match="No space left"):
        disk.setattr("os.fsync", full)
        Pseudonyms(tmp_path / "a.key", first=True)
    assert not list(tmp_path.iterdir())
    Pseudonyms(tmp_path / "a.key", first=True)
    assert [file.name for file in tmp_path.iterdir()] == ["a.key"]


@pytest.mark.parametrize("links", [True, False])
def test_of_two_that_make_a_key_at_once_the_first_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    """A receiver and a first ingest."""
    link = os.link

    def another_was_first(source: Path, target: Path) -> None:
        target.write_text("ab" * 32)
        if not links:
            raise OSError(errno.EPERM, "Operation not permitted")
        link(source, target)

    monkeypatch.setattr("os.link", another_was_first)
    Pseudonyms(tmp_path / "a.key", first=True)
    assert (tmp_path / "a.key").read_text() == "ab" * 32


def test_a_file_system_without_links_has_a_key_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    Pseudonyms(tmp_path / "a.key", first=True)
    kept = (tmp_path / "a.key").read_text()
    assert [file.name for file in tmp_path.iterdir()] == ["a.key"]
    Pseudonyms(tmp_path / "a.key", first=True)
    assert (tmp_path / "a.key").read_text() == kept


def test_a_patient_is_one_patient_with_and_without_a_name(ours: Pseudonyms, others: Pseudonyms) -> None:
    """Else one half of the scans could validate what the other half has trained."""
    stand_in = ours.patient_id("patient:DOE^JOHN")
    assert ours.patient(f"patient:{stand_in}") == ours.patient("patient:DOE^JOHN")
    assert ours.patient_id(f"patient:{stand_in}") == stand_in
    assert others.patient(f"patient:{stand_in}") != ours.patient("patient:DOE^JOHN")


def test_a_forged_stand_in_is_a_patient_id_like_any_other(ours: Pseudonyms) -> None:
    forged = ours.patient_id("patient:DOE^JOHN")[:-1]
    for last in "0123456789abcdef":
        if ours.patient_id("patient:DOE^JOHN") != forged + last:
            assert ours.patient(f"patient:{forged}{last}") != ours.patient("patient:DOE^JOHN")


@given(UIDS)
def test_a_uid_is_replaced_once(ours: Pseudonyms, others: Pseudonyms, uid: str) -> None:
    stand_in = ours.uid(uid)
    assert ours.uid(stand_in) == stand_in != uid
    assert ours.is_own_uid(stand_in)
    assert not ours.is_own_uid(uid)
    assert not others.is_own_uid(stand_in)
    assert len(stand_in) <= 64
    assert all(part == "0" or not part.startswith("0") for part in stand_in.split("."))


@given(UIDS, UIDS)
def test_two_uids_stay_two(ours: Pseudonyms, one: str, other: str) -> None:
    assert (ours.uid(one) == ours.uid(other)) == (one == other)


@pytest.mark.parametrize("uid", ["2.25.", "2.25.x", "2.25.1", "2.25." + "9" * 60, "", "2.25.-1", "2.25.٣"])
def test_odd_uids_are_not_ours(ours: Pseudonyms, uid: str) -> None:
    assert not ours.is_own_uid(uid)


@pytest.mark.parametrize("content", [None, "abcd", "no key at all", ""])
def test_a_lost_or_damaged_key_is_an_error_and_not_replaced(tmp_path: Path, content: str | None) -> None:
    """Under a new key every patient is a stranger, and may change folds."""
    if content is not None:
        (tmp_path / "key").write_text(content)
    with pytest.raises(UserDataError, match="restore it from the backup"):
        Pseudonyms(tmp_path / "key", first=False)
    assert (tmp_path / "key").exists() == (content is not None)
