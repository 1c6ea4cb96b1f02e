"""What comes with its identity from a folder, and without it from the network, belongs together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_factory import Series, ball, edit, write_rois, write_series
from dicom_network import send
from receiving import DAY, listening, ready, with_recipe

from tasks.dicom.case import Case
from tasks.dicom.convert import LabelRules, structure_masks
from tasks.dicom.image import read_series
from tasks.ingest import take_delivery, take_inbox
from tasks.ledger.paths import DatasetPaths
from tasks.settings.dataset import DatasetSettings
from tasks.state import state_at

SHAPE = (6, 20, 24)
MASK = ball(SHAPE, (3, 8, 8), 3)


@pytest.fixture
def paths(home: Path) -> DatasetPaths:
    return with_recipe(home)


def drawn_in(case: Case) -> np.ndarray:
    assert case.state == "pending" and case.segmentation is not None
    volume = read_series([file.path for file in case.files])
    rules = LabelRules({"GTV": ["GTV"]})
    ((_, mask),) = structure_masks(volume, case.segmentation.path, case.segmentation.header.kind, rules)
    return mask


@pytest.mark.parametrize("received", ["image", "segmentation"])
@pytest.mark.parametrize("first", ["image", "segmentation"])
def test_a_folder_and_the_network_speak_of_one_patient(
    paths: DatasetPaths, tmp_path: Path, received: str, first: str
) -> None:
    """In any order."""
    series = write_series(tmp_path / "ct", SHAPE)
    write_rois(tmp_path / "drawn" / "rt", series, {"GTV": MASK})
    parts = {"image": series.folder, "segmentation": tmp_path / "drawn"}
    with listening(paths) as receiver:
        for part in sorted(parts, key=lambda name: name != first):
            if part == received:
                files = sorted(parts[part].iterdir())
                send(receiver.port, files)
                ready(paths, len(files))
                take_inbox.fn("D", DAY)
            else:
                take_delivery.fn("D", parts[part], DAY)
    (case,) = state_at(paths, DatasetSettings())[0].images
    np.testing.assert_array_equal(drawn_in(case), MASK)


def in_one_study(one: Series, other: Series) -> None:
    """As the phases of a CT are."""
    theirs = pydicom.dcmread(one.files[0], stop_before_pixels=True)
    for file in other.files:
        for keyword in ("StudyInstanceUID", "FrameOfReferenceUID"):
            edit(file, lambda ds, key=keyword: setattr(ds, key, theirs[key].value))


def test_another_scan_of_the_study_changes_nothing_for_one_that_lost_its_identity(
    paths: DatasetPaths, tmp_path: Path
) -> None:
    """They share study and frame of reference, which are here both ways then."""
    received, other = (write_series(tmp_path / name, SHAPE, name=name) for name in ("a", "b"))
    in_one_study(received, other)
    drawn = write_rois(tmp_path / "drawn" / "rt", received, {"GTV": MASK})
    of_other = write_rois(tmp_path / "drawn-too" / "rt", other, {"GTV": MASK}, name="other")
    with listening(paths) as receiver:

        def arrive(files: list[Path]) -> dict[str, int]:
            send(receiver.port, files)
            ready(paths, len(files))
            report = take_inbox.fn("D", DAY)
            assert report is not None
            return dict(report["reasons"])

        assert arrive(received.files[:4]) == {}
        take_delivery.fn("D", other.folder, DAY)
        assert arrive(received.files) == {}, "the first four come again"
        assert arrive([of_other]) == {}
        assert arrive([of_other]) == {}, "and again the next night"
    assert take_delivery.fn("D", of_other.parent, DAY)["files"]["duplicate"] == 1, "and by folder"
    take_delivery.fn("D", drawn.parent, DAY)
    cases = state_at(paths, DatasetSettings())[0].images
    assert [len(case.files) for case in cases] == [6, 6]
    for case in cases:
        np.testing.assert_array_equal(drawn_in(case), MASK)


def test_a_drawing_that_comes_again_without_its_identity_is_told_and_changes_nothing(
    paths: DatasetPaths, tmp_path: Path
) -> None:
    """Nobody can tell whether it was changed; taken for a newer one, all would be learned anew."""
    series = write_series(tmp_path / "in" / "ct", SHAPE)
    drawn = write_rois(tmp_path / "in" / "rt", series, {"GTV": MASK})
    take_delivery.fn("D", tmp_path / "in", DAY)
    (before,) = state_at(paths, DatasetSettings())[0].images
    with listening(paths) as receiver:
        send(receiver.port, [drawn])
        ready(paths, 1)
        report = take_inbox.fn("D", DAY)
    assert report is not None and report["reasons"] == {"uid-conflict": 1}
    (after,) = state_at(paths, DatasetSettings())[0].images
    assert after.segmentation == before.segmentation


def test_a_drawing_that_lost_its_identity_comes_again_by_folder_and_is_no_newer_one(
    paths: DatasetPaths, tmp_path: Path
) -> None:
    """The scan is here in the clear; the drawing and its correction came over the network."""
    series = write_series(tmp_path / "in" / "ct", SHAPE)
    take_delivery.fn("D", tmp_path / "in", DAY)
    drawn = write_rois(tmp_path / "drawn" / "rt", series, {"GTV": MASK})
    corrected = write_rois(
        tmp_path / "corrected" / "rt", series, {"GTV": MASK & (np.arange(24) < 8)}, name="c"
    )
    with listening(paths) as receiver:
        for file in (drawn, corrected):
            send(receiver.port, [file])
            ready(paths, 1)
            take_inbox.fn("D", DAY)
    (before,) = state_at(paths, DatasetSettings(same_date="later_wins"))[0].images
    report = take_delivery.fn("D", drawn.parent, DAY)
    assert (report["files"]["taken"], report["files"]["duplicate"]) == (0, 1)
    (after,) = state_at(paths, DatasetSettings(same_date="later_wins"))[0].images
    assert after.segmentation == before.segmentation
