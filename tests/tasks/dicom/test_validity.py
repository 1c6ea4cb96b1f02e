"""What is written is valid DICOM: dciodvfy, which knows what the standard demands, finds no error."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from demo import deliver_images, read_cases
from dicom_factory import edit, grid_for, shapes, write_multi_frame, write_series
from pydicom.uid import generate_uid

from tasks.dicom.image import read_series
from tasks.dicom.rtstruct_writer import StructureSetIdentity, write_rtstruct
from tasks.dicom.seg_writer import SegIdentity, write_seg
from tasks.errors import CaseRejected

DCIODVFY = Path(sys.executable).with_name("dciodvfy")
SARCOMA = Path(__file__).parents[2] / "data" / "sarcoma"
WRITTEN = datetime(2026, 11, 23, 20, 15)
SHAPE = (12, 24, 20)
TUMOUR = ("49755003 Morphologically Abnormal Structure", "108369006 Neoplasm")


def real(kind: str) -> Callable[[Path], list[Path]]:
    return lambda _folder: sorted(next(SARCOMA.glob(f"*/{kind}*")).joinpath("image").iterdir())


def made_up(folder: Path) -> list[Path]:
    return write_series(folder, grid=grid_for(SHAPE)).files


def with_long_numbers(folder: Path) -> list[Path]:
    """As many hospitals number their studies: longer than DICOM lets a number be."""
    files = made_up(folder)
    for file in files:
        edit(file, lambda ds: setattr(ds, "AccessionNumber", "RADIOLOGY-2026-1123-000042"))
    return files


def in_latin_1(folder: Path) -> list[Path]:
    """Of a patient whose name has letters of one alphabet, for structures in another."""

    def change(_: int, ds: Any) -> None:
        ds.SpecificCharacterSet, ds.PatientName = "ISO_IR 100", "Müller^Jörg"

    return write_series(folder, grid=grid_for(SHAPE), change=change).files


def without_preamble(folder: Path) -> list[Path]:
    """As old exports are: without their meta information too."""
    files = made_up(folder)
    for file in files:
        length = pydicom.dcmread(file).file_meta.FileMetaInformationGroupLength
        file.write_bytes(file.read_bytes()[144 + length :])
    return files


def multi_frame(folder: Path) -> list[Path]:
    return [
        write_multi_frame(folder / "mf.dcm", write_series(folder / "s", grid=grid_for(SHAPE)), "enhanced CT")
    ]


def hippocampus(folder: Path) -> list[Path]:
    cases = read_cases()[:1]
    return deliver_images(folder, cases)[cases[0][0]]


IMAGES = [
    *(real("CT"), real("MR"), made_up, with_long_numbers, in_latin_1, without_preamble),
    *(multi_frame, hippocampus),
]
NAMES = [
    *("sarcoma CT", "sarcoma MR", "made up", "long numbers", "Latin-1", "no preamble"),
    *("multi-frame", "hippocampus"),
]


def errors_of(file: Path) -> list[str]:
    done = subprocess.run([str(DCIODVFY), str(file)], capture_output=True, text=True, check=False)
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]


def masks_for(shape: tuple[int, ...]) -> dict[str, Any]:
    """Everything that is hard about contours, something that overlaps, and nothing at all."""
    found = {name: mask for name, mask in shapes(SHAPE).items() if mask.any()}
    if shape == SHAPE:
        return {**found, "nothing": np.zeros(shape, bool)}
    half = np.zeros(shape, bool)
    half[shape[0] // 4 : shape[0] // 2, shape[1] // 4 : shape[1] // 2, shape[2] // 3 : shape[2] // 2] = True
    ring = half.copy()
    ring[:, shape[1] // 4 + 2 : shape[1] // 2 - 2, shape[2] // 3 + 2 : shape[2] // 2 - 2] = False
    return {"half": half, "ring": ring, "nothing": np.zeros(shape, bool)}


@pytest.mark.parametrize("make", IMAGES, ids=NAMES)
def test_both_objects_are_valid(make: Callable[[Path], list[Path]], tmp_path: Path) -> None:
    volume = read_series(make(tmp_path / "image"))
    masks = masks_for(volume.grid.shape)
    seg, rtstruct = tmp_path / "seg.dcm", tmp_path / "rt.dcm"
    codes = {"half": TUMOUR}
    identity = SegIdentity(generate_uid(), generate_uid(), 900, "d", "IterSeg", "2026", WRITTEN, codes)
    write_seg(seg, volume.files, masks, identity)
    structure_set = StructureSetIdentity(generate_uid(), generate_uid(), "IterSeg", WRITTEN, 901)
    write_rtstruct(rtstruct, volume.files, masks, structure_set)
    assert errors_of(seg) == []
    assert errors_of(rtstruct) == []


def seg_of(file: Path, images: list[Path], masks: dict[str, Any]) -> None:
    write_seg(file, images, masks, SegIdentity(generate_uid(), generate_uid(), 900, "d", "IterSeg", "2026"))


def rtstruct_of(file: Path, images: list[Path], masks: dict[str, Any]) -> None:
    identity = StructureSetIdentity(generate_uid(), generate_uid(), "IterSeg", WRITTEN)
    write_rtstruct(file, images, masks, identity)


def test_the_validator_finds_what_is_wrong(tmp_path: Path) -> None:
    volume = read_series(made_up(tmp_path / "image"))
    target = tmp_path / "rt.dcm"
    rtstruct_of(target, volume.files, masks_for(SHAPE))
    edit(target, lambda ds: delattr(ds, "StructureSetLabel"))
    assert any("StructureSetLabel" in line for line in errors_of(target))


def test_a_seg_carries_codes_tracking_and_its_date(tmp_path: Path) -> None:
    volume = read_series(made_up(tmp_path / "image"))
    target, sop = tmp_path / "seg.dcm", generate_uid()
    masks = {"GTV": shapes(SHAPE)["donut"], "liver": shapes(SHAPE)["donut"]}
    known = {"GTV": "1.2.3.4"}
    identity = SegIdentity(generate_uid(), sop, 900, "d", "IterSeg", "m", WRITTEN, {"GTV": TUMOUR}, known)
    write_seg(target, volume.files, masks, identity)
    ds = pydicom.dcmread(target)
    gtv, liver = ds.SegmentSequence
    assert gtv.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "49755003"
    assert gtv.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Neoplasm"
    assert liver.SegmentedPropertyTypeCodeSequence[0].CodeValue == "91723000"
    assert gtv.TrackingUID == "1.2.3.4" != liver.TrackingUID
    assert (ds.ContentDate, ds.ContentTime) == ("20261123", "201500")
    assert gtv.SegmentAlgorithmType == "AUTOMATIC"


def written(tmp_path: Path, files: list[Path], masks: dict[str, Any]) -> tuple[Path, Path]:
    seg, rtstruct = tmp_path / "seg.dcm", tmp_path / "rt.dcm"
    seg_of(seg, files, masks)
    rtstruct_of(rtstruct, files, masks)
    return seg, rtstruct


def test_a_structure_has_its_own_alphabet(tmp_path: Path) -> None:
    files, name = in_latin_1(tmp_path / "image"), "腫瘍 Läsion"
    seg, rtstruct = written(tmp_path, files, {name: shapes(SHAPE)["donut"]})
    assert pydicom.dcmread(seg).SegmentSequence[0].SegmentLabel == name
    assert pydicom.dcmread(rtstruct).StructureSetROISequence[0].ROIName == name
    for file in (seg, rtstruct):
        ds = pydicom.dcmread(file)
        assert ds.PatientName == "Müller^Jörg"
        assert "Müller^Jörg".encode() in file.read_bytes()


def test_to_an_image_without_a_frame_of_reference_nothing_can_refer(tmp_path: Path) -> None:
    """No plan could say where the contours lie; the image itself can be learned from."""
    files = write_series(
        tmp_path / "image", grid=grid_for(SHAPE), change=lambda _, ds: delattr(ds, "FrameOfReferenceUID")
    ).files
    assert read_series(files).grid.shape == SHAPE
    for write in (seg_of, rtstruct_of):
        with pytest.raises(CaseRejected, match="no-frame-of-reference"):
            write(tmp_path / "x.dcm", files, {"GTV": shapes(SHAPE)["donut"]})


@pytest.mark.parametrize("write", [seg_of, rtstruct_of])
@pytest.mark.parametrize(
    ("masks", "words"),
    [
        ({}, "there is no mask"),
        (
            {"A": np.ones(SHAPE, bool), "B": np.ones(SHAPE[::-1], bool)},
            r"'B' has shape \(20, 24, 12\), the image \(12, 24, 20\)",
        ),
    ],
)
def test_masks_of_another_shape_are_a_mistake_of_the_caller(
    tmp_path: Path, write: Callable[..., None], masks: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        write(tmp_path / "x.dcm", made_up(tmp_path / "image"), masks)
    assert not (tmp_path / "x.dcm").exists()
