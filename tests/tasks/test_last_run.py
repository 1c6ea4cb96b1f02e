"""What makes the next run do something, and that nothing else does."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
from dicom_factory import write_series

from tasks.ingest import seal_by_hand, take_delivery
from tasks.last_run import inputs_of, nothing_new, remember_run
from tasks.ledger.inbox import Inbox
from tasks.ledger.marks import Mark, note_marks
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.refinements import Refinement, note_refinements
from tasks.ledger.snapshots import make_writable
from tasks.ledger.withdrawals import add_withdrawal

SHAPE = (6, 20, 24)
ACCEPTED = Refinement("case1", "unedited", "instance", "1.2", "m", True, "2026-11-21__D")


@pytest.fixture
def paths(home: Path, tmp_path: Path) -> DatasetPaths:
    paths = DatasetPaths.of("D")
    write_series(paths.rawdata / "2026-11-20__D" / "ct", SHAPE)
    seal_by_hand.fn("D")
    paths.report.parent.mkdir(parents=True, exist_ok=True)
    paths.report.write_text("page")
    predictions = paths.predictions("m")
    predictions.mkdir(parents=True)
    (predictions / "case1.seg.dcm").write_bytes(b"x")
    remember_run.fn("D", inputs_of(paths))
    return paths


def test_nothing_is_new_right_after_a_run(paths: DatasetPaths) -> None:
    assert nothing_new.fn("D")
    assert nothing_new.fn("D")


def _delivered(paths: DatasetPaths) -> None:
    write_series(paths.home / "in", SHAPE, name="other")
    take_delivery.fn("D", paths.home / "in", date(2026, 11, 21))


def _put_into_a_sealed_folder(paths: DatasetPaths) -> None:
    folder = paths.rawdata / "2026-11-20__D"
    make_writable(folder)
    write_series(folder / "later", SHAPE, name="later")


@pytest.mark.parametrize(
    "change",
    [
        _delivered,
        _put_into_a_sealed_folder,
        lambda paths: (paths.rawdata / "2026-11-22__D").mkdir(),
        lambda paths: Inbox(paths.inbox).put("case1", "1.dcm", b"x"),
        lambda paths: (paths.config / "roi_D.yaml").write_text("GTV: GTV"),
        lambda paths: (paths.config / "dataset_D.yaml").write_text("folds: 3"),
        lambda paths: add_withdrawal(paths.withdrawals, date(2026, 11, 21), ["case1"]),
        lambda paths: (paths.predictions("m") / "case1.seg.dcm").unlink(),
        lambda paths: note_refinements(paths.refinements, {"uid": ACCEPTED}),
        lambda paths: note_marks(paths.marks, {"case1": Mark(locked=True)}),
        lambda paths: paths.report.unlink(),
        lambda paths: paths.latest.symlink_to("elsewhere"),
    ],
)
def test_whatever_decides_a_run_makes_it_run(
    paths: DatasetPaths, change: Callable[[DatasetPaths], object]
) -> None:
    change(paths)
    assert not nothing_new.fn("D")


def test_other_code_makes_it_run(paths: DatasetPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.last_run.versions", lambda: {"iterseg": "99"})
    assert not nothing_new.fn("D")


def test_a_run_into_which_something_came_is_not_remembered(paths: DatasetPaths) -> None:
    before = inputs_of(paths)
    _delivered(paths)
    remember_run.fn("D", before)
    assert not nothing_new.fn("D")
