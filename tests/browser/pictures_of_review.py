"""Pictures of what a reader sees: the report of the demo, and a prediction in OHIF."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import hippocampus_lab
from chromium import chromium, in_network
from dicom_network import Orthanc
from playwright.sync_api import Page
from predicted_lab import a_model, predict
from test_viewer import SETTINGS, viewer

from tasks.dicom.cases import case_id_of
from tasks.ingest import take_delivery
from tasks.ledger.files import replace_symlink
from tasks.ledger.paths import DatasetPaths
from tasks.review.simulated_reader import with_errors
from tasks.settings import load_dataset_settings
from tasks.state import state_at

CHECKOUT = Path(__file__).parents[2]
DEMO = "demo_hippocampus"
STRUCTURES = ("Anterior", "Posterior")
PHONE, SCREEN = (390, 844), (1100, 900)


def take_report(pictures: Path) -> None:
    """The report of `make demo`, which is run where it has not been."""
    report = DatasetPaths(CHECKOUT, DEMO).report
    if not report.is_file():
        subprocess.run([sys.executable, str(CHECKOUT / "data" / "examples" / "demo.py")], check=True)
    parts = {
        "report": (SCREEN, "learning"),
        "worklist": (SCREEN, "worklist"),
        "phone": (PHONE, "predictions"),
    }
    for name, (size, part) in parts.items():
        with chromium(*size) as page:
            page.goto(f"{report.as_uri()}#{part}")
            page.wait_for_timeout(1_000)
            page.screenshot(path=pictures / f"{name}.png")
            print(f"docs/pictures/{name}.png")


def take_viewer(pictures: Path, folder: Path) -> None:
    """A real hippocampus with outlines that are a little off, as a prediction's are."""
    home = folder / "home"
    (home / "config").mkdir(parents=True)
    (home / "config" / "roi_D.yaml").write_text("".join(f"{name}: {name}\n" for name in STRUCTURES))
    (home / "config" / "dataset_D.yaml").write_text(SETTINGS.replace("CT,", "MR,"))
    os.environ["ITERSEG_HOME"] = str(home)
    series = hippocampus_lab.series_of(0, folder / "scan")
    _, labels = hippocampus_lab.scan(0)
    truth = {name: labels == value for value, name in enumerate(STRUCTURES, start=1)}
    paths = DatasetPaths.of("D")
    take_delivery.fn("D", folder / "scan", date(2026, 11, 20))
    model = a_model(paths, list(STRUCTURES))
    (paths.home / model.folder).mkdir(parents=True)
    replace_symlink(paths.latest, paths.home / model.folder)
    (case,) = state_at(paths, load_dataset_settings(paths.config, "D"))[0].images
    assert case.case_id == case_id_of(series.uids["series"])
    predict(paths, model, with_errors(truth, (1.0, 1.0, 1.0), 1.0, seed=1), case)
    (folder / "orthanc").mkdir()
    with Orthanc(folder / "orthanc") as orthanc:
        orthanc.iterseg(home, "send", "D")
        (row,) = orthanc.iterseg(home, "worklist", "D")["worklist"]
        browser = in_network(folder, orthanc.inside)
        with viewer(orthanc), chromium(1400, 900, browser) as page:
            _open(page, row["viewer"])
            page.screenshot(path=pictures / "viewer.png")
            print("docs/pictures/viewer.png")


def _open(page: Page, link: str) -> None:
    """An image with its prediction, on a slice in the middle."""
    page.goto(link)
    page.get_by_label("Data Overlay").click(timeout=60_000)
    page.get_by_text("Segmentation", exact=True).click()
    page.get_by_text("SELECT A SEGMENTATION").click()
    page.get_by_role("option").filter(has_text="SEG").first.click()
    page.get_by_text(STRUCTURES[0], exact=True).first.wait_for(timeout=60_000)
    page.keyboard.press("Escape")
    pane = page.locator('[data-cy="viewport-pane"]').bounding_box()
    assert pane is not None
    page.mouse.move(pane["x"] + pane["width"] / 2, pane["y"] + pane["height"] / 2)
    for _ in range(15):
        page.mouse.wheel(0, 120)
        page.wait_for_timeout(150)
    page.wait_for_timeout(1_000)
