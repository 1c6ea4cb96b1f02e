"""What the tests of this room share."""

from __future__ import annotations

from pathlib import Path

import pytest
from dicom_factory import (
    Series,
    write_series,
)
from planted import SHAPE, plant

from tasks.ledger.pseudonyms import Pseudonyms


@pytest.fixture
def pseudonyms(tmp_path: Path) -> Pseudonyms:
    return Pseudonyms(tmp_path / "patient.key", first=True)


@pytest.fixture
def series(tmp_path: Path) -> Series:
    return write_series(tmp_path / "ct", SHAPE, change=plant)
