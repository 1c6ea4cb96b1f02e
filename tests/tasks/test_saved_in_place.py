"""A viewer may save what it corrected in the place of the prediction, under our UID, and do so again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coming_back import MASKS, comes_back, saved_in_place
from dicom_factory import edit, write_rois
from predicted_lab import Predicted
from receiving import with_recipe

from tasks.ingest import seal_by_hand, take_delivery
from tasks.intake import Intake
from tasks.refine import recognise_refinements


@pytest.fixture(params=[False, True])
def deidentify(request: pytest.FixtureRequest, lab: Predicted) -> bool:
    """Whether what comes in loses its identity; there is a recipe for it then."""
    if request.param:
        with_recipe(lab.paths.home)
    return bool(request.param)


@pytest.mark.parametrize("name", ["a_first.dcm", "z_last.dcm"])
def test_the_untouched_one_beside_it_does_not_hide_an_edited_one(
    lab: Predicted, tmp_path: Path, name: str, deidentify: bool
) -> None:
    """Both under our UID, in one delivery, in any order."""
    edited = saved_in_place(lab, tmp_path)
    (edited.parent / name).write_bytes(lab.object("seg").read_bytes())
    if deidentify:
        file = lab.paths.config / "dataset_D.yaml"
        file.write_text(f"{file.read_text()}deidentify_folders: true\n")
    report = comes_back(lab, edited)
    assert (report["files"]["taken"], report["reasons"]) == (1, {"own-prediction": 1})
    assert report["recognised"] == {"edited": 1}


def test_a_viewer_that_saves_in_place_may_do_so_again(
    lab: Predicted, tmp_path: Path, deidentify: bool
) -> None:
    """Both corrections bear our UID; the second is no conflict with the first, and it counts."""
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


def test_a_second_correction_in_a_folder_of_a_day_is_no_conflict(lab: Predicted, tmp_path: Path) -> None:
    """Files there stay as they are, and so it is taken as a delivery of its own."""
    first = saved_in_place(lab, tmp_path)
    take_delivery.fn("D", first.parent, date(2026, 11, 23))
    edit(first, lambda ds: setattr(ds, "ContentLabel", "AGAIN"))
    folder = lab.paths.rawdata / "2026-11-24__D"
    folder.mkdir()
    first.rename(folder / "corrected.dcm")
    reports = seal_by_hand.fn("D")
    assert [report["reasons"] for report in reports] == [{}, {}]
    assert sum(report["files"]["taken"] for report in reports) == 1
    assert recognise_refinements.fn("D") == {"edited": 2}
    assert seal_by_hand.fn("D") == []


def test_a_correction_that_is_sent_twice_to_a_receiver_is_one(lab: Predicted, tmp_path: Path) -> None:
    """It was saved in place, and lost its identity on the way in: its copy looks otherwise."""
    with_recipe(lab.paths.home)
    sent = saved_in_place(lab, tmp_path).read_bytes()
    headers = []
    for day in (23, 24):
        header, kept = Intake.of(lab.paths, deidentify_all=True).accept(sent, ".dcm", may_change=True)
        headers.append(header.sop_instance_uid)
        folder = tmp_path / f"kept-{day}"
        folder.mkdir()
        (folder / "a.dcm").write_bytes(kept)
        taken = take_delivery.fn("D", folder, date(2026, 11, day), deidentify=False)["files"].get("taken", 0)
        assert taken == (day == 23)
    assert headers[0] == headers[1]


def sent_on(ds: Any) -> None:
    ds.file_meta.ImplementationVersionName = "ARCHIVE_1"


def mended_name(ds: Any) -> None:
    ds.PatientName = "Plugh^X"


@pytest.mark.parametrize("change", [sent_on, mended_name])
def test_what_an_archive_sends_again_in_other_bytes_is_no_newer_drawing(
    lab: Predicted, tmp_path: Path, change: Callable[[Any], None], deidentify: bool
) -> None:
    """It would stand before what was corrected since."""
    drawn = write_rois(tmp_path / "one" / "rt.dcm", lab.series, MASKS)
    take_delivery.fn("D", drawn.parent, date(2026, 11, 23), deidentify)
    edited = {**MASKS, "GTV": MASKS["GTV"] & (np.arange(28) < 12)}
    corrected = write_rois(tmp_path / "two" / "rt.dcm", lab.series, edited)  # in its place
    edit(corrected, lambda ds: setattr(ds, "StructureSetTime", "120000"))
    take_delivery.fn("D", corrected.parent, date(2026, 11, 24), deidentify)
    newest = lab.case().segmentation
    assert newest is not None and newest.day == date(2026, 11, 24)
    for file in (drawn, corrected):
        edit(file, change)
        report = take_delivery.fn("D", file.parent, date(2026, 11, 25), deidentify)
        assert (report["files"]["taken"], report["files"]["duplicate"], report["reasons"]) == (0, 1, {})
    assert lab.case().segmentation == newest


def test_what_an_archive_writes_over_a_file_of_a_day_is_no_newer_drawing(
    lab: Predicted, tmp_path: Path
) -> None:
    drawn = write_rois(tmp_path / "one" / "rt.dcm", lab.series, MASKS)
    take_delivery.fn("D", drawn.parent, date(2026, 11, 23))
    folder = lab.paths.rawdata / "2026-11-24__D"
    folder.mkdir()
    edit(drawn, sent_on).rename(folder / "again.dcm")
    assert [report["files"]["taken"] for report in seal_by_hand.fn("D")] == [0]
    assert seal_by_hand.fn("D") == []
    assert lab.case().segmentation.day == date(2026, 11, 23)  # type: ignore[union-attr]


def test_a_correction_that_is_taken_back_is_the_newest_drawing(
    lab: Predicted, tmp_path: Path, deidentify: bool
) -> None:
    """In its place, under its UID: it is drawn as the first, and is no copy of it."""
    edited = {**MASKS, "GTV": MASKS["GTV"] & (np.arange(28) < 12)}
    for day, masks in ((23, MASKS), (24, edited), (25, MASKS)):
        file = write_rois(tmp_path / str(day) / "rt.dcm", lab.series, masks)
        edit(file, lambda ds, day=day: ds.update({"StructureSetTime": f"{day}0000", "InstanceNumber": day}))
        report = take_delivery.fn("D", file.parent, date(2026, 11, day), deidentify)
        assert report["files"]["taken"] == 1, day
    newest = lab.case().segmentation
    assert newest is not None
    assert newest.day == date(2026, 11, 25)


def test_one_correction_by_two_ways_is_one(lab: Predicted, tmp_path: Path) -> None:
    """The viewer's own file, and the archive's with another name of the patient, in one delivery."""
    first = write_rois(tmp_path / "one" / "rt.dcm", lab.series, MASKS)
    take_delivery.fn("D", first.parent, date(2026, 11, 23))
    edited = {**MASKS, "GTV": MASKS["GTV"] & (np.arange(28) < 12)}
    corrected = write_rois(tmp_path / "two" / "rt.dcm", lab.series, edited)
    edit(corrected, lambda ds: setattr(ds, "StructureSetTime", "120000"))
    again = corrected.with_name("of the archive.dcm")
    again.write_bytes(corrected.read_bytes())
    edit(again, mended_name)
    report = take_delivery.fn("D", corrected.parent, date(2026, 11, 24))
    assert (report["files"]["taken"], report["files"]["duplicate"], report["reasons"]) == (1, 1, {})
    assert lab.case().segmentation.day == date(2026, 11, 24)  # type: ignore[union-attr]
