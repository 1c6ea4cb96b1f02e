"""Predictions go to each destination once; what people say of images that wait is kept."""

from __future__ import annotations

import csv
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from dicom_factory import ball, write_series
from predicted_lab import Predicted, predicted
from prefect.logging import disable_run_logger

from tasks.conversion import to_convert
from tasks.errors import ConfigError, TransientError, UserDataError
from tasks.ingest import take_delivery
from tasks.ledger.patients import extend_patients
from tasks.output_settings import Destination
from tasks.send import send_predictions, send_to_all
from tasks.settings import load_dataset_settings, load_rois
from tasks.state import state_at
from tasks.worklist import COLUMNS, IN_TEST_SET, NOT_PREDICTED, mark_cases, worklist_of, write_worklist

SHAPE = (6, 20, 24)
VIEWER = Destination(name="viewer", dicomweb="http://127.0.0.1:9/dicom-web", images=True)
PACS = Destination(name="pacs", host="127.0.0.1", port=104, aet="PACS")


@pytest.fixture
def lab(home: Path, tmp_path: Path) -> Predicted:
    (home / "config" / "dataset_D.yaml").write_text(
        "arrival_quiet_s: 0\nmodalities: CT,SEG,RTSTRUCT\nreview: {viewer: 'http://v/?s={study}'}\n"
    )
    return predicted(home, tmp_path, {"GTV": ball(SHAPE, (3, 8, 8), 4)})


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What was sent, the names of the files of each transfer."""
    sent: list[list[str]] = []
    monkeypatch.setattr("tasks.send.store_web", lambda _url, files: sent.append([f.name for f in files]))
    monkeypatch.setattr("tasks.send.store_dimse", lambda _peer, files: sent.append([f.name for f in files]))
    return sent


def jobs(lab: Predicted) -> list[Any]:
    settings = load_dataset_settings(lab.paths.config, "D")
    return [to_convert(lab.case(), settings, load_rois(lab.paths.config, "D"))]


def test_image_and_objects_go_once(lab: Predicted, wire: list[list[str]]) -> None:
    counts = send_predictions.fn("D", VIEWER, jobs(lab), lab.model)
    assert counts == {"sent": 1, "known": 0, "refused": 0, "locked": 0}
    (names,) = wire
    assert len(names) == SHAPE[0] + 2
    assert [name.split(".", 1)[1] for name in names[-2:]] == ["seg.dcm", "rtstruct.dcm"]
    assert send_predictions.fn("D", VIEWER, jobs(lab), lab.model)["known"] == 1
    assert len(wire) == 1
    send_predictions.fn("D", PACS, jobs(lab), lab.model)
    assert len(wire[1]) == 2, "another destination, which has its images"


def test_an_image_that_is_wanted_later_follows(lab: Predicted, wire: list[list[str]]) -> None:
    without = VIEWER.model_copy(update={"images": False})
    send_predictions.fn("D", without, jobs(lab), lab.model)
    assert send_predictions.fn("D", VIEWER, jobs(lab), lab.model)["sent"] == 1
    assert [len(names) for names in wire] == [2, SHAPE[0]]


def test_what_somebody_is_at_is_not_sent(lab: Predicted, wire: list[list[str]]) -> None:
    mark_cases(lab.paths, {lab.record["case_id"]: {"locked": True}})
    assert send_predictions.fn("D", VIEWER, jobs(lab), lab.model)["locked"] == 1
    assert wire == []


def test_one_that_is_refused_is_counted(lab: Predicted, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_url: str, _files: list[Path]) -> None:
        raise UserDataError("no")

    monkeypatch.setattr("tasks.send.store_web", refuse)
    with disable_run_logger():
        assert send_predictions.fn("D", VIEWER, jobs(lab), lab.model)["refused"] == 1


def test_one_that_is_away_does_not_keep_the_others_waiting(
    lab: Predicted, wire: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_dataset: str, destination: Destination, cases: list[Any], model: Any) -> dict[str, int]:
        if destination is VIEWER:
            raise TransientError("it cannot be reached")
        return send_predictions.fn("D", destination, cases, model)

    monkeypatch.setattr("tasks.send.send_predictions", away)
    with pytest.raises(TransientError, match="viewer: it cannot be reached. `iterseg send D` tries again"):
        send_to_all("D", [VIEWER, PACS], jobs(lab), lab.model)
    assert len(wire) == 1


def test_the_list_tells_where_and_why(lab: Predicted) -> None:
    (row,) = write_worklist.fn("D")
    assert row["model"] == lab.model.model_id
    assert row["segmentation"].endswith(f"{row['case_id']}.seg.dcm")
    assert row["viewer"] == f"http://v/?s={row['study_instance_uid']}"
    (written,) = csv.DictReader(lab.paths.worklist.read_text().splitlines())
    assert tuple(written) == COLUMNS
    assert written["case_id"] == row["case_id"]


def test_an_image_of_the_test_set_does_not_wait_for_a_prediction(lab: Predicted, tmp_path: Path) -> None:
    predicted_one = lab.case()
    for number in range(8):
        write_series(tmp_path / "more" / f"{number}", name=f"more {number}", patient=f"more {number}")
    take_delivery.fn("D", tmp_path / "more", date(2026, 11, 21))
    cases = state_at(lab.paths, load_dataset_settings(lab.paths.config, "D"))[0].images
    patients = {case.patient for case in cases} - {predicted_one.patient}
    table = extend_patients(lab.paths.patients, [], 2, 0.5, unlabelled=patients, every_fold=False)
    said = {row["case_id"]: row["reason"] for row in worklist_of(lab.paths)}
    tested = {case.case_id for case in cases if case.patient in table.test}
    assert len(tested) == 4
    assert {case_id for case_id, reason in said.items() if reason == IN_TEST_SET} == tested
    assert list(said.values()).count(NOT_PREDICTED) == 4


def test_marks_outlive_the_list(lab: Predicted) -> None:
    case_id = lab.record["case_id"]
    mark_cases(lab.paths, {case_id: {"assigned": "reader 2"}})
    mark_cases(lab.paths, {case_id: {"flagged": True}})
    write_worklist.fn("D")
    (row,) = worklist_of(lab.paths)
    assert (row["assigned"], row["flagged"]) == ("reader 2", True)
    assert (row["locked"], row["skipped"]) == (False, False)


def test_only_what_waits_can_be_marked(lab: Predicted) -> None:
    with pytest.raises(ConfigError, match="that waits is called case0"):
        mark_cases(lab.paths, {key: {"skipped": True} for key in ("case0", lab.record["case_id"])})
    assert not worklist_of(lab.paths)[0]["skipped"]
