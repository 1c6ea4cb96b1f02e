"""Take the pictures of docs/: a real night on a real Slurm, looked at in a real browser.

make pictures
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest
from chromium import chromium
from night_lab import CHECKOUT, Night
from pictures_of_review import take_report, take_ward
from playwright.sync_api import Page
from private_slurm import PrivateSlurm, require_slurm
from slurm_lab import new_lab
from tests_support import PrefectServer, wait_until

PICTURES = CHECKOUT / "docs" / "pictures"
EPOCHS = 60


def main() -> int:
    """Run a night, and look at it while it trains and afterwards."""
    try:
        require_slurm()
    except pytest.skip.Exception as reason:
        print(reason)
        return 1
    PICTURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pictures") as name, PrivateSlurm(nodes=2) as slurm:
        folder = Path(name)
        (folder / "prefect").mkdir()
        with PrefectServer(folder / "prefect") as server, chromium() as page:
            lab = new_lab(folder / "home", slurm, server, epochs=EPOCHS)
            night = Night(lab, folder)
            night.deploy()
            with night.worker():
                _look(night, page)
    with tempfile.TemporaryDirectory(prefix="pictures") as name:
        take_ward(PICTURES, Path(name))
    take_report(PICTURES)
    return 0


def _look(night: Night, page: Page) -> None:
    ui = night.lab.server.api_url.removesuffix("/api")
    run = night.ask("iterate/nightly", dataset_id="D", cluster="slurm")
    wait_until(lambda: len(night.lab.folds_that_run()) == 2, 180)
    wait_until(lambda: bool(_fold_in_progress(night)), 60)
    page.goto(f"{ui}/runs/task-run/{_fold_in_progress(night)}")
    page.get_by_role("tab", name="Artifacts").or_(page.get_by_text("Artifacts", exact=True)).first.click()
    _take(page, "pseudo Dice", "fold")
    (jobs, *_) = night.lab.server.post("/artifacts/filter", {"artifacts": {"key": {"any_": ["jobs-d"]}}})
    page.goto(f"{ui}/artifacts/artifact/{jobs['id']}")
    _take(page, "iterseg", "jobs")
    assert night.ended(run, 300) == ("COMPLETED", "Completed"), night.state(run)
    page.goto(f"{ui}/runs/flow-run/{run}")
    _take(page, "Completed", "night")
    page.goto(f"{ui}/deployments")
    _take(page, "nightly", "deployments")


def _fold_in_progress(night: Night) -> str | None:
    """The task run of fold 0, once its progress is shown."""
    artifacts = night.lab.server.post("/artifacts/filter", {"artifacts": {"key": {"any_": ["fold-0-d"]}}})
    return next((str(a["task_run_id"]) for a in artifacts if "pseudo Dice" in (a["description"] or "")), None)


def _take(page: Page, shows: str, name: str) -> None:
    """A picture of a page once it shows what it is about."""
    page.get_by_text(shows).first.wait_for(timeout=30_000)
    page.wait_for_timeout(2_000)  # graphs unfold
    page.screenshot(path=PICTURES / f"{name}.png")
    print(f"docs/pictures/{name}.png")


if __name__ == "__main__":
    sys.exit(main())
