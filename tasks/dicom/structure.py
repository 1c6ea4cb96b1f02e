"""Whether a DICOM stream is whole: every element, item and fragment ends where its length says.

pydicom reads past damage: a file that was cut inside a sequence comes back with fewer items and no
error, and an RTSTRUCT has then lost contours that nobody misses. This walk (PS3.5 7.1 and 7.5, A.4)
looks at lengths and tags and takes no value.
"""

from __future__ import annotations

import struct
import zlib

from pydicom.datadict import dictionary_VR
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from tasks.dicom.reasons import Reason
from tasks.errors import CaseRejected

PREAMBLE_BYTES = 128
UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
PIXEL_DATA = 0x7FE00010
TRANSFER_SYNTAX = 0x00020010
META_GROUP = b"\x02\x00"
LONG_FORM = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)
SHORT_FORM = frozenset(
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT"}
    | {b"PN", b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US"}
)


def check_structure(content: bytes) -> int | None:
    """Walk over a whole file.

    Parameters
    ----------
    content
        The bytes of a file, with or without preamble and file meta information.

    Returns
    -------
    How many bytes of pixels it holds, None where there are none or they are compressed.

    Raises
    ------
    CaseRejected
        ``UNREADABLE`` where the file ends too early, a length contradicts another, or an element stands
        twice in one dataset: where 16 bytes of a value are lost, it swallows the border of two items.
    """
    try:
        return _walk_file(content)
    except (struct.error, zlib.error, ValueError):
        raise CaseRejected(
            Reason.UNREADABLE, "it is cut short, or its lengths contradict each other"
        ) from None
    except RecursionError:  # hundreds of sequences within each other; no object of the standard has ten
        raise CaseRejected(Reason.UNREADABLE, "its sequences are nested without end") from None


def _walk_file(content: bytes) -> int | None:
    start = PREAMBLE_BYTES + 4 if content[PREAMBLE_BYTES : PREAMBLE_BYTES + 4] == b"DICM" else 0
    if start == 0 and content[:2] != META_GROUP:
        explicit = content[4:6] in LONG_FORM | SHORT_FORM
        whole = _Walk(content, explicit=explicit, big_endian=False)
        whole.elements(0, len(content))
        return whole.pixel_bytes
    meta = _Walk(content, explicit=True, big_endian=False)
    start = meta.elements(start, len(content), last_group=2)
    syntax = meta.transfer_syntax
    if syntax == DeflatedExplicitVRLittleEndian:
        content, start = zlib.decompress(content[start:], -zlib.MAX_WBITS), 0
    walk = _Walk(content, explicit=syntax != ImplicitVRLittleEndian, big_endian=syntax == ExplicitVRBigEndian)
    walk.elements(start, len(content))
    return walk.pixel_bytes


class _Walk:
    def __init__(self, content: bytes, *, explicit: bool, big_endian: bool) -> None:
        self._content = content
        self._explicit = explicit
        order = ">" if big_endian else "<"
        self._tag = struct.Struct(f"{order}HH")
        self._short, self._long = struct.Struct(f"{order}H"), struct.Struct(f"{order}L")
        self.transfer_syntax = ""
        self.pixel_bytes: int | None = None

    def elements(self, at: int, end: int, *, last_group: int = 0xFFFF, item: bool = False) -> int:
        """Walk over elements to ``end``, or in an item of undefined length to its delimiter."""
        seen = set()
        while at < end:
            group, number = self._tag.unpack_from(self._content, at)
            tag = group << 16 | number
            if group > last_group:
                return at
            if item and tag == ITEM_END:
                return at + 8
            if tag in seen:
                raise ValueError
            seen.add(tag)
            at = self._element(tag, at + 4, end)
        if item or at != end:
            raise ValueError
        return at

    def _element(self, tag: int, at: int, end: int) -> int:
        vr, length, at = self._vr_and_length(tag, at)
        if length == UNDEFINED:
            if tag == PIXEL_DATA:
                self.pixel_bytes = None  # also where an icon before it is not compressed (PS3.5 A.4)
                return self._fragments(at, end)
            inner = self if vr != b"UN" else _Walk(self._content, explicit=False, big_endian=False)
            return inner.items(at, end, delimited=True)
        if at + length > end:
            raise ValueError
        if vr == b"SQ":
            return self.items(at, at + length, delimited=False)
        if tag == PIXEL_DATA:
            self.pixel_bytes = length  # the outermost comes last; an icon's stand before it
        if tag == TRANSFER_SYNTAX:
            self.transfer_syntax = self._content[at : at + length].decode("ascii").strip("\0 ")
        return at + length

    def _vr_and_length(self, tag: int, at: int) -> tuple[bytes, int, int]:
        if not self._explicit:
            vr = b"SQ" if _is_sequence(tag) else b""
            return vr, self._long.unpack_from(self._content, at)[0], at + 4
        vr = self._content[at : at + 2]
        if vr in LONG_FORM:
            return vr, self._long.unpack_from(self._content, at + 4)[0], at + 8
        if vr not in SHORT_FORM:
            raise ValueError
        return vr, self._short.unpack_from(self._content, at + 2)[0], at + 4

    def items(self, at: int, end: int, *, delimited: bool) -> int:
        """Walk over the items of a sequence, to ``end`` or to its delimiter."""
        while at < end:
            tag, length, at = self._item_header(at)
            if delimited and tag == SEQUENCE_END:
                return at
            if tag != ITEM or (length != UNDEFINED and at + length > end):
                raise ValueError
            undefined = length == UNDEFINED
            at = self.elements(at, end if undefined else at + length, item=undefined)
        if delimited or at != end:
            raise ValueError
        return at

    def _fragments(self, at: int, end: int) -> int:
        """Encapsulated pixel data (PS3.5 A.4): items up to a delimiter, which must be there."""
        while at < end:
            tag, length, at = self._item_header(at)
            if tag == SEQUENCE_END:
                return at
            if tag != ITEM or at + length > end:
                raise ValueError
            at += length
        raise ValueError

    def _item_header(self, at: int) -> tuple[int, int, int]:
        group, number = self._tag.unpack_from(self._content, at)
        return group << 16 | number, self._long.unpack_from(self._content, at + 4)[0], at + 8


def _is_sequence(tag: int) -> bool:
    try:
        return dictionary_VR(tag) == "SQ"
    except KeyError:
        return False
