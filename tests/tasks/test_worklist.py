"""The list of what waits tells where and why, and what people say of it is kept."""

from __future__ import annotations

import csv
from datetime import date
from pathlib import Path

import pytest
from dicom_factory import ball, write_series
from predicted_lab import Predicted, predicted

from tasks.errors import ConfigError
from tasks.ingest import take_delivery
from tasks.ledger.patients import extend_patients
from tasks.settings.dataset import load_dataset_settings
from tasks.state import state_at
from tasks.worklist import COLUMNS, IN_TEST_SET, NOT_PREDICTED, mark_cases, worklist_of, write_worklist

SHAPE = (6, 20, 24)


@pytest.fixture
def lab(home: Path, tmp_path: Path) -> Predicted:
    (home / "config" / "dataset_D.yaml").write_text(
        "arrival_quiet_s: 0\nmodalities: CT,SEG,RTSTRUCT\nreview: {viewer: 'http://v/?s={study}'}\n"
    )
    return predicted(home, tmp_path, {"GTV": ball(SHAPE, (3, 8, 8), 4)})


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
