"""The seed's layout, made exact."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.errors import ConfigError
from tasks.ledger.paths import DatasetPaths, home


@pytest.mark.parametrize("dataset_id", ["../x", "a/b", "", "-x", "a b", "x" * 65])
def test_an_id_that_is_no_folder_name_is_refused(home: Path, dataset_id: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a dataset id"):
        DatasetPaths.of(dataset_id)


def test_home_must_exist(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ITERSEG_HOME", str(tmp_path / "absent"))
    with pytest.raises(ConfigError, match="which is no folder"):
        home()


def test_home_is_the_checkout_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ITERSEG_HOME", raising=False)
    assert (home() / "pyproject.toml").is_file()
