"""What comes back is known for what it is, whatever the viewer has left of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from coming_back import (
    EDITED,
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
from dicom_factory import edit, without_preamble, write_rois, write_segments
from numpy.typing import NDArray
from predicted_lab import Predicted, a_model, predict, predicted
from pydicom.uid import generate_uid

from tasks.conversion import label_rules
from tasks.dicom.convert import label_map
from tasks.dicom.image import read_series
from tasks.ingest import seal_by_hand, take_delivery
from tasks.ledger.predictions import object_file
from tasks.refine import recognise_refinements
from tasks.review.surface import surface_scores
from tasks.settings.dataset import DatasetSettings, load_dataset_settings, load_rois

Mask = NDArray[np.bool_]


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


def test_a_folder_that_bears_an_earlier_day_came_after_the_prediction_all_the_same(
    lab: Predicted, tmp_path: Path
) -> None:
    """Filled by hand, and called after the day of the scan; the viewer left no trace in it."""
    folder = lab.paths.rawdata / "2026-11-19__D"
    folder.mkdir()
    ohif_seg_unedited(lab, tmp_path).rename(folder / "seg.dcm")
    seal_by_hand.fn("D")
    assert recognise_refinements.fn("D") == {"unedited": 1}


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


@pytest.mark.parametrize("what", ["provenance_of", "read_series", "structure_masks"])
def test_a_disk_that_fails_while_it_is_looked_at_fails_the_step(
    lab: Predicted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Unnoted, a prediction would be learned from as a person's work."""

    def away(*_: object) -> None:
        raise OSError(116, "Stale file handle", "/raw/DOE^JOHN/1.dcm")

    monkeypatch.setattr(f"tasks.refine.{what}", away)
    with pytest.raises(OSError, match="Stale file handle") as caught:
        comes_back(lab, ohif_seg(lab, tmp_path))
    assert "DOE" not in str(caught.value), "the message goes into Prefect's database"


def test_a_false_positive_that_was_deleted_is_work_though_another_model_saw_nothing(
    home: Path, tmp_path: Path
) -> None:
    chosen = "arrival_quiet_s: 0\nmodalities: CT,SEG,RTSTRUCT\nmissing_structures: {GTV: absent}\n"
    (home / "config" / "dataset_D.yaml").write_text(chosen)
    lab = predicted(home, tmp_path, {"GTV": np.zeros_like(TUMOUR)})
    newer = a_model(lab.paths, ["GTV"], "2026-11-21")
    record = predict(lab.paths, newer, {"GTV": TUMOUR}, lab.case())
    file = write_rois(tmp_path / "back" / "rt.dcm", lab.series, {"GTV": np.zeros_like(TUMOUR)})
    seen = object_file(lab.paths.predictions(newer.model_id), record["case_id"], "RTSTRUCT")
    series = pydicom.dcmread(seen).SeriesInstanceUID
    comes_back(lab, edit(file, lambda ds: setattr(ds, "SeriesInstanceUID", series)))
    assert (refinement(lab).kind, refinement(lab).model) == ("edited", "2026-11-21")
    assert lab.case().state == "pending"


@pytest.mark.parametrize("saved", [{"GTV": np.zeros_like(TUMOUR)}, {"Heart": TUMOUR}])
def test_that_nothing_is_there_is_a_persons_word_where_it_bears_no_trace_of_ours(
    home: Path, tmp_path: Path, saved: dict[str, Mask]
) -> None:
    """A model has said the same before, and so it looks like its prediction."""
    chosen = "arrival_quiet_s: 0\nmodalities: CT,SEG,RTSTRUCT\nmissing_structures: {GTV: absent}\n"
    (home / "config" / "dataset_D.yaml").write_text(chosen)
    lab = predicted(home, tmp_path, {"GTV": np.zeros_like(TUMOUR)})
    predict(lab.paths, a_model(lab.paths, ["GTV"], "2026-11-21"), {"GTV": TUMOUR}, lab.case())
    assert comes_back(lab, write_rois(tmp_path / "back" / "rt.dcm", lab.series, saved))["recognised"] == {
        "new": 1
    }
    assert lab.case().state == "pending"


@pytest.mark.parametrize("back", [by_hand, ohif_seg, ohif_seg_unedited])
def test_what_was_drawn_before_it_was_predicted_is_no_correction(
    lab: Predicted, tmp_path: Path, back: Callable[[Predicted, Path], Path]
) -> None:
    """A model has learned it, and predicts much the same when it is shown the scan."""
    for file in lab.paths.sent.iterdir():
        file.unlink()
    assert comes_back(lab, back(lab, tmp_path))["recognised"] == {}
    newer = a_model(lab.paths, list(MASKS), "2026-11-21")
    predict(lab.paths, newer, MASKS, lab.case())
    assert recognise_refinements.fn("D") == {"new": 1}
    assert lab.case().state == "pending"


