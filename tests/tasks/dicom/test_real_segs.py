"""Real SEG of other makers: no voxel of them is lost. Set ITERSEG_SEG_DATA to a folder of DICOM.

Such as the test data of dcmqi: a liver, five segments that overlap, a crop.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pydicom
import pytest

from tasks.dicom.headers import Header, read_header
from tasks.dicom.image import read_series
from tasks.dicom.seg import SegObject
from tasks.errors import CaseRejected

ROOT = os.environ.get("ITERSEG_SEG_DATA")


def headers(root: Path) -> dict[Path, Header]:
    found = {}
    for file in sorted(path for path in root.rglob("*") if path.is_file()):
        try:
            found[file] = read_header(file, str)
        except CaseRejected:
            continue
    return found


@pytest.mark.skipif(not ROOT, reason="ITERSEG_SEG_DATA names no folder")
def test_every_voxel_of_every_segment_is_there() -> None:
    known = headers(Path(ROOT or ""))
    images = [(file, header) for file, header in known.items() if header.kind == "CT"]
    read = 0
    for file, header in known.items():
        if header.kind != "SEG":
            continue
        own = [path for path, image in images if image.sop_instance_uid in header.referenced_instances]
        grid = read_series(own).grid
        seg, dataset = SegObject(file), pydicom.dcmread(file)
        numbers = [
            int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
            for group in dataset.PerFrameFunctionalGroupsSequence
        ]
        frames = dataset.pixel_array.reshape(len(numbers), dataset.Rows, dataset.Columns)
        for segment in seg.segments:
            stored = sum(int((frames[n] > 0).sum()) for n, m in enumerate(numbers) if m == segment.number)
            assert np.count_nonzero(seg.mask(segment, grid)) == stored > 0
            read += 1
    print(f"{read} segments")
    assert read > 0
