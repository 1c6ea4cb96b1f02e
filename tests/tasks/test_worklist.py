"""The list of what waits tells where and why, and what people say of it is kept."""

from __future__ import annotations

import csv
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from dicom_factory import ball, write_series
from predicted_lab import Predicted, predicted
from trained_models import case, trained

from tasks.conversion import to_convert
from tasks.errors import ConfigError
from tasks.ingest import take_delivery
from tasks.ledger.files import read_json
from tasks.ledger.patients import extend_patients
from tasks.outcomes import remember_outcomes, remember_unpredictable
from tasks.report import write_report
from tasks.settings.dataset import load_dataset_settings, load_rois
from tasks.state import state_at
from tasks.worklist import (
    COLUMNS,
    IN_TEST_SET,
    NOT_PREDICTED,
    _learned_from,
    mark_cases,
    worklist_of,
    write_worklist,
)

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
    assert list(said.values())[-4:] == [IN_TEST_SET] * 4, "after what a model could help with"


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


def test_an_image_that_cannot_be_predicted_says_so_until_it_changes(lab: Predicted, tmp_path: Path) -> None:
    """The code stood in the answer of one run, and nowhere after it."""
    write_series(tmp_path / "more", SHAPE, name="more", patient="more")
    take_delivery.fn("D", tmp_path / "more", date(2026, 11, 21))
    settings, rois = load_dataset_settings(lab.paths.config, "D"), load_rois(lab.paths.config, "D")
    cases = [c for c in state_at(lab.paths, settings)[0].images if c.case_id != lab.record["case_id"]]
    jobs = [to_convert(case, settings, rois) for case in cases]
    rejected = {"state": "rejected", "reason": "gantry-tilt", "detail": "by 3 degrees"}
    remember_unpredictable(lab.paths, jobs, [{"case_id": jobs[0].case_id, **rejected}])
    said = {row["case_id"]: row["reason"] for row in worklist_of(lab.paths)}
    assert said[jobs[0].case_id] == "cannot be predicted: gantry-tilt: by 3 degrees"
    assert "gantry-tilt: by 3 degrees" in write_report.fn("D").read_text().split("Set aside")[-1]
    of_former_files = replace(jobs[0], image_key="another")
    remember_unpredictable(lab.paths, [of_former_files], [{"case_id": jobs[0].case_id, **rejected}])
    said = {row["case_id"]: row["reason"] for row in worklist_of(lab.paths)}
    assert said[jobs[0].case_id] == NOT_PREDICTED


def test_what_prepare_and_predict_remember_does_not_displace_each_other(lab: Predicted) -> None:
    settings, rois = load_dataset_settings(lab.paths.config, "D"), load_rois(lab.paths.config, "D")
    job = to_convert(lab.case(), settings, rois)
    row = {"case_id": job.case_id, "state": "rejected", "reason": "gantry-tilt", "detail": ""}
    remember_unpredictable(lab.paths, [job], [row])
    remember_outcomes(lab.paths, state_at(lab.paths, settings)[0], {})
    assert read_json(lab.paths.outcomes)["images"][job.case_id]["why"] == "gantry-tilt"


def test_a_model_that_learned_from_the_same_draws_the_same_list(lab: Predicted) -> None:
    """Its weights hold when they were trained: by them no simulation could be repeated."""
    again = replace(lab.model, checkpoints={"0": "other weights"})
    assert _learned_from(lab.paths, again) == _learned_from(lab.paths, lab.model)
    cases = [case(0, 0), case(1, 1)]
    more, fewer = (trained(lab.paths, f"2026-01-0{n}", cases[:n], 0.5) for n in (2, 1))
    found = [_learned_from(lab.paths, replace(model, model_id="m")) for model in (more, fewer)]
    assert found == [["m", "case0", "case1"], ["m", "case0"]]
