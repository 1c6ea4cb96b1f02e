"""From masks to one label map: exact, and never two structures on a voxel in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_factory import Series, ball, edit, write_rois, write_segments, write_series
from numpy.typing import NDArray
from pydicom.uid import generate_uid

from tasks.dicom.convert import LabelRules, label_map, structure_masks
from tasks.dicom.image import SeriesVolume, read_series
from tasks.dicom.reasons import Reason
from tasks.dicom.seg_writer import SegIdentity, write_seg
from tasks.errors import CaseRejected
from tasks.labels import Labels, MaskStrategy

SHAPE = (6, 20, 24)
LEFT = ball(SHAPE, (3, 8, 6), 3)
RIGHT = ball(SHAPE, (3, 10, 17), 4)
NEAR = ball(SHAPE, (3, 10, 14), 4)
PATTERNS = {"Left": ["left"], "Right": ["right"]}
RULES = LabelRules(PATTERNS)
PERSON = SegIdentity(generate_uid(), generate_uid(), 2, "drawn", None, "1")


@pytest.fixture
def series(tmp_path: Path) -> Series:
    return write_series(tmp_path / "ct", SHAPE)


@pytest.fixture
def volume(series: Series) -> SeriesVolume:
    return read_series(series.files)


@pytest.mark.parametrize("kind", ["RTSTRUCT", "SEG"])
def test_labels_follow_the_order_of_the_roi_file(
    tmp_path: Path, series: Series, volume: SeriesVolume, kind: str
) -> None:
    expected = LEFT.astype(np.uint8) + 2 * RIGHT.astype(np.uint8)
    if kind == "SEG":
        file = write_segments(tmp_path / "s.dcm", series, expected, ["LEFT", "RIGHT"])
    else:
        file = write_rois(tmp_path / "s.dcm", series, {"LEFT": LEFT, "RIGHT": RIGHT})
    image = label_map(volume, file, kind, RULES)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), expected)
    assert image.GetPixelID() == sitk.sitkUInt8
    assert image.GetSpacing() == volume.image.GetSpacing()
    reverse = {"Right": ["right"], "Left": ["left"]}
    swapped = sitk.GetArrayFromImage(label_map(volume, file, kind, LabelRules(reverse)))
    np.testing.assert_array_equal(swapped, RIGHT.astype(np.uint8) + 2 * LEFT.astype(np.uint8))


def test_overlap_is_an_error_and_named(tmp_path: Path, series: Series, volume: SeriesVolume) -> None:
    file = write_rois(tmp_path / "rt.dcm", series, {"left": RIGHT, "right": NEAR})
    shared = int((RIGHT & NEAR).sum())
    with pytest.raises(CaseRejected, match=f"overlap: 'Right' and 'Left' share {shared} voxels"):
        label_map(volume, file, "RTSTRUCT", RULES)


def test_priority_gives_the_voxel_to_the_last(tmp_path: Path, series: Series, volume: SeriesVolume) -> None:
    """As med-imagetools' `sparse_mask` does, whose configurations are carried on."""
    file = write_rois(tmp_path / "rt.dcm", series, {"left": RIGHT, "right": NEAR})
    found = sitk.GetArrayFromImage(label_map(volume, file, "RTSTRUCT", LabelRules(PATTERNS, "priority")))
    np.testing.assert_array_equal(found == 1, RIGHT & ~NEAR)
    np.testing.assert_array_equal(found == 2, NEAR)


@pytest.mark.parametrize("kind", ["RTSTRUCT", "SEG"])
def test_regions_keep_every_overlap(tmp_path: Path, series: Series, volume: SeriesVolume, kind: str) -> None:
    masks = {"left": RIGHT, "right": NEAR}
    file = write_rois(tmp_path / "s.dcm", series, masks)
    if kind == "SEG":
        identity = SegIdentity(generate_uid(), generate_uid(), 2, "test", None, "1")
        write_seg(file, series.files, masks, identity)
    found = sitk.GetArrayFromImage(label_map(volume, file, kind, LabelRules(PATTERNS, "regions")))
    np.testing.assert_array_equal(found, RIGHT.astype(np.uint8) + 2 * NEAR.astype(np.uint8))
    rules = LabelRules(PATTERNS, "regions")
    for (name, mask), expected in zip(structure_masks(volume, file, kind, rules), [RIGHT, NEAR], strict=True):
        np.testing.assert_array_equal(mask, expected, err_msg=name)


