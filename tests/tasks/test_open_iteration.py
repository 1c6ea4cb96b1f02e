"""What an iteration needs before it is worth training."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import SimpleITK as sitk
from trained_models import case, trained

from tasks.conversion import CaseToConvert
from tasks.errors import ConfigError, UserDataError
from tasks.inputs import WITHOUT_EFFECT_ON_WHAT_IS_LEARNED, Inputs
from tasks.keep_test_set import patients_of_test_set
from tasks.ledger.dated import DatedName, dated_folders
from tasks.ledger.files import digest_of, write_json
from tasks.ledger.images import write_image
from tasks.ledger.iteration_paths import IterationPaths
from tasks.ledger.iterations import Iteration, load_iteration
from tasks.ledger.journal import Journal
from tasks.ledger.lineages import current_lineage, keep_plans
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.refinements import Refinement, note_acceptances, note_refinements
from tasks.ledger.scans import load_scans
from tasks.ledger.store import Store
from tasks.open_iteration import (
    _note_scans,
    book,
    open_iteration,
)
from tasks.settings.dataset import DatasetSettings, RoiPatterns

ROIS = RoiPatterns.model_validate({"Heart": "heart", "Lung": "lung"})
SETTINGS: dict[str, Any] = {"folds": 2, "test_share": 0, "missing_structures": {"Lung": "unlabelled"}}
BOTH = {"Heart": "h", "Lung": "l"}
IGNORE = 3


def opened(
    home: Path, partial: Sequence[bool], rois: RoiPatterns = ROIS, **changes: Any
) -> tuple[Iteration, bool]:
    """An iteration of one case a patient; ``partial``: whether its label map holds the ignore label."""
    store, done = Store(DatasetPaths.of("D").store), []
    for number, lacks in enumerate(partial):
        job = CaseToConvert(f"case{number}", [], f"i{number}", "", "RTSTRUCT", "", f"l{number}")
        write_json(store.voxel_counts(job.case_id, f"l{number}"), {str(IGNORE if lacks else 0): 9, "1": 5})
        done.append((job, f"p{number}"))
    name = DatedName.parse("2026-11-20__D", "D")
    assert name is not None
    settings = DatasetSettings.model_validate(SETTINGS | changes)
    return open_iteration.fn("D", name, done, settings, rois)


@pytest.mark.parametrize(
    ("partial", "enough"),
    [
        ([False, False, False, False], True),
        ([True, True, False, False], True),
        ([True, False, True, False], True),
        ([True, True, True, False], False),
        ([True, True, True, True], False),
    ],
)
def test_every_fold_must_see_background(home: Path, partial: list[bool], enough: bool) -> None:
    """Those who know it go to the folds in turn, before the others."""
    if enough:
        assert opened(home, partial)[0].partial
        return
    with pytest.raises(UserDataError, match="background is known in fewer than two folds"):
        opened(home, partial)


def _planned(home: Path) -> None:
    opened(home, [False] * 4)
    paths = DatasetPaths.of("D")
    lineage = current_lineage(paths)
    assert lineage is not None
    keep_plans(paths, lineage, {"p.json": {}, "dataset.json": {}, "dataset_fingerprint.json": {}})


@pytest.mark.parametrize(
    ("rois", "changes", "words"),
    [
        ({"Lung": "lung", "Heart": "heart"}, {}, "knows the structures"),
        ({"Heart": "heart"}, {"missing_structures": {}}, "knows the structures"),
        (
            {"Heart": "h", "Lung": "l"},
            {"mask_strategy": "regions", "missing_structures": {}},
            "mask_strategy",
        ),
        ({"Heart": "h", "Lung": "l"}, {"planner": "nnUNetPlannerResEncM"}, "another planner"),
    ],
)
def test_what_is_frozen_in_a_lineage_is_said_with_the_way_out(
    home: Path, rois: dict[str, str], changes: dict[str, Any], words: str
) -> None:
    _planned(home)
    with pytest.raises(ConfigError, match=words) as caught:
        opened(home, [False] * 4, RoiPatterns.model_validate(rois), **changes)
    assert "iterseg plan --new-lineage" in str(caught.value)


def test_before_it_is_planned_everything_may_be_mended(home: Path) -> None:
    opened(home, [False] * 4, RoiPatterns.model_validate({"Hart": "heart"}), missing_structures={})
    iteration, _ = opened(home, [False] * 4)
    assert (iteration.lineage, iteration.structures) == (1, ["Heart", "Lung"])


def test_an_iteration_notes_where_the_ledger_stood(home: Path) -> None:
    iteration, known = opened(home, [False] * 4)
    assert not known
    assert iteration.ledger["patients"] is not None
    assert iteration.ledger["withdrawals"] is None
    assert iteration.code.startswith("nnunetv2-")


def _closed(iteration: Iteration) -> None:
    file = DatasetPaths.of("D").procdata / iteration.name / "iteration.json"
    write_json(file, {"version": 1, **asdict(iteration)})


def test_after_a_rollback_what_was_prepared_from_another_parent_is_not_trained(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = opened(home, [False] * 4)
    _closed(first)
    assert opened(home, [False] * 4)[1]
    monkeypatch.setattr("tasks.open_iteration.parent_in", lambda *_: SimpleNamespace(model_id="another"))
    again, known = opened(home, [False] * 4)
    assert (known, again.parent, again.name) == (False, "another", "2026-11-20.2__D")


@pytest.mark.parametrize("lost", ["patients", "lineages", "refinements", "acceptances"])
def test_a_ledger_that_was_lost_is_no_fresh_start(home: Path, lost: str) -> None:
    """Plans would be made anew under the models that there are, and patients change folds."""
    paths = DatasetPaths.of("D")
    _planned(home)
    note_refinements(paths.refinements, {"uid": Refinement("case0", "new", "", None, None, False, "x")})
    note_acceptances(paths.acceptances, ["1.2.3"])
    _closed(opened(home, [False] * 4)[0])
    (DatasetPaths.of("D").ledger / f"{lost}.json").unlink()
    with pytest.raises(UserDataError, match=rf"{lost}\.json has lost what it held"):
        opened(home, [False] * 4)
    with pytest.raises(UserDataError, match="has lost what it held"):  # as before a prediction
        patients_of_test_set.fn("D", {"p-new"}, DatasetSettings(), from_outside=False)


def test_what_killed_runs_left_half_written_is_removed(home: Path) -> None:
    paths = DatasetPaths.of("D")
    name = DatedName.parse("2026-11-20__D", "D")
    assert name is not None
    left = [
        paths.store / "case1" / ".0123456789ab.tmp.nii.gz",
        paths.store / "case1" / ".scratch.0123456789ab.tmp" / "case.b2nd",
        paths.procdata / ".scratch.0123456789ab.tmp" / "x",
        paths.procdata / "iterseg-plan-x" / "plans.json",
        paths.ledger / ".cases.json.0123456789ab.tmp",
        paths.predictions("2026-11-20") / ".0123456789ab.tmp.seg.dcm",
        paths.procdata / "2026-11-20__D" / "nnUNet_results" / "fold_0" / ".0123456789ab.tmp.pth",
    ]
    whole = paths.store / "case1" / "image-0123.nii.gz"
    for file in (*left, whole):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x")
    young = paths.procdata / ".lock.json.0123456789ab.tmp"  # of who waits for the dataset's lock
    young.write_text("x")
    for path in (*left, *(file.parent for file in left)):
        os.utime(path, (time.time() - 120,) * 2)
    book.fn("D", name, {})
    assert [file for file in (*left, whole, young) if file.exists()] == [whole, young]


COUNTS = {
    *("configuration", "converter", "folds", "mask_strategy", "missing_structures", "modalities"),
    *("not_annotated", "several_rois", "test_share"),
}


def test_of_every_setting_it_is_decided_whether_a_model_learns_otherwise_by_it() -> None:
    """A new key that nobody thought of would train every dataset again."""
    assert COUNTS.isdisjoint(WITHOUT_EFFECT_ON_WHAT_IS_LEARNED)
    assert COUNTS | WITHOUT_EFFECT_ON_WHAT_IS_LEARNED.keys() == DatasetSettings.model_fields.keys()


@pytest.mark.parametrize(
    "change",
    [
        {"send_to": [{"name": "pacs", "dicomweb": "http://pacs/dicom-web"}]},
        {"review": {"strategy": "random"}},
        {"codes": {"Heart": {"type": "80891009 Heart"}}},
    ],
)
def test_what_becomes_of_predictions_trains_nothing_again(home: Path, change: dict[str, Any]) -> None:
    first = opened(home, [False] * 4)[0]
    _closed(first)
    assert opened(home, [False] * 4, **change) == (first, True)


@pytest.mark.parametrize(
    ("training", "warm", "control", "counts"),
    [
        ({"epochs_fine_tune": 7}, False, None, False),
        ({"learning_rate_fine_tune": 0.5}, False, None, False),
        ({"epochs_first": 7}, False, None, True),
        ({"learning_rate_first": 0.5}, False, None, True),
        ({"epochs_fine_tune": 7}, True, None, True),
        ({"learning_rate_fine_tune": 0.5}, True, None, True),
        ({"epochs_first": 7}, True, None, False),
        ({"learning_rate_first": 0.5}, True, None, False),
        ({"epochs_first": 7}, True, 3, False),  # of a training from scratch that may race it
        ({"control_every": 3}, True, None, False),
        ({"control_every": None}, True, 10, False),
        ({"iterations_per_epoch": 7}, False, None, True),
        ({"iterations_per_epoch": 7}, True, None, True),
        ({"mirrored": False}, False, None, True),
        ({"mirrored": False}, True, None, True),
        ({"mirrored": True}, True, None, False),
    ],
)
def test_only_what_a_training_uses_makes_it_another_one(
    training: dict[str, Any], warm: bool, control: int | None, counts: bool
) -> None:
    """Days of a training that was begun must not go for a number that it never reads."""

    def digest(**more: Any) -> str:
        settings = {**SETTINGS, "training": {"control_every": control, **more}}
        return Inputs(1, [], DatasetSettings.model_validate(settings), ROIS).digest(warm=warm)

    assert (digest(**training) != digest()) is counts


def test_which_kinds_of_segmentations_are_looked_for_trains_nothing_again(home: Path) -> None:
    """Which one counts shows in the cases."""
    first = opened(home, [False] * 4, modalities="CT,RTSTRUCT,SEG")[0]
    _closed(first)
    assert opened(home, [False] * 4, modalities="CT,SEG,RTSTRUCT") == (first, True)


def test_an_iteration_of_version_1_is_known_by_all_that_was_chosen(home: Path) -> None:
    """Else each dataset would be trained again once."""
    first = opened(home, [False] * 4)[0]
    settings = DatasetSettings.model_validate(SETTINGS)
    inputs = Inputs(first.lineage, first.cases, settings, ROIS)
    chosen = settings.model_dump(mode="json", exclude=WITHOUT_EFFECT_ON_WHAT_IS_LEARNED)
    del chosen["training"]["mirrored"]  # which could not be chosen then
    content = {"lineage": first.lineage, "cases": first.cases, "structures": ROIS.structures}
    old = replace(first, digest=digest_of({**content, "settings": chosen}))
    assert old.digest != first.digest
    assert inputs.are_of(old)
    _closed(old)
    assert opened(home, [False] * 4) == (old, True)


def test_a_lineage_does_not_change_from_ct_to_mr(home: Path) -> None:
    """Its plans say how intensities are normalised, and its weights go on from the other's."""
    _planned(home)
    _closed(opened(home, [False] * 4)[0])
    with pytest.raises(ConfigError, match="lineage 1 learns on CT, and `modalities` names MR: those are two"):
        opened(home, [False] * 4, modalities="MR,SEG")


