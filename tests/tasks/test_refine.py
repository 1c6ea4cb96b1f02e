"""What comes back is known for what it is, whatever the viewer has left of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import readers
import SimpleITK as sitk
from dicom_factory import ball, edit, write_rois, write_segments, write_series
from predicted_lab import Predicted, a_model, predict, predicted
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from flows.prepare import set_aside_what_no_test_may_hold
from tasks.errors import UserDataError
from tasks.ingest import take_accepted, take_delivery
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.patients import extend_patients, load_patients
from tasks.ledger.predictions import label_file
from tasks.ledger.refinements import Refinement, load_refinements
from tasks.ledger.withdrawals import add_withdrawal
from tasks.predict import patients_of_test_set
from tasks.refine import accept, recognise_refinements
from tasks.settings import load_dataset_settings
from tasks.state import state_at

SHAPE = (8, 24, 28)
TUMOUR, NODE = ball(SHAPE, (4, 10, 10), 4), ball(SHAPE, (3, 18, 22), 3)
MASKS = {"GTV": TUMOUR, "node": NODE}
EDITED = TUMOUR.copy()
EDITED[4, 10:16, 10:16] = True
EDITED &= ~NODE
LABELS = EDITED + 2 * NODE
UNEDITED = TUMOUR + 2 * NODE


@pytest.fixture
def lab(home: Path, tmp_path: Path) -> Predicted:
    (home / "config" / "dataset_D.yaml").write_text("arrival_quiet_s: 0\nmodalities: CT,SEG,RTSTRUCT\n")
    return predicted(home, tmp_path, MASKS)


def comes_back(lab: Predicted, file: Path, day: int = 23) -> dict[str, Any]:
    report: dict[str, Any] = take_delivery.fn("D", file.parent, date(2026, 11, day))
    report["recognised"] = recognise_refinements.fn("D")
    return report


def refinement(lab: Predicted) -> Refinement:
    (found,) = load_refinements(lab.paths.refinements).values()
    return found


def copy_of(lab: Predicted, tmp_path: Path, ending: str, change: Callable[[Dataset], None]) -> Path:
    target = tmp_path / "back" / f"x.{ending}.dcm"
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(lab.object(ending).read_bytes())
    return edit(target, change)


def archived(lab: Predicted, tmp_path: Path) -> Path:
    """A PACS that put its own number into the study."""
    return copy_of(lab, tmp_path, "seg", lambda ds: setattr(ds, "StudyID", "4711"))


def saved_in_place(lab: Predicted, tmp_path: Path) -> Path:
    """A viewer that keeps our SOPInstanceUID."""
    file = write_segments(tmp_path / "back" / "in_place.dcm", lab.series, LABELS, list(MASKS))
    uid = pydicom.dcmread(lab.object("seg")).SOPInstanceUID

    def change(ds: Dataset) -> None:
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = uid

    return edit(file, change)


def ohif_seg(lab: Predicted, tmp_path: Path) -> Path:
    return readers.ohif_seg(tmp_path / "back" / "ohif.dcm", lab.series.files, {"GTV": EDITED, "node": NODE})


def ohif_seg_unedited(lab: Predicted, tmp_path: Path) -> Path:
    return write_segments(tmp_path / "back" / "ohif.dcm", lab.series, UNEDITED, list(MASKS))


def ohif_rtstruct(lab: Predicted, tmp_path: Path) -> Path:
    masks, sent = {"GTV": EDITED, "node": NODE}, lab.object("seg")
    return readers.ohif_rtstruct(tmp_path / "back" / "rt.dcm", lab.series.files, masks, sent)


def in_our_series(lab: Predicted, tmp_path: Path) -> Path:
    file = write_rois(tmp_path / "back" / "rt.dcm", lab.series, {"GTV": EDITED, "node": NODE})
    series = pydicom.dcmread(lab.object("rtstruct")).SeriesInstanceUID
    return edit(file, lambda ds: setattr(ds, "SeriesInstanceUID", series))


def dcmqi(lab: Predicted, tmp_path: Path) -> Path:
    return readers.dcmqi(tmp_path / "back" / "dcmqi.dcm", lab.series.files, lab.object("seg"))


def by_hand(lab: Predicted, tmp_path: Path) -> Path:
    """Somebody drew a tumour elsewhere, without having looked at the prediction."""
    elsewhere = ball(SHAPE, (4, 12, 21), 3)
    file = tmp_path / "back" / "hand.dcm"
    return write_segments(file, lab.series, elsewhere + 2 * (TUMOUR & ~elsewhere), list(MASKS))


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


def the_structure_has_another_name(lab: Predicted) -> None:
    (lab.paths.config / "roi_D.yaml").write_text("tumour: GTV\nnode: node\n")


@pytest.mark.parametrize("ending", ["seg", "rtstruct"])
@pytest.mark.parametrize(
    "meanwhile", [predictions_are_gone, predicted_in_another_way, the_structure_has_another_name]
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
    monkeypatch.setattr("flows.prepare.patients_of_test_set", patients_of_test_set.fn)
    set_aside_what_no_test_may_hold(lab.paths, settings, assembly)
    (case,) = assembly.images
    table = load_patients(lab.paths.patients)
    assert table is not None
    if in_test:
        assert (case.state, case.reason) == ("rejected", "drawn-over-prediction")
    else:
        assert (case.state, table.place[patient]) == ("pending", "training")


def test_a_prediction_of_half_an_image_cannot_be_accepted(lab: Predicted, tmp_path: Path) -> None:
    """The other half came later."""
    more = write_series(tmp_path / "more", (9, *SHAPE[1:]))
    for file in sorted(more.files)[:-1]:
        file.unlink()
    (last,) = [file for file in more.files if file.is_file()]
    edit(last, lambda ds: setattr(ds, "SOPInstanceUID", generate_uid()))
    take_delivery.fn("D", last.parent, date(2026, 11, 21))
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
