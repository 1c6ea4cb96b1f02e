"""Write DICOM SEG (PS3.3 A.51, C.8.20.2) through highdicom."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
from highdicom.color import CIELabColor
from highdicom.content import AlgorithmIdentificationSequence
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentationTypeValues, SegmentDescription
from highdicom.sr.coding import Code
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from tasks.colours import rgb_of
from tasks.dicom.frames import Frame, frames_of, is_multi_frame
from tasks.dicom.geometry import grid_of
from tasks.dicom.headers import read_dataset
from tasks.dicom.inherited import inherited_header
from tasks.dicom.predicted import MANUFACTURER
from tasks.dicom.reasons import Reason
from tasks.errors import CaseRejected

ANATOMICAL_STRUCTURE = "91723000 Anatomical Structure"


@dataclass(frozen=True)
class SegIdentity:
    """Who a SEG is; the same input gives the same UIDs, so that writing again changes nothing."""

    series_instance_uid: str
    sop_instance_uid: str
    series_number: int
    description: str
    algorithm: str | None
    """What segmented; None for a person."""
    version: str
    written: datetime | None = None
    """None: now."""
    codes: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Structure → SNOMED CT codes of category and type, as ``<number> <meaning>``."""
    tracking: Mapping[str, str] = field(default_factory=dict)
    """Structure → the UID by which its segment is known again (PS3.3 C.8.20.2); left out: made here."""


def write_seg(
    path: Path,
    image_files: Sequence[Path],
    masks: Mapping[str, NDArray[np.bool_]],
    identity: SegIdentity,
) -> None:
    """Write a BINARY SEG of masks, which may overlap, referring to the image series.

    Parameters
    ----------
    path
        The file to write; its folder exists.
    image_files
        The files of the series, in any order; or its one multi-frame file.
    masks
        Structure → (slices, rows, columns) on the series' grid, slices along its normal.
    identity
        UIDs and description.

    Raises
    ------
    CaseRejected
        Where the series' files make no grid, name no frame of reference, or are several multi-frame files.
    ValueError
        Where there is no mask, or one has another shape than the image.
    """
    frames = frames_of(image_files)
    grid, order = grid_of([frame.header for frame in frames])
    grid.require(masks)
    pixels = _pixels(masks)
    if is_multi_frame(frames):
        if len(image_files) > 1:
            raise CaseRejected(Reason.SEVERAL_FILES, f"the image has {len(image_files)} multi-frame files")
        sources = [_shared(inherited_header(image_files[0]), frames[0], grid.spacing_mm[2])]
        pixels = pixels[np.argsort(order)]
    else:
        sources = _slices([frames[position].path for position in order], grid.spacing_mm[2])
    with warnings.catch_warnings():
        # highdicom's warnings quote the patient's name.
        warnings.simplefilter("ignore")
        segmentation = Segmentation(
            source_images=sources,
            pixel_array=pixels,
            segmentation_type=SegmentationTypeValues.BINARY,
            segment_descriptions=[_describe(n, name, identity) for n, name in enumerate(masks, start=1)],
            series_instance_uid=identity.series_instance_uid,
            sop_instance_uid=identity.sop_instance_uid,
            series_number=identity.series_number,
            instance_number=1,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=identity.algorithm or "manual",
            software_versions=identity.version,
            device_serial_number=identity.version,
            series_description=identity.description,
            transfer_syntax_uid=ExplicitVRLittleEndian,
            # Where nothing was found at all, highdicom stores every frame, empty.
            omit_empty_frames=True,
        )
    if identity.written is not None:
        for part in ("InstanceCreation", "Content"):
            setattr(segmentation, f"{part}Date", identity.written.strftime("%Y%m%d"))
            setattr(segmentation, f"{part}Time", identity.written.strftime("%H%M%S"))
    segmentation.save_as(path)


def _slices(files: Sequence[Path], step_mm: float) -> list[Dataset]:
    """The headers of single slices in their order; patient and study are taken from the first."""
    first, *others = files
    sources = [inherited_header(first), *map(read_dataset, others)]
    for source in sources:
        # One rounded otherwise in the last place is another one to highdicom.
        source.ImageOrientationPatient = sources[0].ImageOrientationPatient
        # highdicom writes it into the SEG; an absent or empty one could not be read back.
        source.SliceThickness = source.get("SliceThickness") or step_mm
        # Some MR scanners write the gap between slices here, and readers take it for the step.
        source.SpacingBetweenSlices = step_mm
    return sources


def _shared(source: Dataset, frame: Frame, step_mm: float) -> Dataset:
    """The header of a multi-frame image, with orientation and distances among what its frames share.

    An image may have them in each frame (PS3.3 C.7.6.16.2.1 and .4); highdicom looks in one place.
    """
    if not source.get("SharedFunctionalGroupsSequence"):
        source.SharedFunctionalGroupsSequence = [Dataset()]
    shared = source.SharedFunctionalGroupsSequence[0]
    orientation = Dataset()
    orientation.ImageOrientationPatient = frame.header.ImageOrientationPatient
    shared.PlaneOrientationSequence = [orientation]
    of_frames = source.PerFrameFunctionalGroupsSequence[0]
    known = shared.get("PixelMeasuresSequence") or of_frames.get("PixelMeasuresSequence") or [Dataset()]
    measures = Dataset()
    measures.PixelSpacing = frame.header.PixelSpacing
    measures.SliceThickness = known[0].get("SliceThickness") or step_mm
    measures.SpacingBetweenSlices = step_mm  # as of single slices: some write the gap between them
    shared.PixelMeasuresSequence = [measures]
    return source


def _pixels(masks: Mapping[str, NDArray[np.bool_]]) -> NDArray[np.uint8]:
    """Masks as highdicom takes them.

    Returns
    -------
    Numbers of segments (slices, rows, columns), which is a third of the work; where segments overlap, or are
    too many for a byte, a plane for each as a last axis.
    """
    if len(masks) <= np.iinfo(np.uint8).max:
        numbers = np.zeros(next(iter(masks.values())).shape, dtype=np.uint8)
        for number, mask in enumerate(masks.values(), start=1):
            numbers[mask] = number
        if np.count_nonzero(numbers) == sum(int(np.count_nonzero(mask)) for mask in masks.values()):
            return numbers
    # Planes that lie one after the other in memory are added in a tenth of the time.
    return np.moveaxis(np.stack([mask.view(np.uint8) for mask in masks.values()]), 0, -1)


def _describe(number: int, name: str, identity: SegIdentity) -> SegmentDescription:
    category, kind = (_code(words) for words in identity.codes.get(name, (ANATOMICAL_STRUCTURE,) * 2))
    algorithm = None
    if identity.algorithm is not None:
        algorithm = AlgorithmIdentificationSequence(
            name=identity.algorithm,
            version=identity.version,
            family=codes.DCM.ArtificialIntelligence,
        )
    kinds = SegmentAlgorithmTypeValues
    return SegmentDescription(
        segment_number=number,
        segment_label=name,
        segmented_property_category=category,
        segmented_property_type=kind,
        algorithm_type=kinds.MANUAL if algorithm is None else kinds.AUTOMATIC,
        algorithm_identification=algorithm,
        tracking_uid=identity.tracking.get(name)
        or generate_uid(entropy_srcs=[identity.sop_instance_uid, name]),
        tracking_id=name,
        display_color=CIELabColor.from_rgb(*rgb_of(number - 1)),
    )


def _code(words: str) -> Code:
    number, meaning = words.split(" ", 1)
    return Code(number, "SCT", meaning)
