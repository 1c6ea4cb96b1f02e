"""Make DICOM of the example NIfTI files. Voxels are real, headers are made up.

python data/examples/dicom_from_nifti.py data/examples/hippocampus OUT
python data/examples/dicom_from_nifti.py data/examples/hippocampus OUT --annotated 10 --rest LATER --never 6
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from tasks.dicom.geometry import Grid
from tasks.dicom.rtstruct_writer import StructureSetIdentity, write_rtstruct
from tasks.dicom.seg_writer import SegIdentity, write_seg

STRUCTURES = {"Anterior": 1, "Posterior": 2}
STUDY_DATE = "20200101"
MOST = 65535


def write_mr_series(image: sitk.Image, name: str, folder: Path) -> list[Path]:
    """Write a volume as an MR series.

    Parameters
    ----------
    image
        A 3-D image without negative values. They are rounded to whole numbers; where they do not fit 16
        bits they are scaled first, as the intensities of MR have no unit.
    name
        Gives the made-up patient and, with it, all UIDs: the same name, the same UIDs.

    Returns
    -------
    The files in the order of the slices.
    """
    image = sitk.DICOMOrient(image, "LPS")
    values = sitk.GetArrayFromImage(image).astype(np.float64)
    if values.min() < 0:
        raise ValueError(f"{name} has negative values")
    voxels = np.rint(values * MOST / max(MOST, values.max())).astype(np.uint16)
    grid = _grid(image)
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for k in range(len(voxels)):
        file = folder / f"{k + 1:03}.dcm"
        _slice(voxels[k], grid, k, name, file).save_as(file, enforce_file_format=True)
        files.append(file)
    return files


def write_segmentation(
    label: sitk.Image, image_files: list[Path], file: Path, *, kind: str, person: str = "reader 1"
) -> None:
    """Write a label map as a person's SEG or RTSTRUCT that refers to a series."""
    labels = sitk.GetArrayFromImage(sitk.DICOMOrient(label, "LPS"))
    masks = {name: labels == value for name, value in STRUCTURES.items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    uid = [str(image_files[0]), kind, person]
    series_uid, sop_uid = (generate_uid(entropy_srcs=[*uid, part]) for part in ("series", "sop"))
    if kind == "SEG":
        identity = SegIdentity(series_uid, sop_uid, 2, f"drawn by {person}", None, "1")
        write_seg(file, image_files, masks, identity)
    else:
        drawn = StructureSetIdentity(series_uid, sop_uid, person, datetime(2020, 1, 2), generation="MANUAL")
        write_rtstruct(file, image_files, masks, drawn)


def _grid(image: sitk.Image) -> Grid:
    direction = np.array(image.GetDirection()).reshape(3, 3)
    affine = np.eye(4)
    affine[:3, :3] = direction * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    columns, rows, slices = image.GetSize()
    return Grid((slices, rows, columns), affine)


def _slice(pixels: NDArray[np.uint16], grid: Grid, k: int, name: str, file: Path) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[name, str(k)])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset(file, {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
    ds.StudyInstanceUID = generate_uid(entropy_srcs=[name, "study"])
    ds.SeriesInstanceUID = generate_uid(entropy_srcs=[name, "series"])
    ds.FrameOfReferenceUID = generate_uid(entropy_srcs=[name, "frame"])
    ds.PatientID, ds.PatientName = name, f"{name}^Example"
    ds.PatientBirthDate = ds.PatientSex = ds.AccessionNumber = ds.ReferringPhysicianName = ""
    ds.StudyDate, ds.StudyTime, ds.StudyID = STUDY_DATE, "120000", "1"
    ds.SeriesDate, ds.SeriesTime, ds.SeriesNumber, ds.InstanceNumber = STUDY_DATE, "120000", 1, k + 1
    ds.Modality, ds.Manufacturer, ds.SeriesDescription = "MR", "made up", "T1 hippocampus crop"
    ds.PositionReferenceIndicator, ds.PatientPosition = "", "HFS"
    ds.ImageType = ["DERIVED", "SECONDARY"]
    ds.ScanningSequence, ds.SequenceVariant, ds.ScanOptions = "GR", "NONE", ""
    ds.MRAcquisitionType, ds.EchoTrainLength = "3D", 1
    ds.RepetitionTime = ds.EchoTime = None
    ds.ImageOrientationPatient = [round(v, 6) for v in _cosines(grid)]
    position = grid.to_patient(np.array([[0.0, 0.0, float(k)]]))[0]
    ds.ImagePositionPatient = [round(float(v), 4) for v in position]
    x, y, z = grid.spacing_mm
    ds.PixelSpacing, ds.SliceThickness, ds.SpacingBetweenSlices = [y, x], z, z
    ds.Rows, ds.Columns = pixels.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    ds.PixelData = pixels.tobytes()
    return ds


def _cosines(grid: Grid) -> list[float]:
    direction = np.array(grid.direction).reshape(3, 3)
    return [*direction[:, 0].tolist(), *direction[:, 1].tolist()]


def _pairs_of(source: Path, names: Sequence[str] | None) -> tuple[list[Path], Path]:
    """The images that are wanted, and the folder of their labels, which bear the same names."""
    suffix = "Tr" if (source / "imagesTr").is_dir() else ""
    files = sorted((source / f"images{suffix}").glob("[!.]*.nii.gz"))
    chosen = [f for f in files if names is None or f.name.removesuffix(".nii.gz") in names]
    return chosen, source / f"labels{suffix}"


def main() -> None:
    """Write every case of a folder: image, and its segmentation as SEG or RTSTRUCT in turn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("source", type=Path, help="with images/ and labels/, or imagesTr/ and labelsTr/")
    parser.add_argument("out", type=Path)
    parser.add_argument("--annotated", type=int, help="segmentations of so many cases only; default: all")
    parser.add_argument("--rest", type=Path, help="a folder for the segmentations of the others")
    parser.add_argument("--never", type=int, default=0, help="of the last so many there is none at all")
    parser.add_argument("--cases", type=Path, help="a file with the names of those to take; default: all")
    arguments = parser.parse_args()
    names = arguments.cases.read_text().split() if arguments.cases else None
    images, labels = _pairs_of(arguments.source, names)
    if not images:
        parser.error(f"there is no *.nii.gz in images/ or imagesTr/ of {arguments.source}")
    annotated = len(images) if arguments.annotated is None else arguments.annotated
    for number, file in enumerate(images):
        name = file.name.removesuffix(".nii.gz")
        files = write_mr_series(sitk.ReadImage(str(file)), name, arguments.out / name / "MR")
        kind = ("SEG", "RTSTRUCT")[number % 2]
        label = sitk.ReadImage(str(labels / file.name))
        folder = arguments.out if number < annotated else arguments.rest
        if folder is not None and number < len(images) - arguments.never:
            write_segmentation(label, files, folder / name / f"{kind}.dcm", kind=kind)
    print(f"{len(images)} cases in {arguments.out}; voxels are real, headers are made up")


if __name__ == "__main__":
    main()
