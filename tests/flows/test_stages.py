"""What a stage asks before it begins, without a server or a network around it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from dicom_factory import ball
from predicted_lab import a_model, predicted

from flows import iterate as iterating
from flows import pages
from flows import predict as predicting
from flows import prepare as preparing
from flows import rollback as going_back
from flows import train as training
from tasks.errors import UserDataError
from tasks.ledger.files import replace_symlink
from tasks.ledger.paths import DatasetPaths
from tasks.worklist import write_worklist


class Asked(Exception):
    """As far as a test goes."""


def asks(*_: Any, **__: Any) -> Any:
    raise Asked


@contextmanager
def at_once(*_: Any) -> Iterator[None]:
    yield


@pytest.fixture
def paths(home: Path, monkeypatch: pytest.MonkeyPatch) -> DatasetPaths:
    (home / "config" / "roi_D.yaml").write_text("GTV: GTV\n")
    for flow in (preparing, training):
        monkeypatch.setattr(flow, "turn_of", at_once)
        monkeypatch.setattr(flow, "require_dataset", lambda _: None)
    for flow in (preparing, predicting):
        monkeypatch.setattr(flow, "seal_by_hand", lambda _: [])
    iteration = SimpleNamespace(name="2026-11-20__D", folds=2)
    monkeypatch.setattr(training, "newest_iteration", lambda *_: iteration)
    return DatasetPaths.of("D")


def test_training_asks_whether_it_would_be_prepared_like_this_again(
    paths: DatasetPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "model_of", lambda *_: None)
    monkeypatch.setattr(training, "require_current", asks)
    monkeypatch.setattr(training, "_train", lambda *_: pytest.fail("trained"))
    with pytest.raises(Asked):
        training.train.fn("D")


@pytest.mark.parametrize("rolled_back", [True, False])
def test_a_promotion_that_was_cut_off_waits_for_nobody_but_a_person(
    paths: DatasetPaths, monkeypatch: pytest.MonkeyPatch, rolled_back: bool
) -> None:
    candidate = replace(a_model(paths, ["GTV"]), compared_with=None, accepted=True, promoted=False)
    monkeypatch.setattr(training, "model_of", lambda *_: candidate)
    monkeypatch.setattr(training, "load_models", lambda _: [candidate])
    monkeypatch.setattr(training, "_in_use", lambda _: None)
    monkeypatch.setattr(training, "was_rolled_back_since", lambda *_: rolled_back)
    monkeypatch.setattr(training, "_report", lambda *_: {"state": "nothing new"})
    monkeypatch.setattr(training, "promote_model", asks)
    if rolled_back:
        assert training.train.fn("D") == {"state": "nothing new"}
        return
    with pytest.raises(Asked):
        training.train.fn("D")


@pytest.mark.parametrize("stage", ["prepare", "predict"])
def test_what_came_back_is_recognised_before_anything_is_read(
    paths: DatasetPaths, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """Also if the ingest that sealed it was killed before it looked."""
    flow = {"prepare": preparing, "predict": predicting}[stage]
    monkeypatch.setattr(flow, "recognise_refinements", asks)
    monkeypatch.setattr(flow, "state_at", lambda *_: pytest.fail("read before"))
    with pytest.raises(Asked):
        if stage == "prepare":
            preparing.prepare.fn("D")
        else:
            settings: Any = None
            predicting._images(paths, settings, None)


def test_the_error_says_what_to_do(paths: DatasetPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    iteration = SimpleNamespace(name="2026-11-20__D", lineage=1, parent="2026-11-19", cases=[], folds=2)
    monkeypatch.setattr(training, "newest_iteration", lambda *_: iteration)
    monkeypatch.setattr(training, "model_of", lambda *_: None)
    with pytest.raises(UserDataError, match="another model is in use; run `iterseg prepare D` first"):
        training.train.fn("D")


def test_a_label_that_comes_by_day_does_not_cost_the_model_of_the_night(
    paths: DatasetPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its promotion was cut off; a newer iteration would be prepared from the model before it."""
    candidate = replace(a_model(paths, ["GTV"]), compared_with=None, accepted=True, promoted=False)
    monkeypatch.setattr(training, "load_models", lambda _: [candidate])
    monkeypatch.setattr(training, "promote_model", asks)
    monkeypatch.setattr(iterating, "nothing_new", lambda _: False)
    monkeypatch.setattr(iterating, "ingest", lambda _: pytest.fail("ingested before"))
    with pytest.raises(Asked):
        iterating._iterate(paths, "local", None, None, None)


UNREADABLE = {"case_id": "case1", "state": "rejected", "reason": "changed-after-sealing"}
TILTED = {"case_id": "case2", "state": "rejected", "reason": "gantry-tilt"}


@pytest.mark.parametrize(
    ("rows", "asked_for", "words"),
    [
        pytest.param([TILTED], False, None, id="what is left over when all others are labelled"),
        pytest.param([TILTED], True, "sheared by a gantry tilt", id="but not what somebody asks for"),
        pytest.param([TILTED, UNREADABLE], False, "none of 2 images", id="nor what may be mended"),
    ],
)
def test_an_image_that_can_never_be_predicted_does_not_fail_every_night(
    rows: list[dict[str, Any]], asked_for: bool, words: str | None
) -> None:
    if words is None:
        predicting._none_predicted(rows, {}, asked_for=asked_for)
        return
    with pytest.raises(UserDataError, match=words):
        predicting._none_predicted(rows, {}, asked_for=asked_for)


def test_the_worklist_names_no_prediction_of_a_model_that_was_taken_out(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = predicted(home, tmp_path, {"GTV": ball((6, 20, 24), (3, 8, 8), 4)})
    write_worklist.fn("D")
    assert lab.model.model_id in lab.paths.worklist.read_text()
    newer = a_model(lab.paths, ["GTV"], "2026-11-21")
    (lab.paths.home / newer.folder).mkdir(parents=True)

    def put_back(*_: Any) -> dict[str, str]:
        replace_symlink(lab.paths.latest, lab.paths.home / newer.folder)
        return {"model": newer.model_id}

    for name, stand_in in (("turn_of", at_once), ("put_back", put_back), ("show_table", lambda *_: None)):
        monkeypatch.setattr(going_back, name, stand_in)
    for step in ("write_worklist", "write_report"):
        monkeypatch.setattr(pages, step, getattr(pages, step).fn)
    shown: dict[str, str] = {}
    monkeypatch.setattr(pages, "show_table", lambda what, _, rows, __: shown.update({what: str(rows)}))
    going_back.rollback.fn("D", newer.model_id)
    assert lab.model.model_id not in lab.paths.worklist.read_text()
    assert lab.record["case_id"] in shown["worklist"]
    assert lab.model.model_id not in shown["worklist"], "nor does the table in the UI"
