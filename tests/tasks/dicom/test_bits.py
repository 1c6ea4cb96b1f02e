"""A viewer that pads each frame to whole bytes draws the same as one that leaves no gap."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_factory import edit, grid_for, write_series
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from planted import RULES
from pydicom.uid import generate_uid

from tasks.dicom.bits import DCMJS
from tasks.dicom.deidentify import Deidentification, deidentify
from tasks.dicom.geometry import Grid
from tasks.dicom.headers import read_header
from tasks.dicom.seg import SegObject
from tasks.dicom.seg_writer import SegIdentity, write_seg
from tasks.errors import CaseRejected
from tasks.ledger.pseudonyms import Pseudonyms


def padded(ds: Any) -> None:
    """As dcmjs writes it."""
    pixels, frames = ds.Rows * ds.Columns, int(ds.NumberOfFrames)
    bits = np.unpackbits(np.frombuffer(ds.PixelData, dtype=np.uint8), bitorder="little")
    rows = np.packbits(bits[: pixels * frames].reshape(frames, pixels), axis=1, bitorder="little")
    ds.PixelData = rows.tobytes() + b"\0" * (rows.size % 2)


def by_dcmjs(ds: Any) -> None:
    padded(ds)
    for keyword, value in DCMJS.items():
        setattr(ds, keyword, value)


def drawn(folder: Path, shape: tuple[int, int, int], seed: int) -> tuple[Path, Any, Any]:
    mask = np.random.default_rng(seed).random(shape) < 0.4
    mask[:, 0, 0] = True  # every frame is stored
    series = write_series(folder / "ct", shape)
    file = folder / "s.dcm"
    identity = SegIdentity(generate_uid(), generate_uid(), 2, "d", None, "1")
    write_seg(file, series.files, {"A": mask}, identity)
    return file, mask, grid_for(shape)


def read(file: Path, grid: Grid) -> NDArray[np.bool_]:
    """As ingest and prepare read it."""
    read_header(file, lambda patient: patient)
    seg = SegObject(file)
    return seg.mask(seg.segments[0], grid)


SHAPES = st.tuples(st.integers(2, 9), st.integers(3, 9), st.integers(3, 9))
"""Of 8 pixels and more: of frames that are less than a byte highdicom writes something else."""


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(shape=SHAPES, seed=st.integers(0, 99), gaps=st.booleans())
def test_both_ways_are_read_to_the_pixel(
    tmp_path_factory: pytest.TempPathFactory, shape: tuple[int, int, int], seed: int, gaps: bool
) -> None:
    file, mask, grid = drawn(tmp_path_factory.mktemp("s"), shape, seed)
    if gaps:
        edit(file, by_dcmjs)
    np.testing.assert_array_equal(read(file, grid), mask)


@pytest.mark.parametrize("recipe", [RULES, Deidentification.of(["PixelData"], ["ManufacturerModelName"], {})])
def test_whoever_is_taken_out_the_bits_stay_where_they_were(
    tmp_path: Path, pseudonyms: Pseudonyms, recipe: Deidentification
) -> None:
    """Two frames of 4 bits more than whole bytes are as long with gaps as without."""
    file, mask, grid = drawn(tmp_path, (2, 6, 10), 1)
    edit(file, by_dcmjs)
    keep = RULES.keep - recipe.empty
    rules = Deidentification(keep, recipe.empty, recipe.replace)
    file.write_bytes(deidentify(file.read_bytes(), rules, pseudonyms))
    np.testing.assert_array_equal(read(file, grid), mask)
    # As it was stored before its version was kept.
    edit(file, lambda ds: delattr(ds, "SoftwareVersions"))
    np.testing.assert_array_equal(read(file, grid), mask)


def test_where_the_length_tells_it_does_not_matter_who_wrote_it(tmp_path: Path) -> None:
    file, mask, grid = drawn(tmp_path, (8, 5, 5), 1)
    edit(file, padded)
    np.testing.assert_array_equal(read(file, grid), mask)


def test_any_other_length_is_damage(tmp_path: Path) -> None:
    file, _, _ = drawn(tmp_path, (8, 5, 5), 1)

    def longer(ds: Any) -> None:
        padded(ds)
        ds.PixelData += b"\0\0"

    edit(file, longer)
    with pytest.raises(CaseRejected, match="bytes of pixels"):
        read_header(file, lambda patient: patient)
