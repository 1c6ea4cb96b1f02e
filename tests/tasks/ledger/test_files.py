"""A file is whole or not there, whatever happens while it is written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tasks.ledger.files import (
    digest_of,
    look_again,
    replace_symlink,
    sha256_of_file,
    whole_file,
    whole_folder,
    write_json,
)


class Killed(BaseException):
    """Stands for a signal: nothing may catch it."""


def test_a_failed_write_leaves_the_former_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "record.json"
    write_json(file, {"a": 1})
    with pytest.raises(Killed), whole_file(file) as temporary:
        temporary.write_text("half")
        raise Killed
    assert file.read_text() == '{\n "a": 1\n}\n'
    assert list(tmp_path.iterdir()) == [file]


def test_the_temporary_name_keeps_the_suffixes_and_is_hidden(tmp_path: Path) -> None:
    with whole_file(tmp_path / "image.nii.gz") as temporary:
        assert temporary.name.endswith(".nii.gz")
        assert temporary.name.startswith(".")
        temporary.write_bytes(b"x")


def test_a_failed_folder_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(Killed), whole_folder(tmp_path / "case") as temporary:
        (temporary / "half").write_text("half")
        raise Killed
    assert list(tmp_path.iterdir()) == []


def test_the_first_of_two_writers_of_a_folder_stays(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "case") as slow:
        (slow / "by").write_text("second")
        with whole_folder(tmp_path / "case") as quick:
            (quick / "by").write_text("first")
    assert (tmp_path / "case" / "by").read_text() == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["case"]


def test_a_symlink_moves_in_one_step_and_is_relative(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / "models" / name).mkdir(parents=True)
        replace_symlink(tmp_path / "latest", tmp_path / "models" / name)
        assert (tmp_path / "latest").resolve() == tmp_path / "models" / name
    assert not (tmp_path / "latest").readlink().is_absolute()


def test_a_symlink_leads_where_it_should_where_a_folder_is_a_link_itself(tmp_path: Path) -> None:
    """Such as results on another disk."""
    (tmp_path / "share" / "results").mkdir(parents=True)
    (tmp_path / "home" / "procdata" / "model").mkdir(parents=True)
    (tmp_path / "home" / "results").symlink_to(tmp_path / "share" / "results")
    replace_symlink(tmp_path / "home" / "results" / "latest", tmp_path / "home" / "procdata" / "model")
    assert (tmp_path / "home" / "results" / "latest").is_dir()


def test_a_symlink_moves_with_the_home_also_where_it_leads_through_another(tmp_path: Path) -> None:
    """Such as a procdata on a scratch disk, which may be mounted elsewhere one day."""
    (tmp_path / "scratch" / "model").mkdir(parents=True)
    (tmp_path / "home" / "results").mkdir(parents=True)
    (tmp_path / "home" / "procdata").symlink_to(tmp_path / "scratch")
    latest = tmp_path / "home" / "results" / "latest"
    replace_symlink(latest, tmp_path / "home" / "procdata" / "model")
    assert latest.readlink() == Path("../procdata/model")
    assert latest.is_dir()


def test_digests_do_not_depend_on_the_order_of_keys() -> None:
    assert digest_of({"a": 1, "b": [2]}) == digest_of({"b": [2], "a": 1})
    assert digest_of([1, 2]) != digest_of([2, 1])


def test_the_sha256_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    assert sha256_of_file(tmp_path / "f").startswith("ba7816bf8f01cfea")


def test_a_folder_that_is_not_there_is_looked_for_and_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of NFS itself there is none here: it is enough that each folder is opened, and closed."""
    (tmp_path / "there").mkdir()
    (tmp_path / "file").touch()
    opened: list[Path] = []
    closed: list[int] = []
    really, close = os.open, os.close
    monkeypatch.setattr(os, "open", lambda path, flags: opened.append(path) or really(path, flags))
    monkeypatch.setattr(os, "close", lambda number: closed.append(number) or close(number))
    names = [tmp_path / name for name in ("gone", "file", "there")]
    look_again(names)
    assert (opened, len(closed)) == (names, 1)
