"""What was prepared is trained as long as it would be prepared like this again."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import SimpleITK as sitk
from predicted_lab import a_model

from tasks.copies import fingerprint
from tasks.errors import UserDataError
from tasks.ledger.images import write_image
from tasks.ledger.paths import DatasetPaths, IterationPaths
from tasks.ledger.store import Store
from tasks.ledger.withdrawals import add_withdrawal
from tasks.nnunet.fold import LATE
from tasks.processes.program import THREADS, on_threads
from tasks.settings.dataset import DatasetSettings
from tasks.train import fold_environment, require_current


def iteration(parent: str | None) -> Any:
    cases = [{"case_id": f"case{n}", "patient": f"p{n}", "image_key": "i"} for n in range(3)]
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


def test_a_withdrawn_patients_scan_is_not_trained_on_under_another_name(home: Path) -> None:
    paths = DatasetPaths.of("D")
    a_model(paths, ["GTV"])
    image = Store(paths.store).image("case1", "i")
    write_image(sitk.Image(4, 3, 2, sitk.sitkInt16), image)
    add_withdrawal(paths.withdrawals, date(2026, 11, 22), ["case9"], "p9", [fingerprint(image)])
    with pytest.raises(UserDataError, match="1 of its cases were withdrawn"):
        require_current(paths, iteration("2026-11-20"))


def test_a_training_that_was_begun_early_takes_any_fold_of_its_job() -> None:
    """All but the number of threads, which the job is given, comes with the fold."""
    told = fold_environment(3, DatasetSettings(), [1.0])
    folders = IterationPaths(Path("x")).environment()
    assert {*told, *folders} - set(LATE) == set(on_threads(3))
    assert {told[name] for name in THREADS} == {"3"}
