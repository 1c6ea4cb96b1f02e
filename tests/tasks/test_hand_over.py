"""When a prediction says that it was made."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from coming_back import MASKS
from dicom_factory import edit, write_series
from predicted_lab import Predicted, a_model, predicted
from pydicom.dataset import Dataset

from tasks.hand_over import _written
from tasks.ledger.paths import DatasetPaths


@pytest.fixture(params=["Europe/Berlin", "America/Los_Angeles"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("image", "berlin", "los_angeles"),
    [
        ({}, "2026-11-20 21:00:00", "2026-11-20 12:00:00"),
        ({"SeriesDate": "20191231"}, "2026-11-20 21:00:00", "2026-11-20 12:00:00"),
        ({"SeriesDate": "20261210", "SeriesTime": "101500"}, *["2026-12-10 10:15:00"] * 2),
        ({"StudyDate": "2026.12.10", "StudyTime": "10:15:00"}, *["2026-12-10 10:15:00"] * 2),
        ({"ContentDate": "20261210"}, *["2026-12-10 00:00:00"] * 2),
        ({"ContentDate": "00000000", "ContentTime": "x"}, "2026-11-20 21:00:00", "2026-11-20 12:00:00"),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_it_is_in_local_time_and_not_older_than_its_image(
    home: Path, tmp_path: Path, zone: str, image: dict[str, str], berlin: str, los_angeles: str
) -> None:
    def change(ds: Dataset) -> None:
        for keyword in ("StudyDate", "SeriesDate", "ContentDate", "AcquisitionDate"):
            setattr(ds, keyword, "")
        for keyword, value in image.items():
            setattr(ds, keyword, value)

    file = edit(write_series(tmp_path / "ct", (3, 20, 24)).files[0], change)
    model = a_model(DatasetPaths.of("D"), ["GTV"])  # of 20:00 UTC
    assert str(_written(model, file)) == (berlin if "Berlin" in zone else los_angeles)


def test_both_objects_say_the_same(home: Path, tmp_path: Path) -> None:
    (home / "config" / "dataset_D.yaml").write_text("arrival_quiet_s: 0\nmodalities: CT,SEG,RTSTRUCT\n")
    lab: Predicted = predicted(home, tmp_path, MASKS)
    made = _written(lab.model, lab.series.files[0])
    seg, rtstruct = (pydicom.dcmread(lab.object(kind)) for kind in ("seg", "rtstruct"))
    assert (seg.ContentDate, seg.ContentTime) == (f"{made:%Y%m%d}", f"{made:%H%M%S}")
    assert (rtstruct.StructureSetDate, rtstruct.StructureSetTime) == (seg.ContentDate, seg.ContentTime)
