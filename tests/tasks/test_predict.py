"""Who is predicted and who is not, and when a prediction is to be made again."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pydicom
import pytest
from dicom_factory import ball, write_series
from predicted_lab import DOUBT, Predicted, a_model, predict, predicted

from tasks.conversion import CaseToConvert, to_convert
from tasks.copies import scans_of
from tasks.dicom.case import case_id_of
from tasks.errors import TransientError, UserDataError
from tasks.hand_over import read_prediction, read_triage
from tasks.ledger.dataset_key import pseudonyms_of
from tasks.ledger.predictions import record_file, sent_by_case
from tasks.ledger.pseudonyms import Pseudonyms
from tasks.ledger.snapshots import make_writable
from tasks.ledger.store import Store
from tasks.ledger.withdrawals import Withdrawals, add_withdrawal
from tasks.predict import images_in, predict_cases, stale_predictions
from tasks.settings.dataset import DatasetSettings, load_dataset_settings, load_rois

SETTINGS = DatasetSettings()


class Keyed(Pseudonyms):
    """Stand-ins that say what they stand for."""

    def __init__(self) -> None: ...

    def patient(self, identity: str) -> str:
        return f"keyed {identity}"

    def uid(self, uid: str) -> str:
        return f"2.25.{len(uid)}"


KEYED = Keyed()


@pytest.fixture
def lab(home: Path, tmp_path: Path) -> Predicted:
    return predicted(home, tmp_path, {"GTV": ball((6, 20, 24), (3, 8, 8), 4)})


@pytest.mark.parametrize(
    ("changes", "known"),
    [
        ({}, True),
        ({"prediction": {"mirroring": False}}, False),
        ({"prediction": {"outputs": ["SEG"]}}, False),
        ({"codes": {"GTV": {"type": "108369006 Neoplasm"}}}, False),
        ({"review": {"random_share": 0.5}}, True),
    ],
)
def test_what_would_be_written_otherwise_is_predicted_again(
    lab: Predicted, changes: dict[str, Any], known: bool
) -> None:
    settings = DatasetSettings.model_validate({"arrival_quiet_s": 0, **changes})
    job = to_convert(lab.case(), settings, load_rois(lab.paths.config, "D"))
    folder = lab.paths.predictions(lab.model.model_id)
    assert (read_prediction(folder, job, lab.model, settings) is not None) == known


def test_an_object_that_is_gone_is_written_again(lab: Predicted) -> None:
    settings = load_dataset_settings(lab.paths.config, "D")
    job = to_convert(lab.case(), settings, load_rois(lab.paths.config, "D"))
    lab.object("rtstruct").unlink()
    folder = lab.paths.predictions(lab.model.model_id)
    assert read_prediction(folder, job, lab.model, settings) is None


def test_a_new_model_makes_old_predictions_stale(lab: Predicted) -> None:
    newer, case_id = a_model(lab.paths, ["GTV"], "2026-11-21"), lab.record["case_id"]
    assert stale_predictions(lab.paths, newer, [case_id]) == {lab.model.model_id: 1}
    assert stale_predictions(lab.paths, lab.model, [case_id]) == {}
    predict(lab.paths, newer, lab.masks, lab.case())
    assert stale_predictions(lab.paths, newer, [case_id, "case0"]) == {lab.model.model_id: 1}


def test_a_file_that_cannot_be_read_stops_no_prediction(tmp_path: Path) -> None:
    write_series(tmp_path / "in" / "DOE^JOHN", (6, 20, 24))
    (tmp_path / "in" / "DOE^JOHN" / "gone.dcm").symlink_to("nowhere")
    os.mkfifo(tmp_path / "in" / "pipe.dcm")
    cases, damaged = images_in(tmp_path / "in", SETTINGS, KEYED, Withdrawals())
    assert [len(case.files) for case in cases] == [6]
    assert [(row["case_id"], row["reason"]) for row in damaged] == [
        ("file1", "unreadable"),
        ("file2", "unreadable"),
    ]
    assert "DOE" not in str(damaged)


def test_what_lies_in_a_recycle_bin_is_not_predicted(tmp_path: Path) -> None:
    kept = write_series(tmp_path / "usb" / "scans", (6, 20, 24), name="kept")
    write_series(tmp_path / "usb" / ".Trash-1000" / "files", (6, 20, 24), name="thrown away")
    (case,), damaged = images_in(tmp_path / "usb", SETTINGS, KEYED, Withdrawals())
    assert (case.series_instance_uid, damaged) == (kept.uids["series"], [])


def test_of_a_folder_without_a_whole_file_it_is_said_how_many_are_damaged(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(b"half")
    with pytest.raises(UserDataError, match="1 files are damaged") as caught:
        images_in(tmp_path, SETTINGS, KEYED, Withdrawals())
    assert caught.value.report["totals"] == {"done": 0, "rejected": 1, "ignored": 0}


Waiting = tuple[CaseToConvert, DatasetSettings]


@pytest.fixture
def waiting(lab: Predicted) -> Waiting:
    """An image whose prediction was not handed out yet, as predict takes it."""
    settings = load_dataset_settings(lab.paths.config, "D")
    job = to_convert(lab.case(), settings, load_rois(lab.paths.config, "D"))
    record_file(lab.paths.predictions(lab.model.model_id), job.case_id).unlink()
    return job, settings


@pytest.mark.parametrize("triage", [False, True])
def test_a_killed_job_has_handed_out_what_it_had_predicted(
    lab: Predicted, waiting: Waiting, monkeypatch: pytest.MonkeyPatch, triage: bool
) -> None:
    job, settings = waiting
    folder = lab.paths.predictions(lab.model.model_id)

    def killed(*_: Any, on_message: Callable[[dict[str, Any]], None], **__: Any) -> None:
        on_message({"predicted": 1, "of": 2})
        on_message({"written": job.case_id, "doubt": {**DOUBT, "slices": [[2, 1.0]]}})
        raise KeyboardInterrupt

    monkeypatch.setattr("tasks.predict.predict_batch", killed)
    with pytest.raises(KeyboardInterrupt):
        predict_cases.fn("D", 1, [job], lab.model, settings, 1, triage)
    found = (
        read_triage(folder, job, lab.model) if triage else read_prediction(folder, job, lab.model, settings)
    )
    assert found is not None
    assert found["doubt"]["shown_as"] == [3]


@pytest.mark.parametrize("triage", [False, True])
def test_a_case_whose_files_are_gone_is_told_and_stops_nobody(
    lab: Predicted, waiting: Waiting, monkeypatch: pytest.MonkeyPatch, triage: bool
) -> None:
    """Its image is in the store since an earlier model; no object could refer to what is not there."""
    job, settings = waiting
    make_writable(lab.paths.rawdata / "2026-11-20__D")
    Path(job.files[0]).unlink()

    def predicted_all(*_: Any, on_message: Callable[[dict[str, Any]], None], **__: Any) -> Any:
        on_message({"written": job.case_id, "doubt": {**DOUBT, "slices": [[2, 1.0]]}})
        return {}

    monkeypatch.setattr("tasks.predict.predict_batch", predicted_all)
    (row,) = predict_cases.fn("D", 1, [job], lab.model, settings, 1, triage)
    assert (row["state"], row["reason"]) == ("rejected", "changed-after-sealing")
    assert str(lab.paths.rawdata) not in row["detail"]


@pytest.mark.parametrize("triage", [False, True])
def test_a_withdrawn_patients_scan_is_not_predicted_under_another_name(
    lab: Predicted, waiting: Waiting, monkeypatch: pytest.MonkeyPatch, triage: bool
) -> None:
    job, settings = waiting
    scans = scans_of(Store(lab.paths.store), [job.case_id])
    add_withdrawal(lab.paths.withdrawals, date(2026, 11, 22), ["another"], "somebody", scans)
    asked: list[Any] = []
    monkeypatch.setattr("tasks.predict.predict_batch", lambda cases, **_: asked.extend(cases) or {})
    (row,) = predict_cases.fn("D", 1, [job], lab.model, settings, 1, triage)
    assert (row["state"], row["reason"], asked) == ("rejected", "same-image-withdrawn", [])


def test_what_nothing_was_heard_of_is_not_taken_for_done(
    lab: Predicted, waiting: Waiting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line of another thread may have come between; the next attempt knows what is there."""
    job, settings = waiting
    monkeypatch.setattr("tasks.predict.predict_batch", lambda *_, **__: {})
    with pytest.raises(TransientError, match=f"nothing was heard of the prediction of {job.case_id}"):
        predict_cases.fn("D", 1, [job], lab.model, settings, 1)


