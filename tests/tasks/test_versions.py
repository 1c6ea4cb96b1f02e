"""A run says which code it ran, and refuses code that nobody can name."""

from __future__ import annotations

import pytest

from tasks.errors import ConfigError
from tasks.versions import code_version, require_release

ANSWERS = {"rev-parse": "0123456789ab", "status": ""}


@pytest.fixture
def git(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    answers = dict(ANSWERS)
    monkeypatch.setattr("tasks.versions._git", lambda command, *_: answers[command])
    return answers


def test_a_clean_checkout_is_its_commit(git: dict[str, str]) -> None:
    assert code_version() == "0123456789ab"
    require_release()


def test_a_changed_checkout_is_marked_and_can_be_refused(git: dict[str, str]) -> None:
    git["status"] = " M tasks/train.py\n M flows/train.py"
    assert code_version() == "0123456789ab+"
    with pytest.raises(ConfigError, match=r"2 files of the checkout differ from commit 0123456789ab\+"):
        require_release()


def test_an_installed_package_is_its_version(git: dict[str, str]) -> None:
    git["rev-parse"] = ""
    assert code_version() == "0.1.0"
