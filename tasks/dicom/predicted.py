"""What IterSeg writes into a prediction, and how any IterSeg knows it for one."""

from __future__ import annotations

from typing import Literal

from pydicom.dataset import Dataset

MANUFACTURER = "IterSeg"
AUTOMATIC: Literal["AUTOMATIC"] = "AUTOMATIC"
ORIGINS = (
    ("SegmentSequence", "SegmentAlgorithmType"),
    ("StructureSetROISequence", "ROIGenerationAlgorithm"),
)
"""(0062,0008) of a SEG and (3006,0036) of an RTSTRUCT: whether a person had a part in a structure."""
TELLS_PREDICTIONS = (*(keyword for _, keyword in ORIGINS), "ApprovalStatus")
"""What a de-identification keeps besides the manufacturer, so that a prediction stays one."""


def says_it_is_predicted(dataset: Dataset) -> bool:
    """Whether IterSeg, of whatever dataset or home, predicted this object, and no person stands for it.

    A viewer that saves a correction puts its own name for ours, or says that a person had a part in a
    structure, or sets ApprovalStatus (300E,0002); an object with none of it is as a model left it, for all
    that can be seen.

    Parameters
    ----------
    dataset
        The elements of a SEG or an RTSTRUCT, without pixels.
    """
    if str(dataset.get("Manufacturer") or "").strip() != MANUFACTURER or is_approved(dataset):
        return False
    origins = [
        str(item.get(keyword) or "").strip().upper()
        for sequence, keyword in ORIGINS
        for item in dataset.get(sequence) or []
    ]
    return bool(origins) and set(origins) == {AUTOMATIC}


def is_approved(dataset: Dataset) -> bool:
    """Whether a person has set ApprovalStatus (300E,0002) to APPROVED."""
    return str(dataset.get("ApprovalStatus") or "").strip().upper() == "APPROVED"
