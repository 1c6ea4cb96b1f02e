"""Read an image series into one volume on its own grid, never resampled."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset

from tasks.dicom.geometry import Grid, grid_of
from tasks.dicom.headers import KIND_OF_SOP_CLASS, read_header
from tasks.dicom.reasons import Reason
from tasks.errors import CaseRejected, UserDataError

GEOMETRY_TAGS = [
    "SOPClassUID",
    "SOPInstanceUID",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "PixelSpacing",
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "FrameOfReferenceUID",
    "NumberOfFrames",
    "RescaleSlope",
    "RescaleIntercept",
]


@dataclass(frozen=True)
class SeriesVolume:
    """An image series as a volume.

    Attributes
    ----------
    image
        SimpleITK image in the patient frame (LPS, mm); int16 where the values fit.
    grid
        The same grid, for rasterising contours.
    files
        The files in the order of the slices.
    frame_of_reference_uid
        The frame of its patient coordinates; empty where the files name none.
    """

    image: sitk.Image
    grid: Grid
    files: list[Path]
    frame_of_reference_uid: str = ""


def read_series(files: Sequence[Path]) -> SeriesVolume:
    """Read the files of one series.

    Raises
    ------
    CaseRejected
        Where the files do not make one even grid, or their pixels cannot be read.
    """
    headers = [_slice_header(path) for path in files]
    grid, order = grid_of(headers)
    ordered = [files[position] for position in order]
    image = _pixels(ordered, whole_numbers=all(_whole_rescale(h) for h in headers))
    slices, rows, columns = grid.shape
    if image.GetSize() != (columns, rows, slices):
        raise CaseRejected(Reason.UNREADABLE_PIXELS, f"pixels have the size {image.GetSize()}")
    place(image, grid)
    frames = {str(header.get("FrameOfReferenceUID") or "") for header in headers}
    if len(frames) > 1:
        raise CaseRejected(Reason.MIXED_GEOMETRY, "slices lie in different frames of reference")
    return SeriesVolume(image, grid, ordered, frames.pop())


def read_single_series(folder: str | os.PathLike[str]) -> sitk.Image:
    """Read the one image series that a folder holds, whatever else lies beside it.

    Raises
    ------
    UserDataError
        Where the folder holds no CT or MR series, or several: none is picked at random.
    """
    series: dict[str, dict[str, Path]] = {}
    root = Path(folder)
    for path in image_files(root):
        header = read_header(path, hash_patient=lambda _: "")
        slices = series.setdefault(header.series_instance_uid, {})
        known = slices.setdefault(header.sop_instance_uid, path)
        # A copy of a file is no second slice; another content is, and two at one place are refused.
        if known.read_bytes() != path.read_bytes():
            slices[str(path)] = path
    if len(series) != 1:
        found = ", ".join(sorted(series)) or "none"
        raise UserDataError(f"{root} must hold one CT or MR series; found {found}")
    (slices,) = series.values()
    return read_series(list(slices.values())).image


def image_files(root: Path) -> Iterable[Path]:
    """The CT and MR files below a folder (or the file itself), others passed over."""
    for path in sorted(p for p in root.rglob("*") if p.is_file()) if root.is_dir() else [root]:
        try:
            kind = read_header(path, hash_patient=lambda _: "").kind
        except CaseRejected:
            continue
        if kind in ("CT", "MR"):
            yield path


def place(image: sitk.Image, grid: Grid) -> None:
    """Give a SimpleITK image the geometry of a grid."""
    image.SetSpacing(grid.spacing_mm)
    image.SetOrigin(grid.origin_mm)
    image.SetDirection(grid.direction)


def _slice_header(path: Path) -> Dataset:
    try:
        header = pydicom.dcmread(path, specific_tags=list(GEOMETRY_TAGS), force=True)
        samples, frames = int(header.get("SamplesPerPixel") or 1), int(header.get("NumberOfFrames") or 1)
    except Exception as error:  # pydicom raises many kinds on damaged input
        raise CaseRejected(Reason.UNREADABLE, f"a slice cannot be read ({type(error).__name__})") from None
    if str(header.get("SOPClassUID")) not in KIND_OF_SOP_CLASS:
        raise CaseRejected(Reason.UNREADABLE, "a slice names no known SOP class")
    photometric = str(header.get("PhotometricInterpretation") or "none")
    if samples != 1 or frames != 1 or photometric != "MONOCHROME2":
        # GDCM inverts MONOCHROME1 and maps palettes: the values would not be those of the file.
        raise CaseRejected(Reason.NOT_GRAYSCALE, f"{photometric}, {samples} samples a pixel, {frames} frames")
    return header


def _whole_rescale(header: Dataset) -> bool:
    try:
        slope, intercept = (
            float(header.get("RescaleSlope", 1) or 0),
            float(header.get("RescaleIntercept", 0) or 0),
        )
    except (TypeError, ValueError):
        raise CaseRejected(Reason.UNREADABLE_PIXELS, "the rescale slope is no number") from None
    return slope.is_integer() and intercept.is_integer()


def _pixels(files: Sequence[Path], *, whole_numbers: bool) -> sitk.Image:
    """Every slice rescaled by its own header. GDCM (in SimpleITK) knows every transfer syntax."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(path) for path in files])
    # Without a type of our own the first slice decides, and cuts the values of the others.
    reader.SetOutputPixelType(sitk.sitkInt32 if whole_numbers else sitk.sitkFloat32)
    try:
        image = reader.Execute()
    except RuntimeError as error:
        last = str(error).strip().splitlines()[-1]
        raise CaseRejected(Reason.UNREADABLE_PIXELS, _without_paths(last, files)) from None
    values = sitk.GetArrayViewFromImage(image)
    limits = np.iinfo(np.int16)
    if whole_numbers and limits.min <= values.min() and values.max() <= limits.max:
        del values
        return sitk.Cast(image, sitk.sitkInt16)
    return image


def _without_paths(message: str, files: Sequence[Path]) -> str:
    """Source paths may be made from patients' names; they stay out of messages."""
    for path in files:
        message = message.replace(str(path), "a slice")
    return message
