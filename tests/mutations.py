"""Damage to DICOM files, as transfers, disks and other people's programs do it; seeded.

Left out is what nobody could notice: other coordinates of a contour, a contour or frame that is missing
altogether, the pixels of a SEG, and the geometry that all frames of a file share.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import generate_uid

DRAWN = (Tag("ContourData"), Tag("PixelData"))
TELLS_WHAT_WAS_DRAWN = (Tag("ContourSequence"), Tag("PerFrameFunctionalGroupsSequence"))
SHARED = Tag("SharedFunctionalGroupsSequence")
VALUES: dict[str, list[Any]] = {
    "UI": ["", "1.2.3", "../../x", "1." * 40],
    "DS": ["", "0", "-1", "1e308", "nan", "abc", "1e-9", "3.27"],
    "IS": ["", "0", "-1", "2147483647", "x"],
    "US": [0, 1, 65535, 16],
    "CS": ["", "SEG", "CT", "MR", "BINARY", "FRACTIONAL", "MONOCHROME1", "RGB", "POINT", "x" * 16],
    "LO": ["", "GTV", "../../x", "a\\b", "x" * 64, "é"],
    "FD": [0.0, -1.0, 1e300],
    "PN": ["", "A^B^C", "\x1b$B"],
}
Damage = Callable[[bytes, random.Random], bytes]


def truncate(content: bytes, rng: random.Random) -> bytes:
    """A transfer that broke off."""
    return content[: rng.randrange(len(content))]


def zero_a_block(content: bytes, rng: random.Random) -> bytes:
    """A sector that was never written, in the header."""
    start = rng.randrange(_header_end(content))
    length = min(rng.choice([1, 8, 64, 512]), _header_end(content) - start)
    return content[:start] + bytes(length) + content[start + length :]


def flip_bits(content: bytes, rng: random.Random) -> bytes:
    """Rotten bits in the header."""
    damaged = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 8])):
        damaged[rng.randrange(_header_end(content))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def insert_or_lose_bytes(content: bytes, rng: random.Random) -> bytes:
    """Everything behind it is shifted."""
    at, count = rng.randrange(len(content)), rng.choice([1, 2, 3, 4, 16])
    if rng.random() < 0.5:
        return content[:at] + content[at + count :]
    return content[:at] + rng.randbytes(count) + content[at:]


def garbage(content: bytes, rng: random.Random) -> bytes:
    """Something else under the same name."""
    return rng.choice([b"", b"\n", b"hello", b"DICM", bytes(132) + b"DICM", rng.randbytes(500)])


def delete_an_element(content: bytes, rng: random.Random) -> bytes:
    """An anonymiser that went too far."""

    def change(ds: Dataset) -> None:
        parent, tag = rng.choice([place for place in _elements(ds) if place[1] not in DRAWN])
        if tag not in TELLS_WHAT_WAS_DRAWN:
            del parent[tag]

    return _edited(content, change)


def replace_a_value(content: bytes, rng: random.Random) -> bytes:
    """An exporter with a mind of its own."""

    def change(ds: Dataset) -> None:
        places = [(p, t) for p, t in _elements(ds) if t not in DRAWN and p[t].VR in VALUES]
        parent, tag = rng.choice(places)
        element = parent[tag]
        value = rng.choice(VALUES[element.VR])
        several = isinstance(element.value, pydicom.multival.MultiValue)
        if several and rng.random() < 0.7:
            element.value[rng.randrange(len(element.value))] = value
        else:
            element.value = value

    return _edited(content, change)


def nudge_a_number(content: bytes, rng: random.Random) -> bytes:
    """A position, spacing or direction that is off by little or by much."""

    def change(ds: Dataset) -> None:
        places = [
            (p, t) for p, t in _elements(ds) if t not in DRAWN and p[t].VR in ("DS", "FD") and p[t].value
        ]
        parent, tag = rng.choice(places)
        element, factor = parent[tag], rng.choice([-1, 1.0001, 1.01, 2])
        offset = rng.choice([0, 0, 0.05, 0.3, 3.27, -3.27])
        if isinstance(element.value, pydicom.multival.MultiValue):
            n = rng.randrange(len(element.value))
            element.value[n] = f"{float(element.value[n]) * factor + offset:.6g}"
        elif element.VR == "DS":
            element.value = f"{float(element.value) * factor + offset:.6g}"
        else:
            element.value = float(element.value) * factor + offset

    return _edited(content, change)


def reorder_a_sequence(content: bytes, rng: random.Random) -> bytes:
    """Items in another order, or one of them twice."""

    def change(ds: Dataset) -> None:
        places = [(p, t) for p, t in _elements(ds) if p[t].VR == "SQ" and len(p[t].value) > 1]
        if not places:
            return
        parent, tag = rng.choice(places)
        items = list(parent[tag].value)
        # Frames follow their functional groups; in another order they are other frames.
        if tag == Tag("PerFrameFunctionalGroupsSequence") or rng.random() < 0.3:
            items.append(rng.choice(items))
        else:
            rng.shuffle(items)
        parent[tag].value = items

    return _edited(content, change)


def rename(content: bytes, rng: random.Random) -> bytes:
    """An object under another identity."""

    def change(ds: Dataset) -> None:
        keyword = rng.choice(
            ["SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "PatientID"]
        )
        setattr(ds, keyword, generate_uid(entropy_srcs=[str(rng.random())]))

    return _edited(content, change)


def claim_another_encoding(content: bytes, rng: random.Random) -> bytes:
    """A transfer syntax that the bytes do not have."""
    syntaxes = [b"1.2.840.10008.1.2\0", b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.2\0"]
    syntaxes += [b"1.2.840.10008.1.2.5\0", b"1.2.840.10008.1.2.1.99", b"1.2.840.10008.1.2.4.90"]
    start = content.find(b"\x02\x00\x10\x00UI")
    if start < 0:
        return content
    length = int.from_bytes(content[start + 6 : start + 8], "little")
    fitting = [s.ljust(length, b"\0") for s in syntaxes if len(s) <= length]
    return content[: start + 8] + rng.choice(fitting or [b"\0" * length]) + content[start + 8 + length :]


DAMAGES: list[Damage] = [
    truncate,
    zero_a_block,
    flip_bits,
    flip_bits,
    insert_or_lose_bytes,
    garbage,
    delete_an_element,
    delete_an_element,
    replace_a_value,
    replace_a_value,
    nudge_a_number,
    nudge_a_number,
    reorder_a_sequence,
    rename,
    claim_another_encoding,
]


def _header_end(content: bytes) -> int:
    """Where the first drawn value begins: behind it a changed byte is another drawing."""
    marks = [b"\x06\x30\x50\x00", b"\xe0\x7f\x10\x00"]
    found = [at for mark in marks if (at := content.find(mark)) > 0]
    return min(found, default=len(content))


def _elements(dataset: Dataset) -> Iterator[tuple[Dataset, Any]]:
    """Every element at every depth, with the dataset it stands in; a few of long sequences."""
    for element in dataset:
        if element.tag == SHARED:
            continue
        yield dataset, element.tag
        if element.VR == "SQ":
            for item in list(element.value)[:3]:
                yield from _elements(item)


def _edited(content: bytes, change: Callable[[Dataset], None]) -> bytes:
    dataset = pydicom.dcmread(io.BytesIO(content))
    try:
        change(dataset)
        target = io.BytesIO()
        dataset.save_as(target)
    except Exception:  # pydicom will not write every damage; this one is none then
        return content
    return target.getvalue()
