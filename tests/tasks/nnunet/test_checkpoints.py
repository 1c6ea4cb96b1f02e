"""Checkpoints are whole or not there, and nothing in one is executed."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tasks.errors import UserDataError
from tasks.nnunet.checkpoints import read_checkpoint, resumable
from tasks.nnunet.fold import _last_saved


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch executed",)


def content() -> dict[str, object]:
    return {
        "network_weights": {"a": torch.zeros(2)},
        "logging": {"ema": [np.float64(0.5), np.float32(0.1)]},
        "current_epoch": np.int64(3),
        "init_args": {"device": torch.device("cpu")},
    }


def test_what_nnunet_writes_is_read(tmp_path: Path) -> None:
    torch.save(content(), tmp_path / "c.pth")
    assert read_checkpoint(tmp_path / "c.pth")["logging"]["ema"][0] == 0.5


def test_a_checkpoint_that_would_execute_something_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({**content(), "evil": Evil()}, tmp_path / "c.pth")
    with pytest.raises(UserDataError, match="cannot be used"):
        read_checkpoint(tmp_path / "c.pth")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.99])
def test_a_truncated_checkpoint_is_said_and_not_resumed(tmp_path: Path, keep: float) -> None:
    file = tmp_path / "c.pth"
    torch.save(content(), file)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * keep)])
    said: list[str] = []
    assert not resumable(file, said.append)
    assert "cannot be used" in said[0]


def test_a_file_that_is_no_checkpoint_is_said(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "c.pth")
    with pytest.raises(UserDataError, match="no checkpoint of nnU-Net"):
        read_checkpoint(tmp_path / "c.pth")


def test_no_file_is_nothing_to_resume(tmp_path: Path) -> None:
    assert not resumable(tmp_path / "absent.pth", print)


@pytest.mark.parametrize("wrapped", [False, True])
def test_what_the_disk_fails_to_give_is_not_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrapped: bool
) -> None:
    """Passed over, a training of days would begin again. Torch may wrap what the disk says."""
    file = tmp_path / "c.pth"
    torch.save(content(), file)

    def fails(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    def wraps(*_: object, **__: object) -> None:
        raise RuntimeError("PytorchStreamReader failed reading file")

    monkeypatch.setattr(torch, "load", wraps if wrapped else fails)
    monkeypatch.setattr("tasks.nnunet.checkpoints.sha256_of_file", fails)
    with pytest.raises(OSError, match="Input/output error"):
        resumable(file, print)


@pytest.mark.parametrize("made", ["folder", "link"])
def test_what_is_no_file_stays_none(tmp_path: Path, made: str) -> None:
    path = tmp_path / "c.pth"
    path.mkdir() if made == "folder" else path.symlink_to(tmp_path / "gone")
    with pytest.raises(UserDataError, match="cannot be used"):
        read_checkpoint(path)


def test_a_failure_that_is_gone_at_once_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, load, asked = tmp_path / "c.pth", torch.load, []
    torch.save(content(), file)

    def fails_once(*arguments: Any, **options: Any) -> Any:
        asked.append(1)
        if len(asked) == 1:
            raise RuntimeError("PytorchStreamReader failed reading file")
        return load(*arguments, **options)

    monkeypatch.setattr(torch, "load", fails_once)
    assert resumable(file, print)


@pytest.mark.parametrize(
    ("latest", "previous", "found"),
    [
        ("whole", "whole", "latest"),
        ("damaged", "whole", "previous"),
        ("unreadable", "whole", "previous"),
        ("absent", "whole", "previous"),
        ("absent", "absent", None),
        ("damaged", "absent", None),
        ("unreadable", "absent", "raises"),
        ("unreadable", "damaged", "raises"),
    ],
)
def test_the_newest_that_can_be_read_is_gone_on_from(
    monkeypatch: pytest.MonkeyPatch, latest: str, previous: str, found: str | None
) -> None:
    """A bad sector costs minutes; where nothing else is left, nobody begins anew while it may pass."""
    states = {Path("latest"): latest, Path("previous"): previous}

    def asked(path: Path, _: Callable[[str], None]) -> bool:
        if states[path] == "unreadable":
            raise OSError(errno.EIO, "Input/output error")
        return states[path] == "whole"

    monkeypatch.setattr("tasks.nnunet.checkpoints.resumable", asked)
    if found == "raises":
        with pytest.raises(OSError, match="Input/output error"):
            _last_saved(*states)
    else:
        assert _last_saved(*states) == (Path(found) if found else None)