def test_what_was_chosen_is_on_record(home: Path) -> None:
    """With the raw data it gives the labels again, whatever the files say by then."""
    _closed(opened(home, [False] * 4, surface_tolerance_mm=3.0)[0])
    (at,) = dated_folders(DatasetPaths.of("D").procdata, "D").values()
    iteration = load_iteration(IterationPaths(at))
    assert iteration is not None
    assert RoiPatterns.model_validate(iteration.choices["rois"]) == ROIS
    kept = DatasetSettings.model_validate(iteration.choices["settings"])
    assert kept == DatasetSettings.model_validate(SETTINGS | {"surface_tolerance_mm": 3.0})


def test_nothing_is_learned_while_a_snapshot_is_lost(home: Path) -> None:
    Journal(DatasetPaths.of("D").snapshots).append({"snapshot": "2026-11-19__D", "manifest_sha256": "x"})
    with pytest.raises(UserDataError, match="2026-11-19__D: on record, and not in"):
        opened(home, [False] * 4)


def test_whose_voxels_are_used_is_noted_before_anything_is_learned(home: Path) -> None:
    """Also of test cases; once, under the patient that was first."""
    store = Store(DatasetPaths.of("D").store)
    for number in range(4):
        write_image(sitk.Image(4, 3, number + 1, sitk.sitkInt16), store.image(f"case{number}", f"i{number}"))
    iteration, _ = opened(home, [False] * 4)
    paths = DatasetPaths.of("D")
    noted = load_scans(paths.scans)
    assert sorted(noted.patients.values()) == ["p0", "p1", "p2", "p3"]
    assert noted.images == {(f"case{number}", f"i{number}") for number in range(4)}
    assert iteration.ledger["scans"] == Journal(paths.scans).head()
    opened(home, [False] * 4)
    assert len(Journal(paths.scans).entries()) == 1


def test_whose_voxels_were_used_before_that_was_noted_is_noted_at_first(home: Path) -> None:
    """An earlier IterSeg learned from it; it may be withdrawn since, and come again as somebody else's."""
    paths = DatasetPaths.of("D")
    trained(paths, "2026-01-01", [case(9, 0)], 0.5)
    write_image(sitk.Image(4, 3, 2, sitk.sitkInt16), Store(paths.store).image("case9", "i"))
    _note_scans(paths, DatedName(date(2026, 11, 20), 1, "D"), [])
    assert load_scans(paths.scans).images == {("case9", "i")}
