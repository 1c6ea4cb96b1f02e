"""What comes back is known for what it is, whatever the viewer has left of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pydicom
import pytest
from coming_back import (
    MASKS,
    NODE,
    TUMOUR,
    UNEDITED,
    archived,
    by_hand,
    comes_back,
    dcmqi,
    in_our_series,
    ohif_rtstruct,
    ohif_seg,
    ohif_seg_unedited,
    refinement,
    saved_in_place,
)
from dicom_factory import edit, write_rois, write_segments
from predicted_lab import Predicted, a_model, predict
from pydicom.uid import generate_uid

from tasks.errors import UserDataError
from tasks.ingest import take_accepted, take_delivery
from tasks.ledger.withdrawals import add_withdrawal
from tasks.refine import accept, recognise_refinements


@pytest.mark.parametrize(
    ("back", "kind", "evidence"),
    [
        (archived, "unedited", "instance"),
        (saved_in_place, "edited", "instance"),
        (ohif_rtstruct, "edited", "predecessor"),
        (in_our_series, "edited", "series"),
        (dcmqi, "unedited", "tracking"),
        (ohif_seg, "edited", "overlap"),
        (ohif_seg_unedited, "unedited", "overlap"),
        (by_hand, "new", ""),
    ],
)
def test_it_is_known_by_the_strongest_evidence(
    lab: Predicted,
    tmp_path: Path,
    back: Callable[[Predicted, Path], Path],
    kind: str,
    evidence: str,
) -> None:
    report = comes_back(lab, back(lab, tmp_path))
    assert report["files"]["taken"] == 1, report
    assert report["recognised"] == {kind: 1}
    found = refinement(lab)
    assert (found.kind, found.evidence, found.declared) == (kind, evidence, False)
    assert found.model == (None if kind == "new" else "2026-11-20")
    case = lab.case()
    if kind == "unedited":
        assert (case.state, case.reason, case.segmentation) == ("ignored", "unlabelled", None)
    else:
        assert case.state == "pending", case
    if kind == "edited":
        assert found.effort["GTV"]["edited_slices"] == 1
        assert not found.effort["GTV"]["unedited"]
        assert found.effort["node"]["unedited"]


def test_what_was_handed_out_is_ignored_and_needs_no_look(lab: Predicted) -> None:
    report = take_delivery.fn("D", lab.object("seg").parent, date(2026, 11, 23))
    assert report["reasons"]["own-prediction"] == 2
    assert report["files"]["taken"] == 0
    assert recognise_refinements.fn("D") == {}


@pytest.mark.parametrize("name", ["a_first.dcm", "z_last.dcm"])
@pytest.mark.parametrize("deidentify", [False, True])
def test_the_untouched_one_beside_it_does_not_hide_an_edited_one(
    lab: Predicted, tmp_path: Path, name: str, deidentify: bool
) -> None:
    """Both under our UID, in one delivery, in any order."""
    edited = saved_in_place(lab, tmp_path)
    (edited.parent / name).write_bytes(lab.object("seg").read_bytes())
    if deidentify:
        recipe = Path(__file__).parents[2] / "config" / "deidentification.yaml"
        (lab.paths.config / recipe.name).write_text(recipe.read_text())
        file = lab.paths.config / "dataset_D.yaml"
        file.write_text(f"{file.read_text()}deidentify_folders: true\n")
    report = comes_back(lab, edited)
    assert (report["files"]["taken"], report["reasons"]) == (1, {"own-prediction": 1})
    assert report["recognised"] == {"edited": 1}


def test_a_prediction_never_takes_the_place_of_a_persons_work(lab: Predicted, tmp_path: Path) -> None:
    comes_back(lab, ohif_seg(lab, tmp_path), day=22)
    edited = lab.case().segmentation
    later = tmp_path / "later"
    write_segments(later / "x.dcm", lab.series, UNEDITED, list(MASKS), name="later")
    comes_back(lab, later / "x.dcm", day=24)
    assert lab.case().segmentation == edited


def test_an_approved_structure_set_is_a_persons_word(lab: Predicted, tmp_path: Path) -> None:
    file = write_rois(tmp_path / "back" / "rt.dcm", lab.series, MASKS)
    comes_back(lab, edit(file, lambda ds: setattr(ds, "ApprovalStatus", "APPROVED")))
    found = refinement(lab)
    assert (found.kind, found.declared) == ("unedited", True)
    assert lab.case().state == "pending"


def test_whoever_accepts_a_prediction_makes_it_a_label(lab: Predicted) -> None:
    files = accept.fn("D", lab.model, [lab.record["case_id"]])
    take_accepted.fn("D", files, date(2026, 11, 23))
    assert recognise_refinements.fn("D") == {"unedited": 1}
    assert refinement(lab).declared
    assert lab.case().state == "pending"
    assert all(figures["unedited"] for figures in refinement(lab).effort.values())


def test_one_that_came_back_unedited_may_be_accepted_afterwards(lab: Predicted, tmp_path: Path) -> None:
    comes_back(lab, archived(lab, tmp_path))
    assert lab.case().state == "ignored"
    assert accept.fn("D", lab.model, [lab.record["case_id"]]) == []
    assert lab.case().state == "pending"


def test_only_what_was_predicted_can_be_accepted(lab: Predicted) -> None:
    with pytest.raises(UserDataError, match="has not predicted case0"):
        accept.fn("D", lab.model, [lab.record["case_id"], "case0"])
    assert not lab.paths.acceptances.is_file()


def test_of_two_models_the_one_whose_prediction_was_corrected_is_named(
    lab: Predicted, tmp_path: Path
) -> None:
    newer = a_model(lab.paths, list(MASKS), "2026-11-21")
    shifted = {"GTV": np.roll(TUMOUR, 3, axis=2), "node": NODE}
    predict(lab.paths, newer, shifted, lab.case())
    comes_back(lab, ohif_seg(lab, tmp_path))
    assert refinement(lab).model == "2026-11-20"


def test_nothing_is_looked_at_twice(lab: Predicted, tmp_path: Path) -> None:
    comes_back(lab, ohif_seg(lab, tmp_path))
    assert recognise_refinements.fn("D") == {}


def test_a_segmentation_that_cannot_be_read_is_left_to_prepare(lab: Predicted, tmp_path: Path) -> None:
    file = ohif_seg(lab, tmp_path)
    edit(file, lambda ds: setattr(ds.SegmentSequence[0], "SegmentLabel", "something else"))
    edit(file, lambda ds: setattr(ds, "SOPInstanceUID", generate_uid()))
    assert comes_back(lab, file)["recognised"] == {}
    assert lab.case().state == "pending"  # and rejected by its conversion, with the reason


def without_preamble(file: Path, *, meta: bool) -> Path:
    """As old exports are, and as pydicom reads when it is forced to."""
    content = file.read_bytes()
    assert content[128:132] == b"DICM"
    length = pydicom.dcmread(file).file_meta.FileMetaInformationGroupLength
    file.write_bytes(content[132:] if meta else content[144 + length :])
    return file


@pytest.mark.parametrize("back", [ohif_rtstruct, ohif_seg])
@pytest.mark.parametrize("meta", [True, False])
def test_without_a_preamble_it_is_known_too(
    lab: Predicted, tmp_path: Path, back: Callable[[Predicted, Path], Path], meta: bool
) -> None:
    report = comes_back(lab, without_preamble(back(lab, tmp_path), meta=meta))
    assert report["recognised"] == {"edited": 1}
    assert lab.case().state == "pending"


def test_an_object_that_breaks_the_look_stops_nobody(
    lab: Predicted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is sealed by then: every later ingest would fail too."""

    def broken(_: Path) -> None:
        raise RuntimeError("DOE^JOHN")

    monkeypatch.setattr("tasks.refine.provenance_of", broken)
    assert comes_back(lab, ohif_seg(lab, tmp_path))["recognised"] == {"unsettled": 1}
    assert "RuntimeError in broken" in caplog.text
    assert "DOE" not in caplog.text
    assert lab.case().state != "pending", "it may be a prediction"
    monkeypatch.undo()
    monkeypatch.setenv("ITERSEG_HOME", str(lab.paths.home))
    assert recognise_refinements.fn("D") == {"edited": 1}
    assert lab.case().state == "pending"


