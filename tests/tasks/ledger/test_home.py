"""Which home a process works in."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.errors import ConfigError
from tasks.ledger.home import at_home, config_folder, home, is_a_lab


def test_home_must_exist(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ITERSEG_HOME", str(tmp_path / "absent"))
    with pytest.raises(ConfigError, match="which is no folder"):
        home()


def test_home_is_the_checkout_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ITERSEG_HOME", raising=False)
    assert (home() / "pyproject.toml").is_file()


def test_what_is_called_in_another_home_is_back_afterwards(home: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with at_home(tmp_path / "other"):
        assert config_folder() == tmp_path / "other" / "config"
    assert config_folder() == home / "config"


@pytest.mark.parametrize(
    ("where", "lab"),
    [("data/simulations/D/random-1", True), ("data/simulations/D", False), ("simulations", False)],
)
def test_the_home_of_a_simulated_lab_is_known_by_its_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, where: str, lab: bool
) -> None:
    (tmp_path / where).mkdir(parents=True)
    monkeypatch.setenv("ITERSEG_HOME", str(tmp_path / where))
    assert is_a_lab() is lab
