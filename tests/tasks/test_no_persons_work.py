"""What no person has drawn becomes no label, whoever predicted it and whatever is left of that."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from coming_back import (
    MASKS,
    NODE,
    SHAPE,
    TUMOUR,
    UNEDITED,
    archived,
    comes_back,
    copy_of,
    ohif_rtstruct,
    ohif_seg,
)
from dicom_factory import ball, edit, write_segments, write_series
from predicted_lab import Predicted, a_model, predict
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from tasks.accept import accept
from tasks.errors import UserDataError
from tasks.fates import set_aside_what_no_test_may_hold
from tasks.ingest import seal_by_hand, take_delivery
from tasks.keep_test_set import patients_of_test_set
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.patients import extend_patients, load_patients
from tasks.ledger.predictions import label_file
from tasks.refine import recognise_refinements
from tasks.settings.dataset import load_dataset_settings
from tasks.state import state_at


def approved(ds: Dataset) -> None:
    ds.ApprovalStatus = "APPROVED"


def corrected(ds: Dataset) -> None:
    """As a viewer says that a person had a part in one of the structures."""
    ds.SegmentSequence[0].SegmentAlgorithmType = "SEMIAUTOMATIC"


@pytest.mark.parametrize(
    ("ending", "change", "is_label"),
    [
        ("seg", None, False),
        ("rtstruct", None, False),
        ("seg", corrected, True),
        ("rtstruct", approved, True),
    ],
)
@pytest.mark.parametrize("predicted_too", [False, True])
def test_a_prediction_of_another_dataset_is_no_persons_work_either(
    lab: Predicted,
    tmp_path: Path,
    ending: str,
    change: Callable[[Dataset], None] | None,
    is_label: bool,
    predicted_too: bool,
) -> None:
    """Two datasets look into one PACS: of what the other one has sent there nothing is on record here."""
    config = lab.paths.config
    for name in ("roi", "dataset"):
        (config / f"{name}_E.yaml").write_text((config / f"{name}_D.yaml").read_text())
    other = replace(lab, paths=DatasetPaths.of("E"))
    take_delivery.fn("E", tmp_path / "scan", date(2026, 11, 21))
    if predicted_too:  # and something else than the other one has
        model = a_model(other.paths, list(MASKS))
        predict(other.paths, model, {"GTV": NODE, "node": TUMOUR & ~NODE}, other.case())
    back = copy_of(lab, tmp_path, ending, change or (lambda _: None))
    report = take_delivery.fn("E", back.parent, date(2026, 11, 23))
    assert report["files"]["taken"] == 1
    recognise_refinements.fn("E")
    case = other.case()
    assert (case.state == "pending") is is_label, case
    if not is_label:
        assert (case.state, case.reason) == ("ignored", "unlabelled")
        settings = load_dataset_settings(config, "E")
        (aside,) = state_at(other.paths, settings)[0].segmentations
        assert (aside.state, aside.reason) == ("ignored", "own-prediction")


def one_voxel_more(ds: Dataset) -> None:
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    pixels = np.unpackbits(np.frombuffer(ds.PixelData, np.uint8), bitorder="little")
    pixels[0] ^= 1
    ds.PixelData = np.packbits(pixels, bitorder="little").tobytes()


def test_a_correction_of_ours_counts_even_where_it_says_that_it_is_ours(
    lab: Predicted, tmp_path: Path
) -> None:
    """A script that changes voxels and nothing else: here what was predicted is on record."""

    assert comes_back(lab, copy_of(lab, tmp_path, "seg", one_voxel_more))["recognised"] == {"edited": 1}
    assert lab.case().state == "pending"


def test_a_strangers_prediction_that_looks_like_ours_is_no_correction(lab: Predicted, tmp_path: Path) -> None:
    """Two datasets with the same structures: their predictions overlap."""

    def elsewhere(ds: Dataset) -> None:
        """As another dataset writes it: with UIDs of its own, and one voxel besides."""
        one_voxel_more(ds)
        ds.SeriesInstanceUID = generate_uid()
        for segment in ds.SegmentSequence:
            segment.TrackingUID = generate_uid()

    assert comes_back(lab, copy_of(lab, tmp_path, "seg", elsewhere))["recognised"] == {"edited": 1}
    assert lab.case().reason == "unlabelled"


def saved_by_a_viewer(ds: Dataset) -> None:
    """Under new UIDs, with its own name, and without a trace of ours; nobody changed a voxel."""
    ds.Manufacturer = "a viewer"
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    ds.SeriesInstanceUID = generate_uid()
    for segment in ds.get("SegmentSequence", []):
        segment.TrackingUID, segment.SegmentAlgorithmType = generate_uid(), "SEMIAUTOMATIC"


def predictions_are_gone(lab: Predicted) -> None:
    shutil.rmtree(lab.paths.predictions(lab.model.model_id))


def predicted_in_another_way(lab: Predicted) -> None:
    file = lab.paths.config / "dataset_D.yaml"
    file.write_text(f"{file.read_text()}prediction: {{mirroring: false}}\n")
    predict(lab.paths, lab.model, {"GTV": np.roll(TUMOUR, 1, axis=2), "node": NODE}, lab.case())


def made_anew_on_another_device(lab: Predicted) -> None:
    """Under the same UIDs, a voxel different."""
    predict(lab.paths, lab.model, {"GTV": np.roll(TUMOUR, 1, axis=2), "node": NODE}, lab.case())


def the_structure_has_another_name(lab: Predicted) -> None:
    (lab.paths.config / "roi_D.yaml").write_text("tumour: GTV\nnode: node\n")


@pytest.mark.parametrize("ending", ["seg", "rtstruct"])
@pytest.mark.parametrize(
    "meanwhile",
    [
        predictions_are_gone,
        predicted_in_another_way,
        made_anew_on_another_device,
        the_structure_has_another_name,
    ],
)
def test_what_nobody_changed_is_known_without_the_prediction_itself(
    lab: Predicted, tmp_path: Path, ending: str, meanwhile: Callable[[Predicted], None]
) -> None:
    """What was drawn is on record, whatever became of the files, the settings and the names."""
    back = copy_of(lab, tmp_path, ending, saved_by_a_viewer)
    meanwhile(lab)
    assert comes_back(lab, back)["recognised"] == {"unedited": 1}
    assert lab.case().reason == "unlabelled"


def test_a_structure_that_was_added_to_a_prediction_is_work(lab: Predicted, tmp_path: Path) -> None:
    """A dataset that has learned another structure since."""
    (lab.paths.config / "roi_D.yaml").write_text("GTV: GTV\nnode: node\nvessel: vessel\n")
    vessel = ball(SHAPE, (4, 20, 6), 2)
    labels = UNEDITED + 3 * vessel
    file = write_segments(tmp_path / "back" / "more.dcm", lab.series, labels, [*MASKS, "vessel"])
    series = pydicom.dcmread(lab.object("seg")).SeriesInstanceUID
    edit(file, lambda ds: setattr(ds, "SeriesInstanceUID", series))
    assert comes_back(lab, file)["recognised"] == {"edited": 1}
    assert lab.case().state == "pending"


def test_an_image_that_has_grown_since_it_was_predicted_can_be_drawn(lab: Predicted, tmp_path: Path) -> None:
    """The mask of then has fewer slices than the drawing of now."""
    label = label_file(lab.paths.predictions(lab.model.model_id), lab.record["case_id"])
    labels = sitk.ReadImage(str(label))
    sitk.WriteImage(labels[:, :, 1:], str(label))
    assert comes_back(lab, ohif_rtstruct(lab, tmp_path))["recognised"] == {"edited": 1}
    assert lab.case().state == "pending"


def test_who_puts_left_and_right_in_order_has_worked(lab: Predicted, tmp_path: Path) -> None:
    """The same masks, under the other's name."""
    swapped = write_segments(tmp_path / "back" / "x.dcm", lab.series, 2 * TUMOUR + NODE, list(MASKS))
    series = pydicom.dcmread(lab.object("seg")).SeriesInstanceUID
    edit(swapped, lambda ds: setattr(ds, "SeriesInstanceUID", series))
    assert comes_back(lab, swapped)["recognised"] == {"edited": 1}
    assert lab.case().state == "pending"


