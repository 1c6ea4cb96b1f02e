"""From one nnU-Net label map to the next: prediction, SEG, a viewer's RTSTRUCT, ingest."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
import readers
import SimpleITK as sitk
from dicom_factory import edit, shapes
from numpy.typing import NDArray
from predicted_lab import Predicted, predicted
from pydicom import dcmread

from tasks.conversion import to_convert
from tasks.convert import convert_case
from tasks.ingest import take_delivery
from tasks.ledger.store import Store
from tasks.refine import recognise_refinements
from tasks.settings.dataset import load_dataset_settings, load_rois

SHAPE = (6, 20, 24)


@pytest.mark.parametrize("orientation", ["axial", "oblique"])
@pytest.mark.parametrize("name", shapes(SHAPE))
def test_no_voxel_is_lost_on_the_way_round(home: Path, tmp_path: Path, name: str, orientation: str) -> None:
    (home / "config" / "dataset_D.yaml").write_text("arrival_quiet_s: 0\nmodalities: CT,SEG,RTSTRUCT\n")
    mask = shapes(SHAPE)[name]
    lab = predicted(home, tmp_path, {"GTV": mask}, orientation)
    shown = as_a_viewer_reads(lab)
    np.testing.assert_array_equal(shown, mask)
    saved = tmp_path / "back" / "rt.dcm"
    readers.ohif_rtstruct(saved, lab.series.files, {"GTV": shown}, lab.object("seg"))
    edit(saved, lambda ds: setattr(ds, "ApprovalStatus", "APPROVED"))
    report = take_delivery.fn("D", saved.parent, date(2026, 11, 23))
    assert report["files"]["taken"] == 1, report
    assert recognise_refinements.fn("D") == {"unedited": 1}
    np.testing.assert_array_equal(as_nnunet_is_given(lab), mask)


def as_a_viewer_reads(lab: Predicted) -> NDArray[np.bool_]:
    """The segment of the SEG that was handed out on the image's slices, read by highdicom."""
    slices = [str(dcmread(file, stop_before_pixels=True).SOPInstanceUID) for file in lab.series.files]
    seg = hd.seg.segread(lab.object("seg"))
    pixels = seg.get_pixels_by_source_instance(slices, [1], assert_missing_frames_are_empty=True)
    mask: NDArray[np.bool_] = pixels[..., 0] > 0
    return mask


def as_nnunet_is_given(lab: Predicted) -> NDArray[np.bool_]:
    """The label map that training would read."""
    case = lab.case()
    assert case.state == "pending", case
    rois, settings = load_rois(lab.paths.config, "D"), load_dataset_settings(lab.paths.config, "D")
    job, store = to_convert(case, settings, rois), Store(lab.paths.store)
    convert_case(job, store, settings, rois)
    assert job.label_key is not None
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(store.label(job.case_id, job.label_key))))
    mask: NDArray[np.bool_] = labels == 1
    return mask
