"""Read an image series into one volume on its own grid, never resampled."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.pixels.utils import iter_pixels

from tasks.dicom.damage import damage_rejects
from tasks.dicom.frames import Frame, frames_of, is_multi_frame
from tasks.dicom.geometry import Grid, grid_of
from tasks.dicom.headers import IMAGE_KINDS, Header, read_header
from tasks.dicom.reasons import Reason
from tasks.errors import CaseRejected, UserDataError

STORED_VALUES = 1 << 16


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
        The files in the order of the slices; a multi-frame file stands once.
    frame_of_reference_uid
        The frame of its patient coordinates; empty where the files name none.
    instances
        SOPInstanceUID of each slice; of a multi-frame image that of its file.
    numbers
        What viewers call each slice, see :func:`slice_numbers`.
    """

    image: sitk.Image
    grid: Grid
    files: list[Path]
    frame_of_reference_uid: str = ""
    instances: tuple[str, ...] = ()
    numbers: tuple[int, ...] = ()


def read_series(files: Sequence[Path]) -> SeriesVolume:
    """Read the files of one series, in whatever order they come.

    Returns
    -------
    :class:`SeriesVolume`: slices in the order of their places along the normal, voxels in stored units
    after the rescale (HU in a CT), the patient frame (LPS), mm.

    Raises
    ------
    CaseRejected
        Where the files do not make one even grid, or their pixels cannot be read.
    """
    frames = frames_of(files)
    grid, order = grid_of([frame.header for frame in frames])
    ordered = [frames[position] for position in order]
    whole_numbers = all(_whole_rescale(frame.header) for frame in frames)
    read = _decoded if is_multi_frame(frames) else _pixels
    image = read(ordered, whole_numbers=whole_numbers)
    slices, rows, columns = grid.shape
    if image.GetSize() != (columns, rows, slices):
        raise CaseRejected(Reason.UNREADABLE_PIXELS, f"pixels have the size {image.GetSize()}")
    place(image, grid)
    references = {str(frame.header.get("FrameOfReferenceUID") or "") for frame in frames}
    if len(references) > 1:
        raise CaseRejected(
            Reason.MIXED_GEOMETRY, f"slices lie in different frames of reference: {', '.join(references)}"
        )
    instances = tuple(str(frame.header.get("SOPInstanceUID") or "") for frame in ordered)
    files_in_order = list(dict.fromkeys(frame.path for frame in ordered))
    return SeriesVolume(image, grid, files_in_order, references.pop(), instances, _numbers(ordered))


def slice_numbers(files: Sequence[Path]) -> tuple[int, ...]:
    """What viewers call the slices of a series, in the order of the grid.

    InstanceNumber, and in a multi-frame file the number of the frame from 1; where files have none, or one
    twice, the place of the slice from 1.

    Raises
    ------
    CaseRejected
        Where the files do not make one even grid.
    """
    frames = frames_of(files)
    _, order = grid_of([frame.header for frame in frames])
    return _numbers([frames[position] for position in order])


def _numbers(ordered: Sequence[Frame]) -> tuple[int, ...]:
    if is_multi_frame(ordered):
        return tuple(frame.number + 1 for frame in ordered if frame.number is not None)
    numbers = tuple(n for frame in ordered if (n := _instance_number(frame.header)) is not None)
    return numbers if len(set(numbers)) == len(ordered) else tuple(range(1, len(ordered) + 1))


def _instance_number(header: Dataset) -> int | None:
    """None where there is none, or none that is a number."""
    try:
        value = header.get("InstanceNumber")
        return None if value in (None, "") else int(value)
    except (TypeError, ValueError, OverflowError):
        return None


def read_single_series(folder: str | os.PathLike[str]) -> sitk.Image:
    """Read the one image series that a folder holds, whatever else lies beside it.

    Returns
    -------
    As :func:`read_series`; its metadata have the ``Modality``.

    Raises
    ------
    UserDataError
        Where the folder holds no CT or MR series, or several: none is picked at random.
    """
    series: dict[str, dict[str, Path]] = {}
    root, kinds = Path(folder), set()
    for path, header in _image_headers(root):
        kinds.add(header.kind)
        slices = series.setdefault(header.series_instance_uid, {})
        known = slices.setdefault(header.sop_instance_uid, path)
        # A copy of a file is no second slice; another content is, and two at one place are refused.
        if known.read_bytes() != path.read_bytes():
            slices[str(path)] = path
    if len(series) != 1:
        found = ", ".join(sorted(series)) or "none"
        raise UserDataError(f"{root} must hold one CT or MR series; found {found}")
    (slices,) = series.values()
    image = read_series(list(slices.values())).image
    (kind,) = kinds
    image.SetMetaData("Modality", kind)
    return image


def image_files(root: Path) -> Iterable[Path]:
    """The CT and MR files below a folder (or the file itself), others passed over.

    Raises
    ------
    UserDataError
        Where one is damaged: it may be a slice, without which the volume would only be shorter.
    """
    return (path for path, _ in _image_headers(root))


