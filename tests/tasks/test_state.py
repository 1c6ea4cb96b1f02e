"""Which datasets there are."""

from __future__ import annotations

from pathlib import Path

import pytest
from predicted_lab import a_model

from tasks.errors import ConfigError
from tasks.ledger.inbox import Inbox
from tasks.ledger.models import save_model
from tasks.ledger.paths import DatasetPaths
from tasks.state import require_dataset, require_known


@pytest.mark.parametrize(
    "begun", ["by a delivery", "by a model from elsewhere", "by what waits", "not at all"]
)
def test_a_dataset_is_known_before_its_first_delivery_is_taken(home: Path, begun: str) -> None:
    """Whoever was only predicted can be withdrawn, and what was received without an ingest be ingested."""
    paths = DatasetPaths.of("D")
    if begun == "by a delivery":
        (paths.rawdata / "2026-11-20__D").mkdir(parents=True)
    elif begun == "by a model from elsewhere":
        save_model(paths, a_model(paths, ["GTV"]))
    elif begun == "by what waits":
        inbox = Inbox(paths.inbox)
        inbox.begin("store-1", "case1")
        inbox.put("case1", "1.dcm", b"x")
    if begun == "by a delivery":
        require_dataset(paths)
    else:
        with pytest.raises(ConfigError, match="there is no dataset 'D'"):
            require_dataset(paths)
    if begun == "not at all":
        with pytest.raises(ConfigError, match="there is no dataset 'D'"):
            require_known(paths)
    else:
        require_known(paths)
