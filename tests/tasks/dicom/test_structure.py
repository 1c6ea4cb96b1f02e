"""A file is whole, or it is refused: what is missing at its end or inside it is never read past."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_factory import ball, edit, write_multi_frame, write_rois, write_segments, write_series
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)

from tasks.dicom.headers import header_of
from tasks.dicom.structure import check_structure
from tasks.errors import CaseRejected

SHAPE = (4, 64, 72)
MASK = ball(SHAPE, (2, 20, 30), 9)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One file of each kind."""
    root = tmp_path_factory.mktemp("files")
    series = write_series(root / "ct", SHAPE)
    return {
        "CT": series.files[0],
        "RTSTRUCT": write_rois(root / "rt", series, {"GTV": MASK, "PTV": ~MASK}),
        "SEG": write_segments(root / "seg", series, MASK.astype(int), ["GTV"]),
        "multi-frame": write_multi_frame(root / "multi", series, "enhanced CT"),
    }


KINDS = ["CT", "RTSTRUCT", "SEG", "multi-frame"]
SYNTAXES = [
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
]


def rewritten(file: Path, syntax: str, *, undefined: bool = False) -> bytes:
    ds = pydicom.dcmread(file)
    ds.decode()
    if undefined:
        _undefine(ds)
    ds.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian:
        if "PixelData" in ds and ds.BitsAllocated == 16:
            ds.PixelData = np.frombuffer(ds.PixelData, "<i2").astype(">i2").tobytes()
        for roi in ds.get("ROIContourSequence", []):
            roi.ContourSequence = roi.ContourSequence[:1]  # an explicit DS ends at 64 kB
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, ds, enforce_file_format=True, overwrite=True)
    return stream.getvalue()


def _undefine(ds: Any) -> None:
    for element in ds:
        if element.VR == "SQ":
            element.is_undefined_length = True
            for item in element.value:
                item.is_undefined_length_sequence_item = True
                _undefine(item)


@pytest.mark.parametrize("undefined", [False, True], ids=["lengths", "delimiters"])
@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: uid.name)
@pytest.mark.parametrize("kind", KINDS)
def test_whole_files_pass_in_every_encoding(
    files: dict[str, Path], kind: str, syntax: Any, undefined: bool
) -> None:
    check_structure(rewritten(files[kind], syntax, undefined=undefined))


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless], ids=lambda uid: uid.name)
def test_compressed_files_pass(files: dict[str, Path], tmp_path: Path, syntax: Any) -> None:
    file = tmp_path / "ct"
    file.write_bytes(files["CT"].read_bytes())
    edit(file, lambda ds: ds.compress(syntax))
    content = file.read_bytes()
    check_structure(content)
    with pytest.raises(CaseRejected):
        check_structure(content[:-8])  # the delimiter of the fragments


def test_an_icon_beside_compressed_pixels_is_none_of_them(files: dict[str, Path], tmp_path: Path) -> None:
    """It need not be compressed (PS3.5 A.4), and is not as large."""
    icon = pydicom.Dataset()
    icon.Rows = icon.Columns = 4
    icon.SamplesPerPixel, icon.PhotometricInterpretation = 1, "MONOCHROME2"
    icon.BitsAllocated = icon.BitsStored = 8
    icon.HighBit, icon.PixelRepresentation, icon.PixelData = 7, 0, bytes(16)
    icon["PixelData"].VR = "OB"
    file = tmp_path / "ct"
    file.write_bytes(files["CT"].read_bytes())
    edit(file, lambda ds: ds.compress(RLELossless))
    edit(file, lambda ds: setattr(ds, "IconImageSequence", [icon]))
    assert check_structure(file.read_bytes()) is None
    assert header_of(file.read_bytes(), ".dcm", lambda identity: identity).kind == "CT"