@pytest.mark.parametrize("strategy", ["label_image", "priority", "regions"])
def test_an_absent_structure_is_background(
    tmp_path: Path, series: Series, volume: SeriesVolume, strategy: MaskStrategy
) -> None:
    file = write_rois(tmp_path / "rt.dcm", series, {"left": LEFT})
    rules = LabelRules(PATTERNS, strategy, missing={"Right": "absent"})
    found = sitk.GetArrayFromImage(label_map(volume, file, "RTSTRUCT", rules))
    np.testing.assert_array_equal(found, LEFT.astype(np.uint8))


def test_a_structure_that_is_damaged_is_not_taken_for_one_that_is_absent(
    tmp_path: Path, series: Series, volume: SeriesVolume
) -> None:
    """It was drawn, and nobody can say where: as background it would be learned as such."""
    file = write_rois(tmp_path / "rt", series, {"left": LEFT, "right": RIGHT})

    def damage(ds: Any) -> None:
        (right,) = (item for item in ds.ROIContourSequence if item.ReferencedROINumber == 2)
        right.ContourSequence[0].ContourData = []

    with pytest.raises(CaseRejected, match="unreadable-segmentation: a contour of ROI 2 has"):
        label_map(volume, edit(file, damage), "RTSTRUCT", LabelRules(PATTERNS, missing={"Right": "absent"}))


@pytest.mark.parametrize("strategy", ["label_image", "priority"])
def test_where_an_unlabelled_structure_may_lie_nothing_is_background(
    tmp_path: Path, series: Series, volume: SeriesVolume, strategy: MaskStrategy
) -> None:
    file = write_rois(tmp_path / "rt.dcm", series, {"left": LEFT})
    rules = LabelRules(PATTERNS, strategy, missing={"Right": "unlabelled"})
    found = sitk.GetArrayFromImage(label_map(volume, file, "RTSTRUCT", rules))
    np.testing.assert_array_equal(found, np.where(LEFT, 1, Labels(list(PATTERNS), strategy).ignore))


def test_a_structure_that_is_drawn_is_used_whatever_was_said_of_its_absence(
    tmp_path: Path, series: Series, volume: SeriesVolume
) -> None:
    file = write_rois(tmp_path / "rt.dcm", series, {"left": LEFT, "right": RIGHT})
    rules = LabelRules(PATTERNS, missing={"Right": "unlabelled", "Left": "absent"})
    found = sitk.GetArrayFromImage(label_map(volume, file, "RTSTRUCT", rules))
    np.testing.assert_array_equal(found, LEFT + 2 * RIGHT.astype(np.uint8))


@pytest.mark.parametrize("kind", ["RTSTRUCT", "SEG"])
@pytest.mark.parametrize("strategy", ["label_image", "priority", "regions"])
def test_where_nobody_looked_nothing_is_known(
    tmp_path: Path, series: Series, volume: SeriesVolume, strategy: MaskStrategy, kind: str
) -> None:
    """Whatever lies there; and a structure that is drawn nowhere else is absent from the rest."""
    hidden = np.zeros(LEFT.shape, dtype=bool)
    hidden[LEFT.any(axis=(1, 2)).argmax()] = True  # the first slice of what was drawn
    file, masks = tmp_path / "f.dcm", {"left": LEFT, "Not annotated": hidden}
    if kind == "RTSTRUCT":
        write_rois(file, series, masks)
    else:
        write_seg(file, series.files, masks, PERSON)
    rules = LabelRules(PATTERNS, strategy, not_annotated=["not annotated"])
    found = sitk.GetArrayFromImage(label_map(volume, file, kind, rules))
    expected = np.where(hidden, Labels(list(PATTERNS), strategy).ignore, LEFT)
    np.testing.assert_array_equal(found, expected)


def test_an_empty_mark_of_what_nobody_looked_at_excuses_nothing(
    tmp_path: Path, series: Series, volume: SeriesVolume
) -> None:
    """As templates of viewers have it."""
    file, nothing = tmp_path / "f.dcm", np.zeros_like(LEFT)
    write_seg(file, series.files, {"left": LEFT, "right": nothing, "Not annotated": nothing}, PERSON)
    with pytest.raises(CaseRejected, match="empty-mask: 'Right'"):
        label_map(volume, file, "SEG", LabelRules(PATTERNS, not_annotated=["not annotated"]))