def _image_headers(root: Path) -> Iterable[tuple[Path, Header]]:
    for path in sorted(p for p in root.rglob("*") if p.is_file()) if root.is_dir() else [root]:
        try:
            header = read_header(path, hash_patient=lambda _: "")
        except CaseRejected as error:
            if error.reason in (Reason.NO_DICOM, Reason.OTHER_KIND):
                continue
            raise UserDataError(
                f"a file in the folder cannot be used ({error}); it may be a slice. Fetch it again, or take "
                "it out if it is none"
            ) from None
        if header.kind in IMAGE_KINDS and not header.localizer:
            yield path, header


def place(image: sitk.Image, grid: Grid) -> None:
    """Give a SimpleITK image the geometry of a grid."""
    image.SetSpacing(grid.spacing_mm)
    image.SetOrigin(grid.origin_mm)
    image.SetDirection(grid.direction)


def _rescale(header: Dataset) -> tuple[float, float]:
    try:
        slope, intercept = (
            float(header.get("RescaleSlope", 1) or 0),
            float(header.get("RescaleIntercept", 0) or 0),
        )
    except (TypeError, ValueError):
        raise CaseRejected(Reason.UNREADABLE_PIXELS, "the rescale slope is no number") from None
    if not (np.isfinite(slope) and np.isfinite(intercept)) or slope == 0:
        uid = header.get("SOPInstanceUID")
        raise CaseRejected(Reason.UNREADABLE_PIXELS, f"{uid} has the rescale slope {slope}")
    return slope, intercept


def _whole_rescale(header: Dataset) -> bool:
    """Whether all values are integers, and fit into those of 32 bits whatever 16 bits are stored."""
    slope, intercept = _rescale(header)
    fits = abs(slope) * STORED_VALUES + abs(intercept) < np.iinfo(np.int32).max
    return slope.is_integer() and intercept.is_integer() and fits


def _pixels(frames: Sequence[Frame], *, whole_numbers: bool) -> sitk.Image:
    """Every slice rescaled by its own header. GDCM (in SimpleITK) knows every transfer syntax."""
    files = [frame.path for frame in frames]
    reader = sitk.ImageSeriesReader()
    # Without a type of our own the first slice decides, and cuts the values of the others.
    reader.SetOutputPixelType(sitk.sitkInt32 if whole_numbers else sitk.sitkFloat32)
    try:
        with _names_in_utf8(files) as names:
            reader.SetFileNames(names)
            image = reader.Execute()
    except RuntimeError as error:
        for file in files:
            file.read_bytes()  # where it is the disk that fails, that is what is raised
        last = str(error).strip().splitlines()[-1]
        raise CaseRejected(Reason.UNREADABLE_PIXELS, _without_paths(last, files)) from None
    return _narrow(image) if whole_numbers else image


@contextmanager
def _names_in_utf8(files: Sequence[Path]) -> Iterator[list[str]]:
    """The names of files, or of links to them: SimpleITK takes none that an old Windows has written."""
    try:
        names = [str(path) for path in files]
        "".join(names).encode()
    except UnicodeEncodeError:
        with tempfile.TemporaryDirectory(prefix="iterseg-") as folder:
            links = [Path(folder) / f"{number:06}" for number in range(len(files))]
            for link, path in zip(links, files, strict=True):
                link.symlink_to(path.absolute())
            yield [str(link) for link in links]
    else:
        yield names


def _decoded(frames: Sequence[Frame], *, whole_numbers: bool) -> sitk.Image:
    """Frames of multi-frame files, by pydicom: GDCM rescales them all by the first frame's slope."""
    header = frames[0].header
    shape = (len(frames), int(header.Rows), int(header.Columns))
    values = np.empty(shape, dtype=np.int32 if whole_numbers else np.float32)
    for path in dict.fromkeys(frame.path for frame in frames):
        here = [(k, frame) for k, frame in enumerate(frames) if frame.path == path]
        numbers = [frame.number or 0 for _, frame in here]
        with damage_rejects(Reason.UNREADABLE_PIXELS, "the frames cannot be decoded"):
            decoded = iter_pixels(path, indices=numbers)
            for (k, frame), pixels in zip(here, decoded, strict=True):
                slope, intercept = _rescale(frame.header)
                # Widened first: 16 bits overflow in silence.
                factor = int(slope) if whole_numbers else slope
                values[k] = pixels.astype(values.dtype) * factor + intercept
    image = sitk.GetImageFromArray(values)
    del values
    return _narrow(image) if whole_numbers else image


def _narrow(image: sitk.Image) -> sitk.Image:
    """int16 where the values fit: half the memory, and a sixth of the time to compress."""
    extrema = sitk.MinimumMaximumImageFilter()
    extrema.Execute(image)
    limits = np.iinfo(np.int16)
    fits = limits.min <= extrema.GetMinimum() and extrema.GetMaximum() <= limits.max
    return sitk.Cast(image, sitk.sitkInt16) if fits else image


def _without_paths(message: str, files: Sequence[Path]) -> str:
    """Source paths may be made from patients' names; they stay out of messages."""
    for path in files:
        message = message.replace(str(path), "a slice")
    return message
