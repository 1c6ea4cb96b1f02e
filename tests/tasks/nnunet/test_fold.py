"""A fold that is finished is not done again, as long as it would come out the same."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tasks.ledger.files import write_json
from tasks.nnunet.fold import FoldJob, read_result


@pytest.fixture
def job() -> FoldJob:
    choices = {"epochs": 3, "mirroring": False, "checkpoint_every_s": 60}
    return FoldJob("D", "p", "3d_fullres", 0, "cpu", choices, "d")


@pytest.mark.parametrize(
    ("changed", "kept"),
    [
        ({}, True),
        ({"checkpoint_every_s": 1}, True),
        ({"epochs": 4}, False),
        ({"mirroring": True}, False),  # it is validated again, the other way
    ],
)
def test_what_would_come_out_otherwise_is_done_again(
    job: FoldJob, tmp_path: Path, changed: dict[str, object], kept: bool
) -> None:
    write_json(tmp_path / "fold.json", {"job": asdict(job), "validation_dice": {}})
    now = replace(job, choices={**job.choices, **changed})
    assert (read_result(tmp_path / "fold.json", now) is not None) is kept
