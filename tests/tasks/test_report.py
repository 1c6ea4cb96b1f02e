"""The page stays one that a browser opens, however many images wait."""

from __future__ import annotations

from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from dicom_factory import ball, write_series
from predicted_lab import DAY, predict, predicted

import tasks.report
from tasks.ingest import take_delivery
from tasks.report import write_report
from tasks.settings import load_dataset_settings
from tasks.state import state_at

SHAPE = (6, 20, 24)
MASKS = {"GTV": ball(SHAPE, (3, 8, 8), 4)}


@pytest.mark.parametrize(("most", "pictured", "words"), [(500, 3, ""), (1, 1, "2 more, further down")])
def test_the_first_of_the_worklist_have_pictures(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, pictured: int, words: str
) -> None:
    lab = predicted(home, tmp_path, MASKS)
    for name in ("second", "third"):
        write_series(tmp_path / "more" / name, SHAPE, name=name, patient=name)
    take_delivery.fn("D", tmp_path / "more", DAY)
    for case in state_at(lab.paths, load_dataset_settings(lab.paths.config, "D"))[0].images:
        predict(lab.paths, lab.model, MASKS, case)
    monkeypatch.setattr(tasks.report, "MOST_PICTURES", most)
    page = BeautifulSoup(write_report.fn("D").read_text(), "html.parser")
    rows = [row["id"].removeprefix("w-") for row in page.select("tr[id^=w-]")]
    figures = [figure["id"].removeprefix("p-") for figure in page.select("figure[id^=p-]")]
    assert len(rows) == 3
    assert figures == rows[:pictured]
    assert (words in page.text) if words else ("further down" not in page.text)
