"""What a DICOMweb server has is fetched once, and again where a correction may have taken its place."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pydicom
import pytest
from coming_back import MASKS, by_hand, saved_in_place
from dicom_factory import edit, write_series
from predicted_lab import Predicted, predicted

from tasks.dicom.web import RemoteSeries
from tasks.errors import UserDataError
from tasks.ingest import take_inbox
from tasks.ledger.inbox import Inbox
from tasks.ledger.withdrawals import add_withdrawal
from tasks.refine import recognise_refinements
from tasks.retrieve import retrieve_series


class Server:
    """A DICOMweb server that has some files, each in a series of its own."""

    def __init__(self, *files: Path) -> None:
        self.files = files

    def series(self, _study: str | None = None) -> list[RemoteSeries]:
        headers = [pydicom.dcmread(file, stop_before_pixels=True) for file in self.files]
        return [RemoteSeries(h.StudyInstanceUID, h.SeriesInstanceUID, h.Modality) for h in headers]

    def instances(self, series: RemoteSeries) -> set[str]:
        return {str(pydicom.dcmread(file).SOPInstanceUID) for file in self._of(series)}

    def retrieve(self, series: RemoteSeries) -> Iterator[bytes]:
        return (file.read_bytes() for file in self._of(series))

    def _of(self, series: RemoteSeries) -> list[Path]:
        return [f for f in self.files if pydicom.dcmread(f).SeriesInstanceUID == series.series_instance_uid]


@pytest.fixture
def lab(home: Path, tmp_path: Path) -> Predicted:
    return predicted(home, tmp_path, MASKS)


@pytest.fixture
def fetch(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Fetch everything that a server has."""

    def run(*files: Path) -> dict[str, Any]:
        monkeypatch.setattr("tasks.retrieve.DicomWeb", lambda _url: Server(*files))
        return dict(retrieve_series.fn("D", "http://pacs", [], deidentify=False)["series"])

    return run


def test_a_correction_that_was_saved_in_the_place_of_a_prediction_is_fetched(
    lab: Predicted, fetch: Any, tmp_path: Path
) -> None:
    assert fetch(lab.object("seg")) == {"fetched": 1}
    report = take_inbox.fn("D", date(2026, 11, 23))
    assert report is not None and report["reasons"] == {"own-prediction": 1}
    assert fetch(lab.object("seg")) == {"known": 1}, "as it was"
    assert Inbox(lab.paths.inbox).all() == []
    corrected = saved_in_place(lab, tmp_path)
    assert fetch(corrected) == {"fetched": 1}
    assert take_inbox.fn("D", date(2026, 11, 24))["files"]["taken"] == 1  # type: ignore[index]
    assert recognise_refinements.fn("D") == {"edited": 1}
    assert fetch(corrected) == {"known": 1}


def test_a_drawing_that_was_mended_in_its_place_is_fetched_and_counts(
    lab: Predicted, fetch: Any, tmp_path: Path
) -> None:
    """Skipped as known, the old one would go on being the label, and nobody be told."""
    drawn = by_hand(lab, tmp_path)
    assert fetch(drawn) == {"fetched": 1}
    take_inbox.fn("D", date(2026, 11, 23))
    before = lab.case().segmentation
    edit(drawn, lambda ds: setattr(ds, "ContentLabel", "MENDED"))
    assert fetch(drawn) == {"fetched": 1}
    report = take_inbox.fn("D", date(2026, 11, 24))
    assert report is not None and (report["files"]["taken"], report["reasons"]) == (1, {})
    after = lab.case()
    assert after.state == "pending"
    assert before is not None and after.segmentation is not None
    assert after.segmentation.sha256 != before.sha256
    assert fetch(drawn) == {"known": 1}


def test_what_two_contents_came_of_is_fetched_again_once_the_server_is_in_order(
    lab: Predicted, fetch: Any, tmp_path: Path
) -> None:
    series = write_series(tmp_path / "another", (3, 8, 8), name="another")
    right, wrong = series.files[0], tmp_path / "wrong.dcm"
    wrong.write_bytes(right.read_bytes())
    edit(wrong, lambda ds: setattr(ds, "PixelData", b"\0" * len(ds.PixelData)))
    assert fetch(right, wrong) == {"fetched": 2}
    report = take_inbox.fn("D", date(2026, 11, 23))
    assert report is not None and report["reasons"] == {"uid-conflict": 2}
    fetch(right)
    report = take_inbox.fn("D", date(2026, 11, 24))
    assert report is not None and report["files"]["taken"] == 1
    assert fetch(right) == {"known": 1}


class Half(Server):
    """One that lists a slice more than it sends."""

    def instances(self, series: RemoteSeries) -> set[str]:
        return super().instances(series) | {"1.2.3.4"}


class Broken(Server):
    """One that has lost what it lists."""

    def retrieve(self, series: RemoteSeries) -> Iterator[bytes]:
        raise UserDataError("the DICOMweb server answered 404")


@pytest.mark.parametrize(("server", "fate"), [(Half, "incomplete"), (Broken, "failed")])
def test_what_does_not_come_whole_is_no_delivery_and_keeps_nobody_waiting(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: type[Server], fate: str
) -> None:
    series = write_series(tmp_path / "ct", (3, 8, 8))
    monkeypatch.setattr("tasks.retrieve.DicomWeb", lambda _url: server(series.files[0]))
    monkeypatch.setattr("tasks.retrieve.get_run_logger", lambda: logging.getLogger("test"))
    found = retrieve_series.fn("D", "http://pacs", [], deidentify=False)
    assert found["series"] == {fate: 1}
    assert take_inbox.fn("D", date(2026, 11, 23)) is None


def test_of_a_withdrawn_scan_nothing_is_asked_for(lab: Predicted, fetch: Any) -> None:
    add_withdrawal(lab.paths.withdrawals, date(2026, 11, 23), [lab.record["case_id"]])
    assert fetch(lab.series.files[0]) == {"withdrawn": 1}
    assert Inbox(lab.paths.inbox).all() == []