@pytest.mark.parametrize(("drawn", "kind"), [(TUMOUR, "unedited"), (EDITED, "edited")])
def test_a_structure_that_nobody_need_draw_was_not_taken_away(
    lab: Predicted, tmp_path: Path, drawn: Mask, kind: str
) -> None:
    file = lab.paths.config / "dataset_D.yaml"
    file.write_text(f"{file.read_text()}missing_structures: {{node: unlabelled}}\n")
    back = write_segments(tmp_path / "back" / "x.dcm", lab.series, drawn.astype(np.uint8), ["GTV"])
    assert comes_back(lab, back)["recognised"] == {kind: 1}
    assert set(refinement(lab).effort) == {"GTV"}


def test_what_nobody_looked_at_cost_nothing(lab: Predicted, tmp_path: Path) -> None:
    """Only the slices that are not marked were corrected, and what was predicted on the others left out."""
    file = lab.paths.config / "dataset_D.yaml"
    file.write_text(f"{file.read_text()}not_annotated: [later]\n")
    later = np.zeros_like(TUMOUR)
    later[5:] = True
    labels = (EDITED & ~later) + 2 * (NODE & ~later) + 3 * later
    back = write_segments(tmp_path / "back" / "x.dcm", lab.series, labels, [*MASKS, "later"])
    series = pydicom.dcmread(lab.object("seg")).SeriesInstanceUID
    edit(back, lambda ds: setattr(ds, "SeriesInstanceUID", series))
    assert comes_back(lab, back)["recognised"] == {"edited": 1}
    assert refinement(lab).effort["GTV"]["edited_slices"] == 1
    assert refinement(lab).effort["node"]["unedited"]
    spacing_mm = read_series(lab.series.files).image.GetSpacing()[::-1]
    tolerance_mm = DatasetSettings().surface_tolerance_mm
    seen = surface_scores(TUMOUR & ~later, EDITED & ~later, spacing_mm, tolerance_mm, later)
    assert seen is not None and refinement(lab).effort["GTV"]["surface_dice"] == seen.surface_dice


def test_who_marks_what_nobody_looked_at_has_worked(lab: Predicted, tmp_path: Path) -> None:
    """The prediction is right where they looked: that is what is to be learned."""
    file = lab.paths.config / "dataset_D.yaml"
    file.write_text(f"{file.read_text()}not_annotated: [later]\n")
    later = np.zeros_like(TUMOUR)
    later[5:] = True
    later &= ~(TUMOUR | NODE)
    back = write_segments(tmp_path / "back" / "x.dcm", lab.series, UNEDITED + 3 * later, [*MASKS, "later"])
    assert comes_back(lab, back)["recognised"] == {"edited": 1}
    assert lab.case().state == "pending"


def test_a_structure_is_found_by_its_own_name_too(home: Path, tmp_path: Path) -> None:
    """Predictions bear it, whatever readers call what they draw themselves."""
    lab = predicted(home, tmp_path, {"Tumour": TUMOUR})
    (home / "config" / "roi_D.yaml").write_text("Tumour: GTV.*\n")
    (home / "config" / "dataset_D.yaml").write_text("arrival_quiet_s: 0\nmodalities: CT,SEG\n")
    back = write_segments(tmp_path / "back" / "x.dcm", lab.series, EDITED.astype(np.uint8), ["Tumour"])
    assert comes_back(lab, back)["recognised"] == {"edited": 1}
    case, settings = lab.case(), load_dataset_settings(lab.paths.config, "D")
    rules = label_rules(settings, load_rois(lab.paths.config, "D"))
    assert case.segmentation is not None
    labels = label_map(read_series([f.path for f in case.files]), case.segmentation.path, "SEG", rules)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(labels), EDITED)


def test_what_was_predicted_anew_is_not_what_a_reader_has_corrected(lab: Predicted, tmp_path: Path) -> None:
    """It lies where the first prediction lay: a mean over what nobody saw would say what nobody did."""
    back, case = in_our_series(lab, tmp_path), lab.case()
    file = lab.paths.config / "dataset_D.yaml"
    file.write_text(file.read_text() + "prediction: {mirroring: false}\n")
    predict(lab.paths, lab.model, {**MASKS, "node": np.roll(NODE, 2, axis=1)}, case)
    comes_back(lab, back)
    found = refinement(lab)
    assert (found.kind, found.evidence, found.model) == ("edited", "series", "2026-11-20")
    assert found.effort == {}