@pytest.mark.parametrize("in_test", [True, False])
def test_a_test_label_is_never_drawn_over_a_prediction(
    lab: Predicted, tmp_path: Path, in_test: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a prediction under another identity; whoever has no place yet comes into a fold."""
    patient = lab.case().patient
    if in_test:
        extend_patients(lab.paths.patients, [patient], 5, 1.0, every_fold=False)
    comes_back(lab, ohif_seg(lab, tmp_path))
    settings = load_dataset_settings(lab.paths.config, "D")
    assembly, _ = state_at(lab.paths, settings)

    def place(*given: Any, from_outside: bool) -> set[str]:
        assert from_outside, "whoever was predicted before must not be drawn for the test set"
        found: set[str] = patients_of_test_set.fn(*given, from_outside=from_outside)
        return found

    monkeypatch.setattr("tasks.fates.patients_of_test_set", place)
    set_aside_what_no_test_may_hold(lab.paths, settings, assembly)
    (case,) = assembly.images
    table = load_patients(lab.paths.patients)
    assert table is not None
    if in_test:
        assert (case.state, case.reason) == ("rejected", "drawn-over-prediction")
    else:
        assert (case.state, table.place[patient]) == ("pending", "training")


def the_other_half_comes(lab: Predicted, tmp_path: Path) -> None:
    more = write_series(tmp_path / "more", (9, *SHAPE[1:]))
    for file in sorted(more.files)[:-1]:
        file.unlink()
    (last,) = [file for file in more.files if file.is_file()]
    before = sorted(float(pydicom.dcmread(file).ImagePositionPatient[2]) for file in lab.series.files)

    def follows(ds: Dataset) -> None:
        ds.SOPInstanceUID = generate_uid()
        ds.ImagePositionPatient = [*ds.ImagePositionPatient[:2], 2 * before[-1] - before[-2]]

    edit(last, follows)
    take_delivery.fn("D", last.parent, date(2026, 11, 21))


def test_a_prediction_of_half_an_image_comes_back_as_nobodys_work(lab: Predicted, tmp_path: Path) -> None:
    """It cannot be compared with the image of now, and its missing half would be background."""
    the_other_half_comes(lab, tmp_path)
    assert comes_back(lab, archived(lab, tmp_path))["recognised"] == {"unedited": 1}
    assert lab.case().reason == "unlabelled"


def test_a_prediction_of_half_an_image_cannot_be_accepted(lab: Predicted, tmp_path: Path) -> None:
    """The other half came later."""
    the_other_half_comes(lab, tmp_path)
    with pytest.raises(UserDataError, match="has grown since it was predicted; run `iterseg predict` first"):
        accept.fn("D", lab.model, [lab.record["case_id"]])


def test_a_recipe_that_removes_the_manufacturer_does_not_make_a_label(lab: Predicted, tmp_path: Path) -> None:
    """A stranger's prediction that is de-identified as it comes in."""
    config = lab.paths.config
    for name in ("roi", "dataset"):
        (config / f"{name}_E.yaml").write_text((config / f"{name}_D.yaml").read_text())
    recipe = (Path(__file__).parents[2] / "config" / "deidentification.yaml").read_text()
    assert "  - Manufacturer\n" in recipe
    (config / "deidentification.yaml").write_text(recipe.replace("  - Manufacturer\n", ""))
    back = copy_of(lab, tmp_path, "seg", lambda _: None)
    take_delivery.fn("E", tmp_path / "scan", date(2026, 11, 21), True)
    take_delivery.fn("E", back.parent, date(2026, 11, 23), True)
    assert replace(lab, paths=DatasetPaths.of("E")).case().reason == "unlabelled"


@pytest.mark.parametrize("ending", ["seg", "rtstruct"])
def test_who_calls_what_was_found_by_the_name_of_what_was_not_has_worked(
    lab: Predicted, tmp_path: Path, ending: str
) -> None:
    """The kidney that is left after surgery, found as the other one: no voxel changes, and all is wrong."""
    file = lab.paths.config / "dataset_D.yaml"
    file.write_text(f"{file.read_text()}missing_structures: {{GTV: absent, node: absent}}\n")
    predict(lab.paths, lab.model, {"GTV": TUMOUR, "node": np.zeros_like(TUMOUR)}, lab.case())

    def put_in_order(ds: Dataset) -> None:
        saved_by_a_viewer(ds)
        other = {"GTV": "node", "node": "GTV"}
        for item in ds.get("SegmentSequence", []):
            item.SegmentLabel = other[item.SegmentLabel]
        for item in ds.get("StructureSetROISequence", []):
            item.ROIName = other[item.ROIName]

    assert comes_back(lab, copy_of(lab, tmp_path, ending, put_in_order))["recognised"] == {"new": 1}
    assert lab.case().state == "pending"


@pytest.mark.parametrize("lies_as", ["a prediction", "a copy of a label"])
def test_what_is_corrected_where_it_lay_of_no_use_in_a_sealed_folder_is_taken(
    lab: Predicted, tmp_path: Path, lies_as: str
) -> None:
    """A reader copies it there to work on it; the night seals the folder, and they save in the morning."""
    file = lab.object("seg")
    if lies_as != "a prediction":
        file = write_segments(tmp_path / "drawn" / "seg.dcm", lab.series, UNEDITED, list(MASKS))
        edit(file, lambda ds: setattr(ds, "SeriesDescription", "drawn"))
        comes_back(lab, file)
    there = lab.paths.rawdata / "2026-11-24__D" / "x.seg.dcm"
    there.parent.mkdir()
    there.write_bytes(file.read_bytes())
    (report,) = seal_by_hand.fn("D")
    assert report["files"]["taken"] == 0
    assert seal_by_hand.fn("D") == []
    there.chmod(0o644)
    there.write_bytes(ohif_seg(lab, tmp_path).read_bytes())
    later_s = (there.parent / "manifest.json").stat().st_mtime + 60
    os.utime(there, (later_s, later_s))
    (report,) = seal_by_hand.fn("D")
    assert report["files"]["taken"] == 1
    assert recognise_refinements.fn("D")["edited"] == 1
    assert seal_by_hand.fn("D") == []


def test_a_prediction_that_saw_less_than_there_must_be_takes_no_persons_place(
    lab: Predicted, tmp_path: Path
) -> None:
    """Somebody opens it after another has drawn what it lacks, and saves it as it was."""
    predict(lab.paths, lab.model, {"GTV": TUMOUR, "node": np.zeros_like(TUMOUR)}, lab.case())
    assert comes_back(lab, ohif_seg(lab, tmp_path), day=23)["files"]["taken"] == 1
    before = lab.case().segmentation
    back = tmp_path / "untouched" / "x.dcm"
    back.parent.mkdir()
    back.write_bytes(lab.object("seg").read_bytes())

    def in_our_series(ds: Dataset) -> None:
        saved_by_a_viewer(ds)
        ds.SeriesInstanceUID = pydicom.dcmread(lab.object("seg")).SeriesInstanceUID

    edit(back, in_our_series)
    assert comes_back(lab, back, day=24)["recognised"]["unedited"] == 1
    after = lab.case()
    assert (after.state, after.segmentation) == ("pending", before)