@pytest.mark.parametrize("by", ["patient", "case", "twin"])
def test_what_is_withdrawn_is_not_predicted_when_it_is_shown(tmp_path: Path, by: str) -> None:
    series = write_series(tmp_path / "in", (6, 20, 24), patient="P-1")
    uid = series.uids["series"]
    out = {
        "patient": Withdrawals(patients={KEYED.patient("patient:P-1"): "2026-11-20"}),
        "case": Withdrawals(cases={case_id_of(uid): "2026-11-20"}),
        "twin": Withdrawals(cases={case_id_of(KEYED.uid(uid)): "2026-11-20"}),
    }
    (case,), _ = images_in(tmp_path / "in", SETTINGS, KEYED, out[by])
    assert (case.state, case.reason) == ("ignored", "withdrawn")


def test_what_is_sent_of_a_scan_in_the_clear_is_known_by_its_other_name_too(lab: Predicted) -> None:
    """What comes back of it is of the de-identified scan that the dataset has."""
    twin = case_id_of(pseudonyms_of(lab.paths).uid(lab.case().series_instance_uid))
    assert twin != lab.record["case_id"]
    found = sent_by_case(lab.paths)
    assert [sent["kind"] for sent in found[twin]] == [sent["kind"] for sent in found[lab.record["case_id"]]]


def test_what_is_handed_out_says_which_model_made_it(lab: Predicted) -> None:
    """Readers see two series beside each other; the models of a month have nine letters in common."""
    seen = [pydicom.dcmread(lab.object(ending)) for ending in ("seg", "rtstruct")]
    assert {ds.SeriesDescription for ds in seen} == {"IterSeg nnU-Net D 2026-11-20"}
    rtstruct = seen[1]
    assert (rtstruct.StructureSetLabel, rtstruct.StructureSetName) == (
        "2026-11-20",
        "IterSeg nnU-Net D 2026-11-20",
    )
