"""Pages as people see them: the report on a phone and on a screen, Prefect's UI from wherever it is asked."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import readers
from chromium import chromium
from dicom_factory import ball, write_series
from playwright.sync_api import Page
from predicted_lab import DAY, Predicted, predict, predicted
from tests_support import MORTAL, wait_until

from tasks.ingest import take_delivery
from tasks.processes.embedded_server import free_port
from tasks.refine import recognise_refinements
from tasks.report import write_report
from tasks.settings.dataset import load_dataset_settings
from tasks.state import state_at
from tasks.worklist import mark_cases, write_worklist

CHECKOUT = Path(__file__).parents[2]
SHAPE = (10, 40, 44)
MASKS = {"GTV": ball(SHAPE, (5, 16, 16), 7), "node": ball(SHAPE, (5, 30, 32), 5)}


@pytest.fixture
def lab(home: Path, tmp_path: Path) -> Predicted:
    """Two images are predicted, one of which has come back, and a third waits."""
    (home / "config" / "dataset_D.yaml").write_text("arrival_quiet_s: 0\nmodalities: CT,SEG,RTSTRUCT\n")
    lab = predicted(home, tmp_path, MASKS)
    for name in ("second", "third"):
        write_series(tmp_path / "more" / name, SHAPE, name=name, patient=name)
    take_delivery.fn("D", tmp_path / "more", DAY)
    settings = load_dataset_settings(lab.paths.config, "D")
    waiting = {case.case_id: case for case in state_at(lab.paths, settings)[0].images}
    del waiting[lab.record["case_id"]]
    second, third = sorted(waiting)
    predict(lab.paths, lab.model, MASKS, waiting[second])
    mark_cases(lab.paths, {third: {"flagged": True}})
    edited = {"GTV": MASKS["GTV"] | ball(SHAPE, (5, 18, 22), 3), "node": MASKS["node"]}
    edited["node"] = edited["node"] & ~edited["GTV"]
    readers.ohif_seg(tmp_path / "back" / "x.dcm", lab.series.files, edited)
    take_delivery.fn("D", tmp_path / "back", DAY)
    assert recognise_refinements.fn("D") == {"edited": 1}
    write_worklist.fn("D")
    write_report.fn("D")
    return lab


@pytest.fixture(params=[(390, 844), (1280, 900)], ids=["phone", "screen"])
def page(request: Any) -> Iterator[Page]:
    with chromium(*request.param) as page:
        yield page


def test_the_report_reads_well_and_asks_nobody(lab: Predicted, page: Page, tmp_path: Path) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.goto(lab.paths.report.as_uri())
    page.screenshot(path=tmp_path / "report.png", full_page=True)
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert complaints == []
    width: int = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert width <= 0, "the page itself does not scroll sideways; tables do, in their own frame"
    for picture in page.locator("img").all():
        picture.scroll_into_view_if_needed()
        assert picture.evaluate("p => p.decode().then(() => p.naturalWidth)") > 50
    text = page.locator("body").inner_text()
    for words in (
        "Worklist",
        "2 images wait",
        "flagged",
        "not predicted yet",
        "corrections",
        "Added path length",
    ):
        assert words in text
    svg = page.locator("svg").first.bounding_box()
    assert svg is not None
    assert svg["width"] > 300
    page.get_by_role("link", name="Predictions", exact=True).click()
    assert page.locator("#predictions").is_visible()


def test_prefects_ui_asks_the_server_that_it_came_from(tmp_path: Path) -> None:
    """Its own default is the address that the server listens on: 0.0.0.0 is nobody's."""
    port = free_port()
    env = {**os.environ, "PORT": str(port), "VENV": sys.prefix}
    env |= {"PREFECT_HOME": str(tmp_path), "HOST": "127.0.0.1"}
    with (tmp_path / "log").open("wb") as log:
        command = [*MORTAL, "bash", str(CHECKOUT / "deployments" / "server.sh")]
        server = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    try:
        wait_until(lambda: _answers(f"http://127.0.0.1:{port}/api/health"), 60)
        with chromium() as page:
            answered: list[tuple[str, int]] = []
            page.on("response", lambda answer: answered.append((answer.url, answer.status)))
            page.goto(f"http://localhost:{port}/deployments")
            page.get_by_text("Deployments").first.wait_for(timeout=30_000)
            page.wait_for_timeout(2_000)
            asked = [(url, status) for url, status in answered if "/api/" in url]
            assert asked
            assert [answer for answer in asked if answer[1] >= 400] == [], "though others' pages are kept out"
            assert {url.split("/")[2] for url, _ in answered} == {f"localhost:{port}"}
            # A page asks for whatever it likes; the browser lets it ask this server alone.
            elsewhere = "fetch('http://127.0.0.1:9/').then(() => 'asked', error => error.message)"
            told: list[str] = []
            page.on("console", lambda message: told.append(message.text))
            page.evaluate(elsewhere)
            assert any("Content Security Policy" in text for text in told)
    finally:
        server.terminate()
        server.wait(30)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except OSError:
        return False