def test_a_file_without_preamble_and_meta_passes(files: dict[str, Path]) -> None:
    content = files["CT"].read_bytes()
    meta_length = 132 + 12 + int.from_bytes(content[140:144], "little")
    check_structure(content[meta_length:])
    with pytest.raises(CaseRejected):
        check_structure(content[meta_length:-1])


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian], ids=lambda uid: uid.name)
@pytest.mark.parametrize("undefined", [False, True], ids=["lengths", "delimiters"])
@pytest.mark.parametrize("kind", KINDS)
@given(share=st.floats(0.0, 1.0, exclude_max=True))
def test_a_file_that_is_cut_inside_an_element_is_refused(
    files: dict[str, Path], kind: str, undefined: bool, syntax: Any, share: float
) -> None:
    """pydicom reads such a file, and says nothing of what is missing."""
    content = _whole(files, kind, syntax, undefined)
    cut = content[: int(len(content) * share)]
    try:
        check_structure(cut)
    except CaseRejected as error:
        assert error.reason == "unreadable"
        return
    # Cut between two elements of the outermost level, where no length tells: what a label is made of
    # is then all there, or not at all.
    rest, whole = (pydicom.dcmread(io.BytesIO(part), force=True) for part in (cut, content))
    needed = "ROIContourSequence" if kind == "RTSTRUCT" else "PixelData"
    assert needed not in rest or rest[needed] == whole[needed]


def test_a_value_that_swallowed_the_border_of_two_items_is_seen(files: dict[str, Path]) -> None:
    """Lost bytes may be made good by an item's end and the next one's begin; a contour is gone then."""
    content = _whole(files, "RTSTRUCT", ExplicitVRLittleEndian, undefined=True)
    border = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\x00\xe0\xff\xff\xff\xff"
    at = content.index(border, content.index(b"\x06\x30\x50\x00DS"))
    damaged = content[: at - 24] + content[at - 24 + len(border) :]
    drawn, left = (
        pydicom.dcmread(io.BytesIO(part)).ROIContourSequence[0].ContourSequence for part in (content, damaged)
    )
    assert len(left) < len(drawn)
    with pytest.raises(CaseRejected):
        check_structure(damaged)


@pytest.mark.parametrize("kind", ["CT", "SEG", "multi-frame"])
@pytest.mark.parametrize("keyword", ["Rows", "Columns", "BitsAllocated"])
def test_pixels_must_be_as_many_as_the_header_says(
    files: dict[str, Path], tmp_path: Path, kind: str, keyword: str
) -> None:
    """highdicom reads a SEG of fewer columns without a word, every row shifted against the one before."""
    file = tmp_path / "file.dcm"
    file.write_bytes(files[kind].read_bytes())
    header_of(file.read_bytes(), ".dcm", str)
    edit(file, lambda ds: setattr(ds, keyword, 16 if ds[keyword].value != 16 else 8))
    with pytest.raises(CaseRejected, match="unreadable: it has .* bytes of pixels"):
        header_of(file.read_bytes(), ".dcm", str)


_WHOLE: dict[tuple[str, str, bool], bytes] = {}


def _whole(files: dict[str, Path], kind: str, syntax: Any, undefined: bool) -> bytes:
    key = (kind, str(syntax), undefined)
    if key not in _WHOLE:
        _WHOLE[key] = rewritten(files[kind], syntax, undefined=undefined)
    return _WHOLE[key]


def test_sequences_that_are_nested_without_end_are_refused(files: dict[str, Path]) -> None:
    """Python would give up within them, and with it every file of the delivery."""
    content = b""
    for _ in range(2000):
        item = struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content
        content = struct.pack("<HH2sHI", 0x0040, 0x0275, b"SQ", 0, len(item)) + item
    whole = io.BytesIO()
    pydicom.dcmwrite(whole, pydicom.dcmread(files["CT"]), enforce_file_format=True)
    with pytest.raises(CaseRejected, match="nested without end"):
        check_structure(whole.getvalue() + content)
