"""DICOM for tests, made from nothing: every identity in it is made up."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    generate_uid,
)

from tasks.dicom.geometry import Grid
from tasks.dicom.rtstruct_writer import StructureSetIdentity, write_rtstruct
from tasks.dicom.seg_writer import SegIdentity, write_seg

SOP_CLASSES = {"CT": CTImageStorage, "MR": MRImageStorage}

# (row cosines, column cosines): the direction of growing column index, then of growing row index.
ORIENTATIONS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "axial": ((1, 0, 0), (0, 1, 0)),
    "axial feet first": ((-1, 0, 0), (0, 1, 0)),
    "sagittal": ((0, 1, 0), (0, 0, -1)),
    "coronal": ((1, 0, 0), (0, 0, -1)),
    "oblique": ((0.8, 0.6, 0.0), (-0.36, 0.48, 0.8)),
}


@dataclass
class Series:
    """A series that was written: its grid, and its files in the order of the slices."""

    folder: Path
    files: list[Path]
    grid: Grid
    voxels: NDArray[np.int16]
    uids: dict[str, str] = field(default_factory=dict)


def grid_for(
    shape: tuple[int, int, int],
    orientation: str = "axial",
    spacing_mm: tuple[float, float, float] = (0.9, 0.7, 2.5),
    origin_mm: tuple[float, float, float] = (-31.5, 12.25, -80.0),
) -> Grid:
    """A grid of (slices, rows, columns) with spacing (dx, dy, dz); dy differs from dx."""
    x, y = (np.array(v, dtype=float) for v in ORIENTATIONS[orientation])
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = x * spacing_mm[0], y * spacing_mm[1]
    affine[:3, 2] = np.cross(x, y) * spacing_mm[2]
    affine[:3, 3] = origin_mm
    return Grid(shape, affine)


def write_series(
    folder: Path,
    shape: tuple[int, int, int] = (6, 20, 24),
    *,
    kind: str = "CT",
    name: str = "case",
    patient: str = "P-1",
    grid: Grid | None = None,
    voxels: NDArray[np.int16] | None = None,
    change: Callable[[int, FileDataset], None] = lambda _k, _ds: None,
) -> Series:
    """Write a series; the same ``name`` gives the same UIDs.

    ``change`` may alter each slice before it is written.
    """
    grid = grid or grid_for(shape)
    if voxels is None:
        rng = np.random.default_rng(crc32(name.encode()))  # no two scans are alike
        voxels = rng.integers(-1000, 1500, grid.shape).astype(np.int16)
    folder.mkdir(parents=True, exist_ok=True)
    uids = {part: generate_uid(entropy_srcs=[name, part]) for part in ("study", "series", "frame")}
    files = []
    for k in range(grid.shape[0]):
        ds = _slice(kind, voxels[k], grid, k, name, patient, uids)
        change(k, ds)
        # File names say nothing, and their order is not that of the slices.
        file = folder / f"{generate_uid(entropy_srcs=[name, 'file', str(k)])[-12:]}"
        ds.save_as(file, enforce_file_format=True)
        files.append(file)
    return Series(folder, files, grid, voxels, uids)


def _slice(
    kind: str,
    pixels: NDArray[np.int16],
    grid: Grid,
    k: int,
    name: str,
    patient: str,
    uids: dict[str, str],
) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SOP_CLASSES[kind]
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[name, "sop", str(k)])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = SOP_CLASSES[kind], meta.MediaStorageSOPInstanceUID
    ds.StudyInstanceUID, ds.SeriesInstanceUID = uids["study"], uids["series"]
    ds.FrameOfReferenceUID, ds.Modality = uids["frame"], kind
    ds.PatientID, ds.PatientName = patient, f"{patient}^Made^Up"
    ds.PatientBirthDate = ds.PatientSex = ds.AccessionNumber = ds.StudyID = ""
    ds.StudyDate, ds.StudyTime, ds.ReferringPhysicianName = "20200101", "120000", ""
    ds.SeriesNumber, ds.InstanceNumber, ds.Manufacturer = 1, k + 1, "made up"
    direction = np.array(grid.direction).reshape(3, 3)
    ds.ImageOrientationPatient = [round(float(v), 10) for v in direction[:, :2].T.ravel()]
    position = grid.to_patient(np.array([[0.0, 0.0, float(k)]]))[0]
    ds.ImagePositionPatient = [round(float(v), 6) for v in position]
    x, y, z = grid.spacing_mm
    ds.PixelSpacing, ds.SliceThickness = [y, x], z
    ds.Rows, ds.Columns = pixels.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.RescaleSlope, ds.RescaleIntercept = 1, 0
    ds.PixelData = pixels.astype("<i2").tobytes()
    return ds


def write_rois(file: Path, series: Series, masks: dict[str, NDArray[np.bool_]], name: str = "rt") -> Path:
    """Write masks as an RTSTRUCT of a person."""
    file.parent.mkdir(parents=True, exist_ok=True)
    identity = StructureSetIdentity(
        generate_uid(entropy_srcs=[name, "series"]),
        generate_uid(entropy_srcs=[name, "sop"]),
        "test",
        datetime(2020, 1, 2),
        generation="MANUAL",
    )
    write_rtstruct(file, series.files, masks, identity)
    return file


def write_segments(
    file: Path, series: Series, labels: NDArray[np.integer], names: Sequence[str], name: str = "seg"
) -> Path:
    """Write a label map as a SEG of a person."""
    file.parent.mkdir(parents=True, exist_ok=True)
    uids = [generate_uid(entropy_srcs=[name, part]) for part in ("series", "sop")]
    masks = {name: labels == n for n, name in enumerate(names, start=1)}
    write_seg(file, series.files, masks, SegIdentity(*uids, 2, "test", None, "1"))
    return file


def edit(file: Path, change: Callable[[Any], None]) -> Path:
    """Change a DICOM file in place."""
    ds = pydicom.dcmread(file)
    change(ds)
    ds.save_as(file)
    return file


def ball(shape: tuple[int, int, int], centre: tuple[float, ...], radius: float) -> NDArray[np.bool_]:
    """A ball, in voxels."""
    index = np.indices(shape) - np.array(centre).reshape(3, 1, 1, 1)
    return np.asarray((index**2).sum(axis=0) <= radius**2)


def shapes(shape: tuple[int, int, int]) -> dict[str, NDArray[np.bool_]]:
    """Masks that readers and writers of contours get wrong."""
    slices, rows, columns = shape
    centre = (slices / 2, rows / 2, columns / 2)
    whole = ball(shape, centre, min(rows, columns) / 2.5)
    hole = ball(shape, centre, min(rows, columns) / 5)
    island = ball(shape, centre, 1.2)
    empty = np.zeros(shape, dtype=bool)

    def with_true(*index: Any) -> NDArray[np.bool_]:
        mask = empty.copy()
        mask[index] = True
        return mask

    two_holes = whole.copy()
    two_holes[:, rows // 2, columns // 2 - 3] = two_holes[:, rows // 2, columns // 2 + 3] = False
    diagonal = empty.copy()
    diagonal[2, 3, 4] = diagonal[2, 4, 5] = diagonal[2, 5, 4] = True
    return {
        "ball": whole,
        "donut": whole & ~hole,
        "island in a hole": (whole & ~hole) | island,
        "two holes in a row": two_holes,
        "one voxel": with_true(2, 7, 9),
        "a sheet of one voxel": with_true(slice(1, 4), 7, slice(3, 15)),
        "a sheet along the rows": with_true(slice(1, 4), slice(3, 15), 7),
        "several parts": with_true(2, slice(2, 5), slice(2, 5)) | with_true(2, 10, slice(12, 18)),
        "touching by corners": diagonal,
        "at the border": with_true(slice(None), slice(0, 4), slice(0, 5))
        | with_true(0, rows - 1, columns - 1),
        "everything": ~empty,
        "everything but one": ~with_true(3, 8, 8),
    }


def write_multi_frame(file: Path, series: Series, kind: str, order: Sequence[int] | None = None) -> Path:
    """The same series as one multi-frame file, made by highdicom; frames in ``order``.

    ``kind``: ``legacy CT``, ``legacy MR``, ``enhanced CT`` or ``enhanced MR``.
    """
    from highdicom.legacy import LegacyConvertedEnhancedCTImage, LegacyConvertedEnhancedMRImage

    modality = kind.split()[1]
    maker = LegacyConvertedEnhancedCTImage if modality == "CT" else LegacyConvertedEnhancedMRImage
    slices = [pydicom.dcmread(series.files[k]) for k in order or range(len(series.files))]
    for ds in slices:
        ds.SliceThickness = ds.get("SliceThickness") or 1
    uids = [generate_uid(entropy_srcs=[series.uids["series"], kind, part]) for part in ("series", "sop")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # real patients' names are seldom as highdicom likes them
        image = maker(slices, uids[0], 7, uids[1], 1)
    if kind.startswith("enhanced"):
        enhanced = {"CT": EnhancedCTImageStorage, "MR": EnhancedMRImageStorage}[modality]
        image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = enhanced
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save_as(file)
    return file


def without_preamble(file: Path, *, meta: bool) -> Path:
    """As old exports are, and as pydicom reads when it is forced to."""
    content = file.read_bytes()
    assert content[128:132] == b"DICM"
    length = pydicom.dcmread(file).file_meta.FileMetaInformationGroupLength
    file.write_bytes(content[132:] if meta else content[144 + length :])
    return file
