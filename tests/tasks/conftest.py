from __future__ import annotations

from pathlib import Path

import pytest
from coming_back import MASKS
from dicom_factory import Series, write_series
from predicted_lab import Predicted, predicted
from receiving import with_recipe

from tasks.ledger.paths import DatasetPaths


@pytest.fixture
def lab(home: Path, tmp_path: Path) -> Predicted:
    """An image that a model has predicted, handed out as SEG and as RTSTRUCT."""
    (home / "config" / "dataset_D.yaml").write_text("arrival_quiet_s: 0\nmodalities: CT,SEG,RTSTRUCT\n")
    return predicted(home, tmp_path, MASKS)


@pytest.fixture
def paths(home: Path) -> DatasetPaths:
    """A dataset of which identities can be removed, as of all that is received; some files have their own."""
    return with_recipe(home)


@pytest.fixture
def series(tmp_path: Path) -> Series:
    """A CT of somebody with an identity that must not stay."""
    return write_series(tmp_path / "ct", (6, 20, 24), patient="XYZZY-0815")