def test_a_disk_that_fails_while_it_is_looked_at_fails_the_step(
    lab: Predicted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unnoted, a prediction would be learned from as a person's work."""

    def away(_: Path) -> None:
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr("tasks.refine.provenance_of", away)
    with pytest.raises(OSError, match="Stale file handle"):
        comes_back(lab, ohif_seg(lab, tmp_path))


def test_what_is_no_image_of_the_dataset_cannot_be_accepted(lab: Predicted) -> None:
    add_withdrawal(lab.paths.withdrawals, date(2026, 11, 22), [lab.record["case_id"]])
    with pytest.raises(UserDataError, match="or withdrawn from it"):
        accept.fn("D", lab.model, [lab.record["case_id"]])
    assert not lab.paths.acceptances.is_file()


@pytest.mark.parametrize("deidentify", [False, True])
def test_a_viewer_that_saves_in_place_may_do_so_again(
    lab: Predicted, tmp_path: Path, deidentify: bool
) -> None:
    """Both corrections bear our UID; the second is no conflict with the first, and it counts."""
    if deidentify:
        recipe = Path(__file__).parents[2] / "config" / "deidentification.yaml"
        (lab.paths.config / recipe.name).write_text(recipe.read_text())
    first = saved_in_place(lab, tmp_path)
    take_delivery.fn("D", first.parent, date(2026, 11, 23), deidentify)
    assert recognise_refinements.fn("D") == {"edited": 1}
    before = lab.case().segmentation
    edit(first, lambda ds: setattr(ds, "ContentLabel", "AGAIN"))
    report = take_delivery.fn("D", first.parent, date(2026, 11, 24), deidentify)
    assert (report["files"]["taken"], report["reasons"]) == (1, {})
    assert recognise_refinements.fn("D") == {"edited": 1}
    after = lab.case()
    assert after.state == "pending"
    assert before is not None and after.segmentation is not None
    assert after.segmentation.header.sop_instance_uid != before.header.sop_instance_uid
    again = take_delivery.fn("D", first.parent, date(2026, 11, 24), deidentify)
    assert again["files"]["taken"] == 0, "the same file is known by its content"