def test_an_image_at_which_nobody_looked_is_no_label(
    tmp_path: Path, series: Series, volume: SeriesVolume
) -> None:
    file = tmp_path / "f.dcm"
    write_seg(file, series.files, {"left": LEFT, "later": np.ones_like(LEFT)}, PERSON)
    with pytest.raises(CaseRejected, match="not annotated"):
        label_map(volume, file, "SEG", LabelRules(PATTERNS, not_annotated=["later"]))


@pytest.mark.parametrize(
    "missing", [{}, {"Left": "unlabelled", "Right": "unlabelled"}, {"Left": "error", "Right": "error"}]
)
def test_a_case_of_which_nothing_is_known_is_refused(
    tmp_path: Path, series: Series, volume: SeriesVolume, missing: dict[str, Any]
) -> None:
    file = write_rois(tmp_path / "rt.dcm", series, {"other": LEFT})
    with pytest.raises(CaseRejected) as caught:
        label_map(volume, file, "RTSTRUCT", LabelRules(PATTERNS, missing=missing))
    assert caught.value.reason == Reason.MISSING_ROI


def test_merged_rois_are_one_structure(tmp_path: Path, series: Series, volume: SeriesVolume) -> None:
    file = write_rois(tmp_path / "rt.dcm", series, {"GTV1": RIGHT, "GTV2": NEAR})
    found = label_map(volume, file, "RTSTRUCT", LabelRules({"GTV": ["GTV.*"]}, several_rois="merge"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found) == 1, RIGHT | NEAR)


def test_a_structure_without_a_voxel_is_refused(tmp_path: Path, series: Series, volume: SeriesVolume) -> None:
    labels = LEFT.astype(np.uint8)
    file = write_segments(tmp_path / "s.dcm", series, labels, ["left", "right"])
    with pytest.raises(CaseRejected) as caught:
        label_map(volume, file, "SEG", RULES)
    assert caught.value.reason == Reason.EMPTY_MASK


def test_an_empty_segment_is_a_structure_that_nobody_drew(
    tmp_path: Path, series: Series, volume: SeriesVolume
) -> None:
    """Viewers keep one for what was predicted to be nowhere."""
    file = write_segments(tmp_path / "s.dcm", series, LEFT.astype(np.uint8), ["left", "right"])
    found = label_map(volume, file, "SEG", LabelRules(PATTERNS, missing={"Right": "absent"}))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found), LEFT.astype(np.uint8))


def test_a_structure_that_nobody_drew_is_refused(
    tmp_path: Path, series: Series, volume: SeriesVolume
) -> None:
    empty = np.zeros(SHAPE, dtype=bool)
    file = write_rois(tmp_path / "rt.dcm", series, {"left": LEFT, "right": empty})
    with pytest.raises(CaseRejected, match="missing-roi: nothing matches 'Right'"):
        label_map(volume, file, "RTSTRUCT", RULES)


@pytest.mark.parametrize("kind", ["RTSTRUCT", "SEG"])
def test_what_was_drawn_in_another_frame_of_reference_is_refused(
    tmp_path: Path, series: Series, volume: SeriesVolume, kind: str
) -> None:
    """Coordinates of a CT burned into an MR give a mask that looks like one."""
    if kind == "SEG":
        file = write_segments(tmp_path / "s.dcm", series, LEFT.astype(int), ["left"])
        edit(file, lambda ds: setattr(ds, "FrameOfReferenceUID", "1.2.3"))
    else:
        file = write_rois(tmp_path / "s.dcm", series, {"left": LEFT})

        def move(ds: Any) -> None:
            ds.StructureSetROISequence[0].ReferencedFrameOfReferenceUID = "1.2.3"

        edit(file, move)
    with pytest.raises(CaseRejected, match=r"other-frame-of-reference"):
        label_map(volume, file, kind, LabelRules({"Left": ["left"]}))


def test_rois_that_name_no_frame_lie_in_that_of_their_set(
    tmp_path: Path, series: Series, volume: SeriesVolume
) -> None:
    file = write_rois(tmp_path / "rt.dcm", series, {"left": LEFT, "right": RIGHT})

    def change(ds: Any) -> None:
        for item in ds.StructureSetROISequence:
            del item.ReferencedFrameOfReferenceUID
        ds.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID = "1.2.3.4"

    with pytest.raises(CaseRejected, match=r"lies in 1\.2\.3\.4"):
        label_map(volume, edit(file, change), "RTSTRUCT", RULES)


