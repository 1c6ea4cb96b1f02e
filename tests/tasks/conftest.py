from __future__ import annotations

from pathlib import Path

import pytest
from coming_back import MASKS
from predicted_lab import Predicted, predicted


@pytest.fixture
def lab(home: Path, tmp_path: Path) -> Predicted:
    """An image that a model has predicted, handed out as SEG and as RTSTRUCT."""
    (home / "config" / "dataset_D.yaml").write_text("arrival_quiet_s: 0\nmodalities: CT,SEG,RTSTRUCT\n")
    return predicted(home, tmp_path, MASKS)
