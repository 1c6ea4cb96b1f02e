"""Pictures of what a reader sees: the report of the demo, and a prediction in OHIF."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import hippocampus_lab
import numpy as np
from chromium import chromium, in_network
from dicom_network import Orthanc
from numpy.typing import NDArray
from ohif import SETTINGS, open_prediction, viewer
from predicted_lab import DOUBT, a_model, predict

from tasks.dicom.case import case_id_of
from tasks.ingest import take_delivery
from tasks.ledger.files import replace_symlink
from tasks.ledger.paths import DatasetPaths
from tasks.report import write_report
from tasks.review.scores import dice
from tasks.review.simulated_reader import with_errors
from tasks.settings.dataset import load_dataset_settings
from tasks.state import state_at

CHECKOUT = Path(__file__).parents[2]
DEMO = "demo_hippocampus"
WAITING = 6
STRUCTURES = ("Anterior", "Posterior")
PHONE, SCREEN = (390, 844), (1100, 900)


def take_report(pictures: Path) -> None:
    """The learning curve of `make demo`, which is run where it has not been."""
    report = DatasetPaths(CHECKOUT, DEMO).report
    if not report.is_file():
        # Whoever takes the ward's pictures before has set a home that is gone.
        own = {**os.environ, "ITERSEG_HOME": str(CHECKOUT)}
        subprocess.run([sys.executable, str(CHECKOUT / "data" / "examples" / "demo.py")], env=own, check=True)
    _take_part(report, "learning", SCREEN, pictures / "report.png")


def take_ward(pictures: Path, folder: Path) -> None:
    """Hippocampi that wait, with outlines that are a little off: the worklist, a phone, OHIF."""
    paths = _ward(folder)
    with Orthanc(folder / "orthanc") as orthanc:
        orthanc.iterseg(paths.home, "send", "D")
        first, *_ = orthanc.iterseg(paths.home, "worklist", "D")["worklist"]
        browser = in_network(folder, orthanc.inside)
        with viewer(orthanc), chromium(1400, 900, browser) as page:
            open_prediction(page, first["viewer"], STRUCTURES[0], slices=15)
            page.wait_for_timeout(1_000)
            page.screenshot(path=pictures / "viewer.png")
            print("docs/pictures/viewer.png")
    write_report.fn("D")
    _take_part(paths.report, "worklist", SCREEN, pictures / "worklist.png")
    _take_part(paths.report, "predictions", PHONE, pictures / "phone.png")


def _ward(folder: Path) -> DatasetPaths:
    home = folder / "home"
    (home / "config").mkdir(parents=True)
    (home / "config" / "roi_D.yaml").write_text("".join(f"{name}: {name}\n" for name in STRUCTURES))
    (home / "config" / "dataset_D.yaml").write_text(SETTINGS.replace("CT,", "MR,"))
    (folder / "orthanc").mkdir()
    os.environ["ITERSEG_HOME"] = str(home)
    paths, truth = DatasetPaths.of("D"), {}
    for number in range(WAITING):
        series = hippocampus_lab.series_of(number, folder / "scans" / f"{number}")
        labels = hippocampus_lab.scan(number)[1]
        truth[case_id_of(series.uids["series"])] = {
            name: labels == value for value, name in enumerate(STRUCTURES, start=1)
        }
    take_delivery.fn("D", folder / "scans", date(2026, 11, 20))
    model = a_model(paths, list(STRUCTURES))
    (paths.home / model.folder).mkdir(parents=True)
    replace_symlink(paths.latest, paths.home / model.folder)
    settings = load_dataset_settings(paths.config, "D")
    for number, case in enumerate(state_at(paths, settings)[0].images, start=1):
        one, other = (with_errors(truth[case.case_id], (1, 1, 1), number / 3, seed) for seed in (1, 2))
        agreed = {name: dice(one[name], other[name]) for name in STRUCTURES}
        disputed = np.argsort(
            [-np.count_nonzero(a ^ b) for a, b in zip(*map(_all, (one, other)), strict=True)]
        )
        doubt = {**DOUBT, "fold_dice": agreed, "slices": [(int(k), 1.0) for k in disputed[:3]]}
        predict(paths, model, one, case, doubt)
    return paths


def _all(masks: dict[str, NDArray[np.bool_]]) -> NDArray[np.bool_]:
    return np.logical_or.reduce(list(masks.values()))


def _take_part(report: Path, part: str, size: tuple[int, int], target: Path) -> None:
    with chromium(*size) as page:
        page.goto(f"{report.as_uri()}#{part}")
        page.wait_for_timeout(1_000)
        page.screenshot(path=target)
        print(f"docs/pictures/{target.name}")
