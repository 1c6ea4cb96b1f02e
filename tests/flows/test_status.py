"""What the next run would do, as `iterseg status` says it."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from dicom_factory import ball
from predicted_lab import a_model, predicted

from flows.status import _next, _training, status_of
from tasks.inputs import Inputs
from tasks.ledger.dated import DatedName
from tasks.ledger.files import replace_symlink, write_json
from tasks.ledger.inbox import Inbox
from tasks.ledger.iteration_paths import fold_folder
from tasks.ledger.iterations import Iteration
from tasks.ledger.journal import Journal
from tasks.ledger.lineages import open_lineage
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.predictions import record_file
from tasks.settings.dataset import DatasetSettings, RoiPatterns
from tasks.train import candidate_folder

ROIS = RoiPatterns.model_validate({"GTV": "GTV"})
ITERATION = Iteration("2026-11-20__D", "", None, "CT", ["GTV"], "3d_fullres", "nnUNetPlans", "", 2, [])


def prepared(paths: DatasetPaths) -> None:
    """One iteration, with the settings that are the default."""
    open_lineage(paths, "why", ["GTV"], "label_image", "nnUNetPlans", "3d_fullres")
    digest = Inputs(1, [], DatasetSettings(), ROIS).digest(warm=False)
    name = DatedName.parse(ITERATION.name, "D")
    assert name is not None
    write_json(
        paths.iteration(name).record, {"version": 1, **asdict(replace(ITERATION, digest=digest, lineage=1))}
    )


@pytest.mark.parametrize(
    ("state", "training", "said"),
    [
        ("prepared", {}, None),
        ("begun", {}, "goes on with the training of 2026-11-20__D first"),
        ("begun", {"iterations_per_epoch": 9}, None),  # it is given up
        ("another model is in use", {}, None),  # as after a rollback
        ("trained", {}, None),
        ("trained", {"epochs_fine_tune": 9}, None),  # it was from scratch
        ("trained", {"iterations_per_epoch": 9}, "settings that decide what is learned have changed"),
    ],
)
def test_a_training_that_goes_on_or_begins_anew_is_told(
    home: Path, state: str, training: dict[str, Any], said: str | None
) -> None:
    paths = DatasetPaths.of("D")
    prepared(paths)
    if state in ("begun", "another model is in use"):
        checkpoint = fold_folder(candidate_folder(paths, ITERATION), 0) / "checkpoint_latest.pth"
        checkpoint.parent.mkdir(parents=True)
        checkpoint.write_text("x")
    if state == "another model is in use":
        before = a_model(paths, ["GTV"], "2026-11-19")
        (paths.home / before.folder).mkdir(parents=True)
        replace_symlink(paths.latest, paths.home / before.folder)
    if state == "trained":
        a_model(paths, ["GTV"], "2026-11-20")
    chosen = {"training": training, "arrival_quiet_s": 0}
    settings = DatasetSettings.model_validate(chosen)
    (home / "config" / "dataset_D.yaml").write_text(yaml.safe_dump(chosen))
    (home / "config" / "roi_D.yaml").write_text("GTV: GTV\n")
    assert _training(paths, settings, ROIS) == said


@pytest.mark.parametrize(
    ("account", "waiting", "training", "told", "said"),
    [
        ({}, [], None, {}, "nothing: no image is labelled yet"),
        ({}, [], None, {"to_predict": 1}, "trains nothing and predicts 1 image"),  # by an imported model
        ({"reused": 3}, [], None, {}, "nothing new, unless a candidate is waiting"),
        ({"reused": 3}, [], None, {"to_predict": 2}, "trains nothing and predicts 2 images"),
        ({"reused": 3}, ["2 received files"], None, {}, "ingests 2 received files; trains warm"),
        (
            {"reused": 3, "new": 2},
            ["2026-11-24__D"],
            None,
            {"to_predict": 2},
            "ingests 2026-11-24__D, 2 new; trains warm",
        ),
        (
            {"reused": 3, "new": 2},
            [],
            "goes on with x first",
            {},
            "goes on with x first, 2 new; trains warm",
        ),
        ({"reused": 3}, [], "settings have changed", {}, "settings have changed; trains warm"),
        ({"reused": 3}, [], None, {"plans_anew": True}, "trains warm"),
    ],
)
def test_what_comes_next_is_one_sentence(
    account: dict[str, int], waiting: list[str], training: str | None, told: dict[str, Any], said: str
) -> None:
    assert _next(account, waiting, "trains warm", training, **told) == said


def test_an_image_that_the_model_in_use_has_not_predicted_is_told(home: Path, tmp_path: Path) -> None:
    lab = predicted(home, tmp_path, {"GTV": ball((6, 20, 24), (3, 8, 8), 4)})
    assert status_of("D")["next"] == "nothing: no image is labelled yet"
    record_file(lab.paths.predictions(lab.model.model_id), lab.record["case_id"]).unlink()
    assert status_of("D")["next"] == "trains nothing and predicts 1 image"
    in_test_set = {
        "snapshot": "2026-11-20__D",
        "folds": 2,
        "patients": {lab.case().patient: "test"},
        "came": {},
    }
    Journal(lab.paths.patients).append(in_test_set)
    assert status_of("D")["next"] == "nothing: no image is labelled yet"


def test_files_that_were_received_and_wait_are_told(home: Path, tmp_path: Path) -> None:
    lab = predicted(home, tmp_path, {"GTV": ball((6, 20, 24), (3, 8, 8), 4)})
    inbox = Inbox(lab.paths.inbox)
    inbox.begin("1", "1.2")
    inbox.put("1.2", "1.2.3", b"x")
    assert status_of("D")["not_ingested"] == [], "it is still being sent"
    inbox.end("1", whole=True)
    said = status_of("D")
    assert said["not_ingested"] == ["1 received file"]
    assert said["next"].startswith("ingests 1 received file")
