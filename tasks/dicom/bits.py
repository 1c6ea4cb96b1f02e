"""Frames of one bit a pixel: one after the other without a gap, or each padded to whole bytes.

PS3.5 8.1.1 leaves no gap. dcmjs, and with it OHIF, pads each frame; where a frame's pixels are no multiple of
8 every frame but the first would be read from the wrong bit.
"""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset

DCMJS = {"ManufacturerModelName": "Unspecified", "SoftwareVersions": "0"}
"""What dcmjs writes of the maker of whatever it derives."""


def is_by_dcmjs(dataset: Dataset) -> bool:
    """Whether dcmjs has written it; who de-identifies may have taken the version away."""
    model, version = DCMJS.values()
    return dataset.get("ManufacturerModelName") == model and (
        (dataset.get("SoftwareVersions") or version) == version
    )


def padded_bytes(dataset: Dataset) -> int | None:
    """How long the pixels are if each frame is padded; None where they are no bits, or never differ."""
    pixels, frames = int(dataset.Rows) * int(dataset.Columns), int(dataset.get("NumberOfFrames") or 1)
    if dataset.BitsAllocated != 1 or pixels % 8 == 0 or frames == 1:
        return None
    length = frames * -(-pixels // 8)
    return length + length % 2


def close_gaps(dataset: Dataset) -> None:
    """Bring the pixels of a SEG whose frames are padded into the order of the standard, in place.

    The length tells them apart; where it does not, for a few frames with a few bits of padding, it counts
    whether dcmjs has written them.
    """
    padded = padded_bytes(dataset)
    if padded is None or len(dataset.PixelData) != padded:
        return
    pixels, frames = int(dataset.Rows) * int(dataset.Columns), int(dataset.NumberOfFrames)
    packed = -(-pixels * frames // 8)
    if packed + packed % 2 == padded and not is_by_dcmjs(dataset):
        return
    each = -(-pixels // 8)
    stored = np.frombuffer(dataset.PixelData, dtype=np.uint8)[: frames * each].reshape(frames, each)
    bits = np.unpackbits(stored, axis=1, bitorder="little")[:, :pixels]
    content = np.packbits(bits.ravel(), bitorder="little").tobytes()
    dataset.PixelData = content + b"\0" * (len(content) % 2)