def test_an_error_names_the_slice_as_a_viewer_does(tmp_path: Path) -> None:
    """Numbers run from the head here, and slices from the feet."""

    def number(k: int, ds: Any) -> None:
        ds.InstanceNumber = 100 - k

    series = write_series(tmp_path / "ct", SHAPE, change=number)
    file = write_rois(tmp_path / "rt.dcm", series, {"left": LEFT, "right": RIGHT})

    def twice(ds: Any) -> None:
        contours = ds.ROIContourSequence[0].ContourSequence
        contours.append(contours[0])

    lowest = int(np.flatnonzero(LEFT.any(axis=(1, 2)))[0])
    with pytest.raises(CaseRejected, match=f"contours that overlap, slice {100 - lowest}$"):
        label_map(read_series(series.files), edit(file, twice), "RTSTRUCT", RULES)


def planes(*drawn: int, apart: int = 0) -> NDArray[np.bool_]:
    """A square on some of twelve slices; ``apart``: on each so many pixels further."""
    mask = np.zeros((12, 20, 24), dtype=bool)
    for number, k in enumerate(drawn):
        mask[k, 4:9, 2 + number * apart : 6 + number * apart] = True
    return mask


@pytest.mark.parametrize("kind", ["RTSTRUCT", "SEG"])
@pytest.mark.parametrize(
    ("mask", "words"),
    [
        pytest.param(
            planes(2, 4, 6, 8), "with 3 gaps, such as between the slices 3 and 5", id="every second"
        ),
        pytest.param(planes(1, 4, 7, 10), "with 3 gaps", id="every third"),
        pytest.param(planes(2, 3, 5, 6, 8, 9), None, id="more often drawn than not"),
        pytest.param(planes(2, 3, 4, 6, 7), None, id="one gap"),
        pytest.param(planes(1, 5, 9, apart=6), None, id="lesions of one slice in different places"),
        pytest.param(planes(3, 4, 5, 6), None, id="every slice"),
    ],
)
def test_what_was_drawn_on_some_slices_only_is_no_label(
    tmp_path: Path, mask: NDArray[np.bool_], words: str | None, kind: str
) -> None:
    series = write_series(tmp_path / "ct", mask.shape)
    if kind == "SEG":
        file = write_segments(tmp_path / "s.dcm", series, mask.astype(int), ["left"])
    else:
        file = write_rois(tmp_path / "s.dcm", series, {"left": mask})
    volume, rules = read_series(series.files), LabelRules({"Left": ["left"]})
    if words is None:
        np.testing.assert_array_equal(sitk.GetArrayFromImage(label_map(volume, file, kind, rules)), mask)
        return
    with pytest.raises(CaseRejected, match=words) as caught:
        label_map(volume, file, kind, rules)
    assert caught.value.reason == Reason.SLICES_SKIPPED


def test_a_mark_elsewhere_excuses_no_skipped_slice(tmp_path: Path) -> None:
    mask = planes(2, 4, 6, 8)
    elsewhere = np.zeros_like(mask)
    elsewhere[-1] = True
    series = write_series(tmp_path / "ct", mask.shape)
    file = write_segments(tmp_path / "s.dcm", series, mask + 2 * elsewhere, ["left", "later"])
    rules = LabelRules({"Left": ["left"]}, not_annotated=["later"])
    with pytest.raises(CaseRejected) as caught:
        label_map(read_series(series.files), file, "SEG", rules)
    assert caught.value.reason == Reason.SLICES_SKIPPED


def test_the_slices_between_may_be_marked_as_not_annotated(tmp_path: Path) -> None:
    mask = planes(2, 4, 6, 8)
    between = np.zeros_like(mask)
    between[[3, 5, 7]] = True
    series = write_series(tmp_path / "ct", mask.shape)
    file = write_segments(tmp_path / "s.dcm", series, mask + 2 * between, ["left", "between"])
    rules = LabelRules({"Left": ["left"]}, not_annotated=["between"])
    labels = sitk.GetArrayFromImage(label_map(read_series(series.files), file, "SEG", rules))
    assert (labels[3] == 2).all()
    assert (labels[4] == mask[4]).all()
