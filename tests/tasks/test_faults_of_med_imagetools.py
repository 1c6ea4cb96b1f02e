"""What med-imagetools 2.16 does to masks in silence, each ending in an exact mask or a code here.

A delivery goes the whole way, from files to a label map in the store.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from conversion import ALL_KINDS, deliver
from dicom_factory import grid_for, write_rois, write_series
from imgtools_faults import (
    BOTH,
    FAULTS,
    LEFT,
    PATTERNS,
    SHAPE,
    Ends,
    a_hole_as_a_second_contour,
    drawn,
    swapped_contours,
    tilt,
)

from tasks.conversion import to_convert
from tasks.convert import convert_image
from tasks.labels import Labels
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.store import Store
from tasks.nnunet.dataset import TrainingCase, dataset_json, write_raw
from tasks.review.scores import dice
from tasks.settings.dataset import RoiPatterns
from tasks.state import state_at


def delivered(fault: Callable[[Path], Ends], folder: Path) -> tuple[Ends, dict[str, str]]:
    """A delivery with a fault: how it has to end, and the patterns of its structures."""
    folder.mkdir()
    return fault(folder), {"Left": "left"} if fault is a_hole_as_a_second_contour else PATTERNS


@pytest.mark.parametrize("fault", FAULTS)
def test_each_ends_in_an_exact_mask_or_a_code(
    home: Path, tmp_path: Path, fault: Callable[[Path], Ends]
) -> None:
    expected, patterns = delivered(fault, tmp_path / "in")
    outcome = deliver(tmp_path / "in", patterns)
    assert sum(outcome.files.values()) == sum(p.is_file() for p in (tmp_path / "in").rglob("*"))
    ((uid, case),) = outcome.images.items()
    assert (case.state, case.reason) == (expected.state, expected.reason), case.detail
    for state, count in expected.files.items():
        assert outcome.files[state] == count
    said = [str(s.reason) for s in outcome.segmentations]
    assert said == expected.segmentations or expected.reason == "several-segmentations"
    if expected.state == "done":
        np.testing.assert_array_equal(outcome.labels[uid][1], expected.labels)
    assert {p.name for p in home.iterdir()} == {"config", "data"}
    assert {p.name for p in home.parent.iterdir()} == {"home", "in"}


@pytest.mark.parametrize("fault", FAULTS)
def test_who_wants_its_masks_gets_coarse_ones_and_never_wrong_ones(
    home: Path, tmp_path: Path, fault: Callable[[Path], Ends]
) -> None:
    """`converter: imgtools` takes its masks, and holds each against what was drawn."""
    expected, patterns = delivered(fault, tmp_path / "in")
    chosen = {"converter": "imgtools", "mask_strategy": "priority", "several_rois": "merge"}
    outcome = deliver(tmp_path / "in", patterns, ALL_KINDS.model_copy(update=chosen))
    ((uid, case),) = outcome.images.items()
    if expected.state != "done":
        assert case.state != "done"
        return
    if case.state == "rejected":
        assert case.reason == "imgtools-failed", case.detail
        assert fault is not swapped_contours, "it is given them in the order that it takes for granted"
        return
    _, found = outcome.labels[uid]
    for value in np.unique(expected.labels)[1:]:
        assert dice(expected.labels == value, found == value) > 0.5  # type: ignore[operator]


@pytest.mark.parametrize("seed", range(20))
def test_an_ordinary_geometry_loses_no_voxel_and_no_unit(home: Path, tmp_path: Path, seed: int) -> None:
    """Its resampling onto the same grid lost mask voxels on 10 of 20, and 1 HU in up to 31 % of voxels."""
    rng = np.random.default_rng(seed)
    spacing = tuple(float(round(v, 6)) for v in rng.uniform(0.4, 4.0, 3))
    origin = tuple(float(round(v, 3)) for v in rng.uniform(-400, 400, 3))
    orientation = ["axial", "oblique", "sagittal", "coronal"][seed % 4]
    series = write_series(tmp_path / "in" / "ct", grid=grid_for(SHAPE, orientation, spacing, origin))
    labels = rng.integers(0, 3, SHAPE)
    write_rois(tmp_path / "in" / "rt", series, {"left": labels == 1, "right": labels == 2})
    outcome = deliver(tmp_path / "in", PATTERNS)
    uids, found = outcome.labels[series.uids["series"]]
    assert uids == [str(pydicom.dcmread(file).SOPInstanceUID) for file in series.files]
    np.testing.assert_array_equal(found, labels)
    (image,) = DatasetPaths.of("D").store.rglob("image*.nii.gz")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(image))), series.voxels)


def test_a_name_does_not_change_when_a_patient_is_added(home: Path, tmp_path: Path) -> None:
    """Its case ids are positions: a new patient renames the others, and with them their folds."""
    write_series(tmp_path / "first", SHAPE, name="m", patient="m")
    before = {case.case_id for case in deliver(tmp_path / "first", PATTERNS).images.values()}
    write_series(tmp_path / "second", SHAPE, name="a", patient="a")
    after = {case.case_id for case in deliver(tmp_path / "second", PATTERNS).images.values()}
    assert len(after) == 2
    assert before < after


def test_an_image_without_a_label_is_converted_for_prediction(home: Path, tmp_path: Path) -> None:
    series = write_series(tmp_path / "in", SHAPE)
    deliver(tmp_path / "in", PATTERNS)
    paths, rois = DatasetPaths.of("D"), RoiPatterns.model_validate(PATTERNS)
    (case,) = state_at(paths, ALL_KINDS)[0].images
    job = to_convert(case, ALL_KINDS, rois)
    convert_image(job, Store(paths.store))
    image = sitk.ReadImage(str(Store(paths.store).image(job.case_id, job.image_key)))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), series.voxels)


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_the_first_channel_is_number_0(tmp_path: Path, modality: str) -> None:
    """It writes `_0001` and channel "1" for MR, which nnU-Net reads as a second channel."""
    for name in ("image.nii.gz", "label.nii.gz"):
        (tmp_path / name).write_bytes(b"")
    case = TrainingCase("case1", tmp_path / "image.nii.gz", tmp_path / "label.nii.gz")
    description = dataset_json(modality, Labels(["GTV"], "label_image"), 1)
    write_raw(tmp_path / "raw", [case], description)
    assert description["channel_names"] == {"0": modality}
    assert [p.name for p in (tmp_path / "raw" / "imagesTr").iterdir()] == ["case1_0000.nii.gz"]


def test_what_cannot_be_converted_beside_what_can(home: Path, tmp_path: Path) -> None:
    """It answers success when every case failed; here each says how it ended."""
    good, bad = tmp_path / "in" / "good", tmp_path / "in" / "bad"
    series = drawn(good)
    other = write_series(bad / "ct", SHAPE, name="bad", change=tilt)
    write_rois(bad / "rt", write_series(tmp_path / "even", SHAPE, name="bad"), {"left": LEFT}, name="bad-rt")
    outcome = deliver(tmp_path / "in", PATTERNS)
    assert outcome.fate(series.uids["series"]) == ("done", None)
    assert outcome.fate(other.uids["series"]) == ("rejected", "gantry-tilt")
    np.testing.assert_array_equal(outcome.labels[series.uids["series"]][1], BOTH)
