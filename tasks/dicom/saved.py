"""Whether two files are one segmentation as somebody saved it, whatever has carried and rewritten it since.

An archive writes file meta information of its own, encodes anew, and mends a patient's name: the bytes are
others then, and the drawing is the one of that day.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from hashlib import sha256

import pydicom
from pydicom.dataelem import DataElement

from tasks.dicom.headers import AUTHORSHIP

WHEN = ("ContentDate", "ContentTime", "StructureSetDate", "StructureSetTime")
"""The drawing alone is not all: who takes a change back and saves has drawn anew, and it is the newest."""
DRAWN = (
    *("FrameOfReferenceUID", "ReferencedFrameOfReferenceSequence", "StructureSetROISequence"),
    *("ROIContourSequence", "RTROIObservationsSequence", "PredecessorStructureSetSequence"),
    *("ReferencedSeriesSequence", "SegmentationType", "SegmentSequence", "Rows", "Columns", "NumberOfFrames"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "PixelData"),
)
"""Of the modules of RT Structure Set (PS3.3 C.8.8.5 to C.8.8.8) and of Segmentation (C.8.20)."""


def digest_of_saved(content: bytes) -> str:
    """A sha256 of what was drawn, of what, by whom and when, whatever the encoding of the file.

    Compressed pixels are compared as they are; of what cannot be read to its end, the bytes.
    """
    digest = sha256()
    try:
        dataset = pydicom.dcmread(io.BytesIO(content), force=True)
        for keyword in (*AUTHORSHIP, "ApprovalStatus", *WHEN, *DRAWN):
            if keyword in dataset:
                for part in _parts(dataset[keyword]):
                    digest.update(part)
    except Exception:  # pydicom raises many kinds on what is damaged
        return sha256(content).hexdigest()
    return digest.hexdigest()


def _parts(element: DataElement) -> Iterator[bytes]:
    if element.is_empty or element.tag.is_private or element.tag.element == 0:  # 0: lengths of groups
        return
    yield f"{int(element.tag):08x}=".encode()
    if element.VR == "SQ":
        for item in element.value:
            yield b"("
            for inner in item:
                yield from _parts(inner)
            yield b")"
    elif isinstance(element.value, bytes):
        yield element.value
    else:
        yield str(element.value).encode("utf-8", "surrogateescape")
