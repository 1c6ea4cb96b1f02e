"""A reader's evening: a prediction is opened in OHIF, corrected, saved, and the next ingest knows it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pydicom
import pytest
from chromium import chromium, in_network
from dicom_factory import ball
from dicom_network import Orthanc
from ohif import PATIENCE_MS, SETTINGS, frame_of, open_prediction, viewer
from playwright.sync_api import Page
from playwright.sync_api import TimeoutError as NotInTime
from predicted_lab import predicted
from tests_support import wait_until

from tasks.dicom.bits import close_gaps
from tasks.ledger.refinements import load_refinements

SHAPE = (12, 61, 63)
"""A slice is no multiple of 8 pixels: frames of one bit a pixel then begin within a byte."""


def correct(page: Page, link: str) -> None:
    """Open the image with its prediction, brush on a slice, and save."""
    x, y = open_prediction(page, link, "node", slices=5)
    page.locator('[data-cy="Brush-btn"]').click()
    page.locator("input").last.fill("3")  # the radius, mm
    page.locator("input").last.press("Enter")
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 40, y + 10, steps=5)
    page.mouse.up()
    page.wait_for_timeout(1_000)
    export(page)


def export(page: Page) -> None:
    """By a menu within a menu; on a busy machine it may close before the click."""
    save = page.get_by_role("dialog").get_by_text("Save", exact=True)
    for _ in range(3):
        page.locator('[data-cy="segmentation-collapsed-more-btn-Labelmap"]').click()
        page.get_by_role("menuitem").filter(has_text="Export").hover()
        page.keyboard.press("ArrowRight")
        page.get_by_role("menuitem").filter(has_text="DICOM SEG").first.click()
        with suppress(NotInTime):
            save.wait_for(timeout=10_000)
            break
        page.keyboard.press("Escape")
    save.click()
    save.wait_for(state="hidden")


@pytest.mark.timeout(800)
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
        wait_until(lambda: in_pacs() == ["CT", "RTSTRUCT", "SEG", "SEG"], 2 * PATIENCE_MS / 1000)
        fetched = orthanc.iterseg(home, "ingest", "D", "--dicomweb", Orthanc.DICOMWEB, "--keep-identities")
        (saved,) = lab.paths.rawdata.glob("*/SEG_*/*.dcm")
        for file in (lab.object("seg"), saved):  # it can be opened again
            seg = pydicom.dcmread(file)
            close_gaps(seg)
            for number, pixels in enumerate(seg.pixel_array, start=1):
                expected = np.packbits(pixels.ravel(), bitorder="little").tobytes()
                assert frame_of(orthanc, seg, number) == expected, number

    assert fetched["refinements"] == {"edited": 1}, fetched
    (refinement,) = load_refinements(lab.paths.refinements).values()
    assert (refinement.model, refinement.evidence) == (lab.model.model_id, "overlap")
    cost = refinement.effort
    assert cost["node"]["unedited"] or cost["GTV"]["unedited"], "one was brushed, the other not touched"
    assert sum(figures["edited_slices"] for figures in cost.values()) == 1
    assert np.isfinite(max(figures["added_path_length_mm"] for figures in cost.values()))
    assert fetched["totals"]["done"] == 1
    assert "No correction has come back yet" not in lab.paths.report.read_text(), "the page knows it at once"
    assert row["case_id"] not in lab.paths.worklist.read_text()
