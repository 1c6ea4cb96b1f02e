"""A structure has one colour, whichever object a viewer opens."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
from dicom_factory import write_series
from highdicom.color import CIELabColor

from tasks.colours import rgb_of
from tasks.dicom.rtstruct_writer import StructureSetIdentity, write_rtstruct
from tasks.dicom.seg_writer import SegIdentity, write_seg

SHAPE = (2, 8, 16)


def test_seg_and_rtstruct_have_the_colours_of_the_pictures(tmp_path: Path) -> None:
    """Also of more structures than the palette has colours."""
    files = write_series(tmp_path / "ct", SHAPE).files
    masks = {f"organ {n}": np.zeros(SHAPE, dtype=bool) for n in range(9)}
    for number, mask in enumerate(masks.values()):
        mask[:, 2:5, number : number + 1] = True
    write_seg(tmp_path / "seg.dcm", files, masks, SegIdentity("1.2.3", "1.2.3.4", 900, "d", "IterSeg", "1"))
    identity = StructureSetIdentity("1.2.5", "1.2.5.6", "l", datetime(2026, 11, 23))
    write_rtstruct(tmp_path / "rt.dcm", files, masks, identity)
    segments = pydicom.dcmread(tmp_path / "seg.dcm").SegmentSequence
    contours = pydicom.dcmread(tmp_path / "rt.dcm").ROIContourSequence
    for number, (segment, contour) in enumerate(zip(segments, contours, strict=True)):
        assert tuple(contour.ROIDisplayColor) == rgb_of(number)
        assert tuple(segment.RecommendedDisplayCIELabValue) == CIELabColor.from_rgb(*rgb_of(number)).value
