"""The seed's layout, made exact."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.errors import ConfigError
from tasks.ledger.paths import DatasetPaths


@pytest.mark.parametrize("dataset_id", ["../x", "a/b", "", "-x", "a b", "x" * 65])
def test_an_id_that_is_no_folder_name_is_refused(home: Path, dataset_id: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a dataset id"):
        DatasetPaths.of(dataset_id)
