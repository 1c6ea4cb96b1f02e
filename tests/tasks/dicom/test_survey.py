"""What a folder holds is counted before anything is decided, and nothing in it stops the count."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_factory import ball, edit, grid_for, write_rois, write_segments, write_series
from pydicom.uid import generate_uid

from tasks.delivery import files_below
from tasks.dicom.seg_writer import SegIdentity, write_seg
from tasks.dicom.survey import Drawing, survey

SHAPE = (5, 16, 18)
TUMOUR = ball(SHAPE, (2, 8, 8), 3)


def names(found: list[Drawing]) -> list[tuple[str, tuple[str, ...]]]:
    return sorted((drawing.kind, drawing.names) for drawing in found)


def test_images_and_what_was_drawn_on_them(tmp_path: Path) -> None:
    ct = write_series(tmp_path / "a" / "ct", name="a", patient="A", grid=grid_for(SHAPE))
    mr = write_series(tmp_path / "b" / "mr", name="b", patient="B", grid=grid_for(SHAPE), kind="MR")
    write_series(tmp_path / "c" / "ct", name="c", patient="A", grid=grid_for(SHAPE))
    write_rois(tmp_path / "a" / "rt.dcm", ct, {"GTV": TUMOUR, "never drawn": np.zeros(SHAPE, bool)})
    write_segments(tmp_path / "b" / "seg.dcm", mr, TUMOUR.astype(int), ["node"])
    before = sorted(tmp_path.rglob("*"))
    found = survey(files_below(tmp_path))
    assert (found.files, found.images, found.patients) == (17, {"CT": 2, "MR": 1}, 2)
    assert names(found.of("CT")) == [("RTSTRUCT", ("GTV",))]
    assert names(found.of("MR")) == [("SEG", ("node",))]
    assert not found.left_out
    assert sorted(tmp_path.rglob("*")) == before


def test_what_cannot_be_read_is_counted_by_its_reason(tmp_path: Path) -> None:
    ct = write_series(tmp_path / "ct", name="a", grid=grid_for(SHAPE))
    (tmp_path / "notes.txt").write_text("not DICOM")
    seg = write_segments(tmp_path / "seg.dcm", ct, TUMOUR.astype(int), ["GTV"])
    ct.files[0].write_bytes(ct.files[0].read_bytes()[:300])
    edit(seg, lambda ds: delattr(ds, "SegmentSequence"))
    found = survey(files_below(tmp_path))
    assert found.left_out == {"no-dicom": 1, "unreadable": 1, "unreadable-segmentation": 1}
    assert (found.images, found.drawings) == ({"CT": 1}, [])


def test_a_disk_that_fails_leaves_one_out_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ct = write_series(tmp_path / "ct", name="a", grid=grid_for(SHAPE))
    write_rois(tmp_path / "rt.dcm", ct, {"GTV": TUMOUR})

    def away(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("tasks.dicom.survey.read_rois", away)
    found = survey(files_below(tmp_path))
    assert (found.images, found.left_out, found.drawings) == ({"CT": 1}, {"unreadable": 1}, [])


@pytest.mark.parametrize("same_frame", [True, False])
def test_a_drawing_of_an_image_that_is_not_there_belongs_to_none(tmp_path: Path, same_frame: bool) -> None:
    ct = write_series(tmp_path / "ct", name="a", grid=grid_for(SHAPE))
    other = write_series(tmp_path / "elsewhere", name="x", grid=grid_for(SHAPE))
    rois = write_rois(tmp_path / "rt.dcm", other, {"GTV": TUMOUR})
    for file in other.files:
        file.unlink()
    if not same_frame:
        edit(rois, lambda ds: setattr(ds, "FrameOfReferenceUID", generate_uid()))
    found = survey(files_below(tmp_path))
    assert len(ct.files) == found.files - 1
    assert found.of("CT") == []
    assert [drawing.image_kind for drawing in found.drawings] == [None]


def test_identities_do_not_come_along(tmp_path: Path) -> None:
    ct = write_series(tmp_path / "ct", patient="Jane Made-Up", grid=grid_for(SHAPE))
    write_rois(tmp_path / "rt.dcm", ct, {"GTV": TUMOUR})
    assert "Made-Up" not in repr(survey(files_below(tmp_path)))


def test_a_drawing_that_names_no_image_is_of_the_one_in_its_frame(tmp_path: Path) -> None:
    """As when it is converted."""
    ct = write_series(tmp_path / "ct", name="a", grid=grid_for(SHAPE))
    rois = write_rois(tmp_path / "rt.dcm", ct, {"GTV": TUMOUR})

    def forget(ds: Any) -> None:
        del ds.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence
        for contours in ds.ROIContourSequence:
            for contour in contours.ContourSequence:
                del contour.ContourImageSequence

    edit(rois, forget)
    assert names(survey(files_below(tmp_path)).of("CT")) == [("RTSTRUCT", ("GTV",))]


def test_what_a_model_has_predicted_is_no_drawing(tmp_path: Path) -> None:
    ct = write_series(tmp_path / "ct", name="a", grid=grid_for(SHAPE))
    identity = SegIdentity(generate_uid(), generate_uid(), 900, "predicted", "IterSeg nnU-Net", "1")
    write_seg(tmp_path / "predicted.dcm", ct.files, {"GTV": TUMOUR}, identity)
    found = survey(files_below(tmp_path))
    assert (found.drawings, found.left_out) == ([], {"own-prediction": 1})
