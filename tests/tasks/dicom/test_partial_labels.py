"""Real partial labels: what was not contoured is never taught as background, what was is kept to the voxel.

The head-and-neck CTs of OpenKBP (Babier et al., Medical Physics 48, 2021), of which many lack the larynx
or the oesophagus: set ITERSEG_OPENKBP_DATA to a folder with `images/` and `labels/` (NIfTI).
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_factory import write_rois, write_series

from tasks.dicom.convert import LabelRules, label_map
from tasks.dicom.geometry import Grid
from tasks.dicom.image import read_series
from tasks.errors import CaseRejected
from tasks.labels import Labels

ROOT = os.environ.get("ITERSEG_OPENKBP_DATA")
ORGANS = ("Brainstem", "SpinalCord", "RightParotid", "LeftParotid", "Esophagus", "Larynx", "Mandible")
MAY_BE_MISSING = ("Esophagus", "Larynx")


@pytest.mark.skipif(not ROOT, reason="ITERSEG_OPENKBP_DATA names no folder")
def test_real_cases_are_background_only_where_everything_was_drawn(tmp_path: Path) -> None:
    complete = partial = rejected = 0
    for file in sorted((Path(ROOT or "") / "labels").glob("*.nii.gz")):
        truth = sitk.GetArrayFromImage(sitk.ReadImage(str(file))).astype(int)
        masks = {name: truth == n for n, name in enumerate(ORGANS, start=1) if (truth == n).any()}
        series = write_series(tmp_path / file.name, grid=Grid(truth.shape, np.eye(4)), name=file.name)
        drawn = write_rois(tmp_path / f"{file.name}.dcm", series, masks, name=f"{file.name} rt")
        missing = set(ORGANS) - masks.keys()
        patterns = {name: [name] for name in ORGANS}
        rules = LabelRules(patterns, missing=dict.fromkeys(MAY_BE_MISSING, "unlabelled"))
        if missing - set(MAY_BE_MISSING):
            with pytest.raises(CaseRejected, match="missing-roi"):
                label_map(read_series(series.files), drawn, "RTSTRUCT", rules)
            rejected += 1
            continue
        found = sitk.GetArrayFromImage(label_map(read_series(series.files), drawn, "RTSTRUCT", rules))
        ignore = Labels(list(ORGANS), "label_image").ignore
        np.testing.assert_array_equal(np.where(found == ignore, 0, found), truth)
        assert (0 in found) != bool(missing)
        assert (ignore in found) == bool(missing)
        complete, partial = complete + (not missing), partial + bool(missing)
    print(f"{complete} complete, {partial} partly labelled, {rejected} rejected")
    assert partial > 0
