"""What was prepared is trained as long as it would be prepared like this again."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from predicted_lab import a_model

from tasks.errors import UserDataError
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.withdrawals import add_withdrawal
from tasks.train import require_current


def iteration(parent: str | None) -> Any:
    cases = [{"case_id": f"case{n}", "patient": f"p{n}"} for n in range(3)]
    return SimpleNamespace(name="2026-11-21__D", lineage=1, parent=parent, cases=cases)


@pytest.mark.parametrize(
    ("parent", "withdrawn", "words"),
    [
        ("2026-11-20", [], None),
        ("2026-11-20", ["case9"], None),
        ("2026-11-20", ["case1"], "1 of its cases were withdrawn"),
        ("2026-11-19", [], "another model is in use"),
        (None, [], "another model is in use"),
    ],
)
def test_what_was_prepared_before_a_withdrawal_or_a_rollback_is_prepared_again(
    home: Path, parent: str | None, withdrawn: list[str], words: str | None
) -> None:
    paths = DatasetPaths.of("D")
    a_model(paths, ["GTV"])
    add_withdrawal(paths.withdrawals, date(2026, 11, 22), withdrawn)
    if words is None:
        require_current(paths, iteration(parent))
        return
    with pytest.raises(UserDataError, match=f"{words}; run `iterseg prepare D` first"):
        require_current(paths, iteration(parent))
