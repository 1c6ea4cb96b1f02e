"""A prediction that a person stands for is a label, and no other is."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from coming_back import (
    NODE,
    TUMOUR,
    archived,
    by_hand,
    comes_back,
    ohif_seg,
    refinement,
)
from dicom_factory import edit
from predicted_lab import Predicted, predicted
from pydicom.uid import generate_uid

from tasks.accept import accept
from tasks.errors import UserDataError
from tasks.ingest import take_accepted
from tasks.ledger.refinements import load_refinements, note_refinements
from tasks.ledger.withdrawals import add_withdrawal
from tasks.refine import recognise_refinements


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


def test_one_that_was_saved_twice_unedited_is_one_label(lab: Predicted, tmp_path: Path) -> None:
    for number in (1, 2):
        again = edit(archived(lab, tmp_path), lambda ds: setattr(ds, "StudyID", str(number)))  # noqa: B023
        edit(again, lambda ds: setattr(ds, "SOPInstanceUID", generate_uid()))
        again.rename(again.with_name(f"{number}.dcm"))
    assert comes_back(lab, again)["recognised"] == {"unedited": 2}
    assert accept.fn("D", lab.model, [lab.record["case_id"]]) == []
    assert lab.case().state == "pending"
    third = edit(archived(lab, tmp_path), lambda ds: setattr(ds, "SOPInstanceUID", generate_uid()))
    assert comes_back(lab, third)["recognised"] == {"unedited": 1}
    assert accept.fn("D", lab.model, [lab.record["case_id"]]) == []
    assert lab.case().state == "pending"


def test_only_what_was_predicted_can_be_accepted(lab: Predicted) -> None:
    with pytest.raises(UserDataError, match="has not predicted case0"):
        accept.fn("D", lab.model, [lab.record["case_id"], "case0"])
    assert not lab.paths.acceptances.is_file()


def test_a_persons_drawing_goes_before_an_accepted_prediction(lab: Predicted, tmp_path: Path) -> None:
    """Whoever reads yesterday's page does not see that it was corrected since."""
    comes_back(lab, archived(lab, tmp_path), day=21)
    comes_back(lab, ohif_seg(lab, tmp_path), day=22)
    drawn = lab.case().segmentation
    with pytest.raises(UserDataError, match="a person has drawn it, which goes before"):
        accept.fn("D", lab.model, [lab.record["case_id"]])
    assert not lab.paths.acceptances.is_file()
    assert lab.case().segmentation == drawn is not None


def test_two_peoples_drawings_of_one_date_go_before_it_too(lab: Predicted, tmp_path: Path) -> None:
    """Neither counts; nor does what nobody has drawn."""
    one, other = ohif_seg(lab, tmp_path), by_hand(lab, tmp_path)
    assert one.parent == other.parent
    comes_back(lab, one, day=22)
    assert lab.case().reason == "several-segmentations"
    with pytest.raises(UserDataError, match="a person has drawn it"):
        accept.fn("D", lab.model, [lab.record["case_id"]])


def test_a_drawing_that_could_not_be_read_yet_goes_before_it(lab: Predicted, tmp_path: Path) -> None:
    comes_back(lab, ohif_seg(lab, tmp_path), day=22)
    ((uid, row),) = load_refinements(lab.paths.refinements).items()
    note_refinements(lab.paths.refinements, {uid: replace(row, kind="unsettled", model=None)})
    with pytest.raises(UserDataError, match="a person has drawn it"):
        accept.fn("D", lab.model, [lab.record["case_id"]])


@pytest.mark.parametrize(("choice", "words"), [("error", "nothing of node was predicted"), ("absent", None)])
def test_what_can_become_no_label_cannot_be_accepted(
    home: Path, tmp_path: Path, choice: str, words: str | None
) -> None:
    chosen = f"arrival_quiet_s: 0\nmodalities: CT,SEG,RTSTRUCT\nmissing_structures: {{node: {choice}}}\n"
    (home / "config" / "dataset_D.yaml").write_text(chosen)
    lab = predicted(home, tmp_path, {"GTV": TUMOUR, "node": np.zeros_like(NODE)})
    if words is None:
        assert len(accept.fn("D", lab.model, [lab.record["case_id"]])) == 1
        return
    with pytest.raises(UserDataError, match=words):
        accept.fn("D", lab.model, [lab.record["case_id"]])


def test_what_is_no_image_of_the_dataset_cannot_be_accepted(lab: Predicted) -> None:
    add_withdrawal(lab.paths.withdrawals, date(2026, 11, 22), [lab.record["case_id"]])
    with pytest.raises(UserDataError, match="or withdrawn from it"):
        accept.fn("D", lab.model, [lab.record["case_id"]])
    assert not lab.paths.acceptances.is_file()
