"""Predictions go to each destination once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from dicom_factory import ball
from predicted_lab import Predicted, predicted
from prefect.logging import disable_run_logger

import tasks.send
from tasks.conversion import to_convert
from tasks.errors import TransientError, UserDataError
from tasks.ledger.journal import Journal
from tasks.send import send_predictions, send_to_all
from tasks.settings.dataset import load_dataset_settings, load_rois
from tasks.settings.output import Destination
from tasks.worklist import mark_cases

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
    monkeypatch.setattr(
        "tasks.send.store_web", lambda _url, files, _name: sent.append([f.name for f in files])
    )
    monkeypatch.setattr("tasks.send.store_dimse", lambda _peer, files: sent.append([f.name for f in files]))
    return sent


def jobs(lab: Predicted) -> list[Any]:
    settings = load_dataset_settings(lab.paths.config, "D")
    return [to_convert(lab.case(), settings, load_rois(lab.paths.config, "D"))]


def test_image_and_objects_go_once(lab: Predicted, wire: list[list[str]]) -> None:
    counts = send_predictions.fn("D", VIEWER, jobs(lab), lab.model)
    assert counts == {"sent": 1, "known": 0, "refused": 0, "locked": 0, "outdated": 0}
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


def test_a_prediction_of_half_an_image_is_not_sent(lab: Predicted, wire: list[list[str]]) -> None:
    """The other half has come since: the prediction would be empty there."""
    (job,) = jobs(lab)
    grown = replace(job, image_key="another")
    assert send_predictions.fn("D", VIEWER, [grown], lab.model)["outdated"] == 1
    assert wire == []


def test_one_that_is_refused_is_counted(lab: Predicted, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_url: str, _files: list[Path], _name: str) -> None:
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
    with pytest.raises(TransientError, match="it cannot be reached. the same command tries again"):
        send_to_all("D", [VIEWER, PACS], jobs(lab), lab.model, again="the same command")


def test_another_server_under_the_same_name_gets_everything(lab: Predicted, wire: list[list[str]]) -> None:
    send_predictions.fn("D", VIEWER, jobs(lab), lab.model)
    same = VIEWER.model_copy(update={"dicomweb": "https://lab:word@127.0.0.1:9/dicom-web/"})
    assert send_predictions.fn("D", same, jobs(lab), lab.model)["known"] == 1
    moved = VIEWER.model_copy(update={"dicomweb": "http://127.0.0.1:10/dicom-web"})
    assert send_predictions.fn("D", moved, jobs(lab), lab.model)["sent"] == 1
    assert send_predictions.fn("D", VIEWER, jobs(lab), lab.model)["known"] == 1


@pytest.mark.parametrize(("every_s", "entries"), [(60.0, 1), (0.0, 3)])
def test_what_was_sent_is_noted_now_and_then_and_when_it_fails(
    lab: Predicted, monkeypatch: pytest.MonkeyPatch, every_s: float, entries: int
) -> None:
    """Each entry writes the file anew: of 10,000 cases that would be hours."""
    monkeypatch.setattr("tasks.send.WRITTEN_EVERY_S", every_s)
    journal = Journal(lab.paths.delivered("viewer"))
    with pytest.raises(TransientError), tasks.send._Delivered(journal, "there") as delivered:
        for uid in ("1", "2", "3"):
            delivered.note([uid])
        raise TransientError("it is away")
    assert len(journal.entries()) == entries
    assert tasks.send._Delivered(journal, "there").known == {"1", "2", "3"}


def test_what_was_sent_before_addresses_were_noted_counts(lab: Predicted, wire: list[list[str]]) -> None:
    send_predictions.fn("D", VIEWER, jobs(lab), lab.model)
    journal = lab.paths.delivered("viewer")
    (entry,) = Journal(journal).entries()
    journal.unlink()
    Journal(journal).append({"when": entry["when"], "uids": entry["uids"]})
    assert send_predictions.fn("D", VIEWER, jobs(lab), lab.model)["known"] == 1


def test_a_file_that_is_gone_stops_nobody_and_is_not_named(
    lab: Predicted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folder may be called after the patient, and the message goes into Prefect's database."""
    (job,) = jobs(lab)
    job = replace(job, files=[*job.files[:-1], "/raw/DOE^JOHN/1.dcm"])
    said: list[str] = []

    def read(_url: str, files: list[Path], _name: str) -> None:
        for file in files:
            file.read_bytes()

    logger = SimpleNamespace(error=lambda *words: said.append(str(words)))
    monkeypatch.setattr("tasks.send.get_run_logger", lambda: logger)
    monkeypatch.setattr("tasks.send.store_web", read)
    assert send_predictions.fn("D", VIEWER, [job], lab.model)["refused"] == 1
    assert "cannot be read" in said[0]
    assert "DOE" not in said[0]
