"""To what a segmentation refers: the series and instances that it was drawn on, and their frame."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydicom.dataset import Dataset


def references_of(dataset: Dataset, kind: str) -> tuple[list[str], list[str]]:
    """SeriesInstanceUIDs and SOPInstanceUIDs that an RTSTRUCT or SEG names, each sorted; none of an image."""
    if kind == "RTSTRUCT":
        series, instances = list(_rtstruct_series(dataset)), list(_rtstruct_instances(dataset))
    elif kind == "SEG":
        items = dataset.get("ReferencedSeriesSequence") or []
        series = [str(item.SeriesInstanceUID) for item in items if "SeriesInstanceUID" in item]
        instances = list(_seg_instances(dataset))
    else:
        return [], []
    return sorted(set(series)), sorted(set(instances))


def _rtstruct_series(dataset: Dataset) -> Iterator[str]:
    for item in _rtstruct_series_items(dataset):
        if "SeriesInstanceUID" in item:
            yield str(item.SeriesInstanceUID)


def _rtstruct_series_items(dataset: Dataset) -> Iterator[Dataset]:
    for frame in _rtstruct_frames(dataset):
        for study in frame.get("RTReferencedStudySequence") or []:
            yield from study.get("RTReferencedSeriesSequence") or []


def _rtstruct_instances(dataset: Dataset) -> Iterator[str]:
    for series in _rtstruct_series_items(dataset):
        yield from _sop_uids(series.get("ContourImageSequence"))
    for roi in dataset.get("ROIContourSequence") or []:
        for contour in roi.get("ContourSequence") or []:
            yield from _sop_uids(contour.get("ContourImageSequence"))


def _seg_instances(dataset: Dataset) -> Iterator[str]:
    for series in dataset.get("ReferencedSeriesSequence") or []:
        yield from _sop_uids(series.get("ReferencedInstanceSequence"))
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    for group in [*shared, *(dataset.get("PerFrameFunctionalGroupsSequence") or [])]:
        for derivation in group.get("DerivationImageSequence") or []:
            yield from _sop_uids(derivation.get("SourceImageSequence"))


def _sop_uids(items: Any) -> Iterator[str]:
    for item in items or []:
        if "ReferencedSOPInstanceUID" in item:
            yield str(item.ReferencedSOPInstanceUID)


def frame_of_structure_set(dataset: Dataset) -> str:
    """An RTSTRUCT names its frame in a sequence, and at the top only by accident."""
    frames = {str(item.get("FrameOfReferenceUID") or "") for item in _rtstruct_frames(dataset)} - {""}
    return frames.pop() if len(frames) == 1 else str(dataset.get("FrameOfReferenceUID") or "")


def _rtstruct_frames(dataset: Dataset) -> list[Dataset]:
    return list(dataset.get("ReferencedFrameOfReferenceSequence") or [])
