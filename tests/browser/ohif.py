"""OHIF as `make viewer` serves it, on an Orthanc in a network of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from apt_packages import require_packages
from dicom_network import ACCESS, Orthanc
from playwright.sync_api import Page
from pydicom.dataset import Dataset
from tests_support import MORTAL, wait_until

CHECKOUT = Path(__file__).parents[2]
VIEWER = CHECKOUT / "deployments" / "viewer"
PORT = 3000  # in a network of its own
PATIENCE_MS = 90_000
"""It draws without a GPU here; beside other tests a click takes half a minute."""
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


def open_prediction(page: Page, link: str, structure: str, slices: int) -> tuple[float, float]:
    """Open an image with its prediction, some slices on; the middle of the picture on the page."""
    page.set_default_timeout(PATIENCE_MS)
    page.goto(link)
    page.get_by_label("Data Overlay").click()
    page.get_by_text("Segmentation", exact=True).click()
    page.get_by_text("SELECT A SEGMENTATION").click()
    # The case of the letters counts: the name of the RTSTRUCT, which may stand first, has "IterSeg" in it.
    page.get_by_role("option").filter(has_text=re.compile("SEG$")).first.click()
    page.get_by_text(structure, exact=True).first.wait_for()
    page.keyboard.press("Escape")
    pane = page.locator('[data-cy="viewport-pane"]').bounding_box()
    assert pane is not None
    x, y = pane["x"] + pane["width"] / 2, pane["y"] + pane["height"] / 2
    page.mouse.move(x, y)
    for _ in range(slices):
        page.mouse.wheel(0, 120)
        page.wait_for_timeout(200)
    return x, y


def frame_of(orthanc: Orthanc, seg: Dataset, number: int) -> bytes:
    """The pixels of a frame, from 1, as the viewer gets them."""
    names = {
        "studies": seg.StudyInstanceUID,
        "series": seg.SeriesInstanceUID,
        "instances": seg.SOPInstanceUID,
    }
    path = "/".join(f"{kind}/{uid}" for kind, uid in names.items())
    url = f"http://127.0.0.1:{PORT}/dicom-web/{path}/frames/{number}"
    answer = subprocess.run(orthanc.inside("curl", "-sf", url), capture_output=True, check=True).stdout
    content = answer.split(b"\r\n\r\n", 1)[1]
    return content[: content.rindex(b"\r\n--")]
