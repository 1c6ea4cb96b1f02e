"""People who correct predictions, each with the viewer that they have."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import SimpleITK as sitk
from dicom_factory import edit
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from tasks.dicom.image import read_series
from tasks.dicom.rtstruct_writer import StructureSetIdentity, write_rtstruct
from tasks.dicom.seg_writer import SegIdentity, write_seg

BINARIES = Path(sys.executable).parent
Masks = Mapping[str, NDArray[np.bool_]]


def ohif_seg(target: Path, images: Sequence[Path], masks: Masks) -> Path:
    """A BINARY SEG with new UIDs, without codes and tracking: labels and references alone are left."""
    target.parent.mkdir(parents=True, exist_ok=True)
    write_seg(
        target, images, masks, SegIdentity(generate_uid(), generate_uid(), 4, "Segmentation", None, "1")
    )

    def change(ds: Dataset) -> None:
        for item in ds.SegmentSequence:
            del item.TrackingUID, item.TrackingID

    return edit(target, change)


def ohif_rtstruct(target: Path, images: Sequence[Path], masks: Masks, sent: Path) -> Path:
    """In the series of what was handed out, which it names as its predecessor, and "SEG" for its modality."""
    from datetime import datetime

    target.parent.mkdir(parents=True, exist_ok=True)
    identity = StructureSetIdentity(
        generate_uid(), generate_uid(), "OHIF", datetime(2026, 11, 24), generation="MANUAL"
    )
    write_rtstruct(target, images, {name: mask for name, mask in masks.items() if mask.any()}, identity)
    original = pydicom.dcmread(sent, stop_before_pixels=True)

    def change(ds: Dataset) -> None:
        reference, series, study = Dataset(), Dataset(), Dataset()
        reference.ReferencedSOPClassUID = original.SOPClassUID
        reference.ReferencedSOPInstanceUID = original.SOPInstanceUID
        series.SeriesInstanceUID, series.ReferencedSOPSequence = original.SeriesInstanceUID, [reference]
        study.StudyInstanceUID, study.ReferencedSeriesSequence = original.StudyInstanceUID, [series]
        ds.PredecessorDocumentsSequence = [study]
        ds.SeriesInstanceUID, ds.Modality = original.SeriesInstanceUID, "SEG"

    return edit(target, change)


def dcmqi(target: Path, images: Sequence[Path], sent: Path, masks: Masks | None = None) -> Path:
    """To NIfTI and back by dcmqi's own programs, which keep the tracking; ``masks``: edited in between."""
    work = target.parent.with_name(f"{target.parent.name}-dcmqi")
    work.mkdir(parents=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    out = ["--outputDirectory", work, "--outputType", "nii", "--prefix", "m", "--mergeSegments"]
    _run("segimage2itkimage", *out, "--inputDICOM", sent)
    meta: dict[str, Any] = json.loads((work / "m-meta.json").read_text())
    meta["SeriesNumber"] = str(meta.get("SeriesNumber") or 7)
    (work / "meta.json").write_text(json.dumps(meta))
    if masks is not None:
        _edit(work / "m-1.nii.gz", meta, masks, images)
    command = ["--inputImageList", work / "m-1.nii.gz", "--inputMetadata", work / "meta.json"]
    command += ["--outputDICOM", target, "--inputDICOMList", ",".join(map(str, images)), "--skip"]
    _run("itkimage2segimage", *command)
    return target


def _edit(file: Path, meta: dict[str, Any], masks: Masks, images: Sequence[Path]) -> None:
    """dcmqi writes the slices only that hold something."""
    whole = read_series(list(images)).image
    labels = np.zeros(sitk.GetArrayViewFromImage(whole).shape, dtype=np.uint8)
    for segments in meta["segmentAttributes"]:
        for segment in segments:
            labels[masks[segment["SegmentLabel"]]] = segment["labelID"]
    drawn = sitk.GetImageFromArray(labels)
    drawn.CopyInformation(whole)
    there = sitk.ReadImage(str(file))
    sitk.WriteImage(sitk.Resample(drawn, there, sitk.Transform(), sitk.sitkNearestNeighbor), str(file))


def _run(program: str, *arguments: Any) -> None:
    done = subprocess.run(
        [str(BINARIES / program), *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
