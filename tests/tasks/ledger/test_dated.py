"""Folders of a day: named as the original scripts named them, in the order in which they came."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.ledger.dated import DatedName, dated_folders


@pytest.mark.parametrize(
    ("name", "short"),
    [("2026-11-23__PM_IASLC", "2026-11-23"), ("2026-11-23.2__PM_IASLC", "2026-11-23.2")],
)
def test_names_are_read_and_written_alike(name: str, short: str) -> None:
    parsed = DatedName.parse(name, "PM_IASLC")
    assert parsed is not None
    assert (str(parsed), parsed.short) == (name, short)


@pytest.mark.parametrize(
    "name",
    [
        "2026-11-23__OTHER",
        "2026-13-01__PM_IASLC",
        "store",
        "2026-11-23",
        "2026-11-23.1__PM_IASLC",  # would be a second folder of one name
        "2026-11-23.0__PM_IASLC",
        "2026-11-23.02__PM_IASLC",
    ],
)
def test_other_names_are_none(name: str) -> None:
    assert DatedName.parse(name, "PM_IASLC") is None


def test_the_second_of_a_day_comes_after_the_first(tmp_path: Path) -> None:
    names = ["2026-11-23.10__D", "2026-11-24__D", "2026-11-23__D", "2026-11-23.2__D"]
    for name in names:
        (tmp_path / name).mkdir()
    assert [n.short for n in dated_folders(tmp_path, "D")] == [
        "2026-11-23",
        "2026-11-23.2",
        "2026-11-23.10",
        "2026-11-24",
    ]
