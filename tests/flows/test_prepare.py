"""What nodes have made is seen by the machine of the flow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows import prepare as flow
from tasks.conversion import CaseToConvert
from tasks.ledger.paths import DatasetPaths


def test_where_workers_have_written_is_looked_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over NFS it is believed for a minute that what was looked for before is not there."""
    looked: list[Path] = []
    for name, does in (
        ("look_again", looked.extend),
        ("_spread", lambda *_: [[]]),
        ("converted_at_once", lambda _: 1),
        ("to_preprocess", lambda *_: ([{"case_id": "case2"}], [])),
    ):
        monkeypatch.setattr(flow, name, does)
    paths = DatasetPaths.of("D")
    nothing: Any = None
    flow._convert(paths, [CaseToConvert("case1", [], "key")], nothing, nothing, nothing)
    assert looked == [paths.store, paths.store / "case1"]
    flow._preprocess(paths, nothing, nothing)
    assert looked[2:] == [paths.store / "case2"]
