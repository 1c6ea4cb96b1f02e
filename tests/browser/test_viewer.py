"""A reader's evening: a prediction is opened in OHIF, corrected, saved, and the next ingest knows it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from apt_packages import require_packages
from chromium import chromium, in_network
from dicom_factory import ball
from dicom_network import ACCESS, Orthanc
from playwright.sync_api import Page
from predicted_lab import predicted
from tests_support import MORTAL, wait_until

from tasks.ledger.refinements import load_refinements

CHECKOUT = Path(__file__).parents[2]
VIEWER = CHECKOUT / "deployments" / "viewer"
PORT = 3000  # in a network of its own
SHAPE = (12, 61, 63)
"""A slice is no multiple of 8 pixels: frames of one bit a pixel then begin within a byte."""
SETTINGS = f"""
arrival_quiet_s: 0
modalities: CT,SEG,RTSTRUCT
send_to: [{{name: viewer, dicomweb: "{Orthanc.DICOMWEB}", images: true}}]
review: {{viewer: "http://127.0.0.1:{PORT}/segmentation?StudyInstanceUIDs={{study}}"}}
"""


@contextmanager
def viewer(orthanc: Orthanc) -> Iterator[None]:
    """What `make viewer` starts, in Orthanc's network."""
    require_packages("npm, which fetches OHIF,", ["npm"], program="npm")
    fetched = subprocess.run(["bash", str(VIEWER / "fetch.sh")], capture_output=True, text=True, check=False)
    if fetched.returncode != 0:
        pytest.skip(f"OHIF cannot be fetched: {fetched.stderr.strip()[-200:]}")
    env = {**os.environ, **ACCESS, "ITERSEG_DICOMWEB": Orthanc.DICOMWEB, "PORT": str(PORT)}
    command = orthanc.inside(*MORTAL, sys.executable, str(VIEWER / "serve.py"))
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
    try:
        answers = orthanc.inside("curl", "-sf", "-o", os.devnull, f"http://127.0.0.1:{PORT}/app-config.js")
        wait_until(lambda: subprocess.run(answers, check=False).returncode == 0, 30)
        yield
    finally:
        process.terminate()
        process.wait(30)


def correct(page: Page, link: str) -> None:
    """Open the image with its prediction, brush on a slice, and save."""
    page.goto(link)
    page.get_by_label("Data Overlay").click(timeout=60_000)
    page.get_by_text("Segmentation", exact=True).click()
    page.get_by_text("SELECT A SEGMENTATION").click()
    page.get_by_role("option").filter(has_text="SEG").first.click()
    page.get_by_text("node", exact=True).wait_for(timeout=60_000)
    page.keyboard.press("Escape")
    pane = page.locator('[data-cy="viewport-pane"]').bounding_box()
    assert pane is not None
    x, y = pane["x"] + pane["width"] / 2, pane["y"] + pane["height"] / 2
    page.mouse.move(x, y)
    for _ in range(5):
        page.mouse.wheel(0, 120)
        page.wait_for_timeout(200)
    page.locator('[data-cy="Brush-btn"]').click()
    page.locator("input").last.fill("3")  # the radius, mm
    page.locator("input").last.press("Enter")
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 40, y + 10, steps=5)
    page.mouse.up()
    page.wait_for_timeout(1_000)
    page.locator('[data-cy="segmentation-collapsed-more-btn-Labelmap"]').click()
    page.get_by_role("menuitem").filter(has_text="Export").hover()
    page.keyboard.press("ArrowRight")
    page.get_by_role("menuitem").filter(has_text="DICOM SEG").first.click()
    page.get_by_role("dialog").get_by_text("Save", exact=True).click()


@pytest.mark.timeout(400)
def test_a_prediction_is_corrected_in_the_viewer(home: Path, tmp_path: Path, orthanc: Orthanc) -> None:
    (home / "config" / "dataset_D.yaml").write_text(SETTINGS)
    masks = {"GTV": ball(SHAPE, (6, 20, 20), 8), "node": ball(SHAPE, (6, 42, 44), 6)}
    lab = predicted(home, tmp_path, masks)
    sent = orthanc.iterseg(home, "send", "D")["sent"]["viewer"]
    assert (sent["sent"], sent["known"]) == (1, 0)
    assert orthanc.iterseg(home, "send", "D")["sent"]["viewer"]["known"] == 1
    (row,) = orthanc.iterseg(home, "worklist", "D")["worklist"]

    def in_pacs() -> list[str]:
        series = orthanc.request("GET", "/series?expand")
        return sorted(one["MainDicomTags"]["Modality"] for one in series)

    assert in_pacs() == ["CT", "RTSTRUCT", "SEG"]
    with viewer(orthanc), chromium(1400, 900, in_network(tmp_path, orthanc.inside)) as page:
        correct(page, row["viewer"])
        wait_until(lambda: in_pacs() == ["CT", "RTSTRUCT", "SEG", "SEG"], 60)

    fetched = orthanc.iterseg(home, "ingest", "D", "--dicomweb", Orthanc.DICOMWEB, "--keep-identities")
    assert fetched["refinements"] == {"edited": 1}, fetched
    (refinement,) = load_refinements(lab.paths.refinements).values()
    assert (refinement.model, refinement.evidence) == (lab.model.model_id, "overlap")
    cost = refinement.effort
    assert cost["node"]["unedited"] or cost["GTV"]["unedited"], "one was brushed, the other not touched"
    assert sum(figures["edited_slices"] for figures in cost.values()) == 1
    assert np.isfinite(max(figures["added_path_length_mm"] for figures in cost.values()))
    assert fetched["totals"]["done"] == 1
