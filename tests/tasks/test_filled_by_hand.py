"""Dated folders that a user fills: taken as they are, sealed, and nothing in them passed over in silence."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from dicom_factory import Series, ball, edit, write_rois, write_series

from tasks.conversion import to_convert
from tasks.convert import convert_case, convert_image
from tasks.errors import CaseRejected
from tasks.ingest import passed_over, seal_by_hand, take_delivery
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.snapshots import make_writable, noted_snapshots
from tasks.ledger.store import Store
from tasks.settings.dataset import DatasetSettings, RoiPatterns
from tasks.state import state_at

SHAPE = (6, 20, 24)
DAY = date(2026, 11, 23)


def test_a_folder_filled_by_hand_is_taken_as_it_is(home: Path) -> None:
    folder = home / "data" / "rawdata" / "D" / "2026-11-20__D"
    series: Series = write_series(folder / "any" / "nesting", SHAPE)
    before = {p: p.read_bytes() for p in series.files}
    (report,) = seal_by_hand.fn("D")
    assert (report["snapshot"], report["files"]["taken"]) == ("2026-11-20__D", 6)
    assert {p: p.read_bytes() for p in series.files} == before
    assert seal_by_hand.fn("D") == []


def test_slices_in_a_folder_of_an_earlier_day_come_after_the_drawing_all_the_same(
    home: Path, tmp_path: Path
) -> None:
    """Nobody has looked at them, and without a contour they would be background."""
    series = write_series(tmp_path / "ct", SHAPE)
    first, late = tmp_path / "in", home / "data" / "rawdata" / "D" / "2026-11-20__D"
    for folder, files in ((first, series.files[:4]), (late, series.files[4:])):
        folder.mkdir(parents=True)
        for file in files:
            file.rename(folder / file.name)
    there = replace(series, files=[first / file.name for file in series.files[:4]])
    write_rois(first / "rt.dcm", there, {"GTV": ball((4, 20, 24), (2, 8, 8), 2)})
    take_delivery.fn("D", first, DAY)
    seal_by_hand.fn("D")
    (case,) = state_at(DatasetPaths.of("D"), DatasetSettings())[0].images
    assert (case.state, case.reason) == ("rejected", "image-has-grown")


def test_an_empty_folder_is_left_open(home: Path) -> None:
    folder = home / "data" / "rawdata" / "D" / "2026-11-20__D"
    folder.mkdir(parents=True)
    assert seal_by_hand.fn("D") == []
    write_series(folder, SHAPE)
    assert seal_by_hand.fn("D")[0]["files"]["taken"] == 6


def test_what_is_put_into_a_sealed_folder_is_a_delivery_of_its_own(home: Path) -> None:
    """A correction saved beside the image, on the same day, must not be lost."""
    folder = home / "data" / "rawdata" / "D" / "2026-11-20__D"
    series = write_series(folder / "ct", SHAPE)
    seal_by_hand.fn("D")
    manifest = (folder / "manifest.json").read_bytes()
    write_rois(folder / "rt.dcm", series, {"GTV": ball(SHAPE, (3, 8, 8), 3)})
    (report,) = seal_by_hand.fn("D")
    assert (report["snapshot"], report["files"]["taken"]) == (f"{date.today()}__D", 1)
    assert (folder / "manifest.json").read_bytes() == manifest
    assert seal_by_hand.fn("D") == []


@pytest.mark.parametrize("sealed", [False, True])
def test_a_drawing_of_an_image_that_lost_its_identity_finds_it(
    home: Path, tmp_path: Path, sealed: bool
) -> None:
    """It cannot stay as it is, and so it is taken as a delivery of its own, as beside a sealed one."""
    recipe = Path(__file__).parents[2] / "config" / "deidentification.yaml"
    (home / "config" / recipe.name).write_text(recipe.read_text())
    series = write_series(tmp_path / "ct", SHAPE)
    take_delivery.fn("D", series.folder, DAY, deidentify=True)
    folder = home / "data" / "rawdata" / "D" / "2026-11-22__D"
    write_series(folder / "another", SHAPE, name="another", patient="another")
    if sealed:
        seal_by_hand.fn("D")
    write_rois(folder / "rt.dcm", series, {"GTV": ball(SHAPE, (3, 8, 8), 3)})
    seal_by_hand.fn("D")
    states = {case.state for case in state_at(DatasetPaths.of("D"), DatasetSettings())[0].images}
    assert states == {"pending", "ignored"}
    assert seal_by_hand.fn("D") == []


def test_a_correction_that_is_put_beside_the_label_is_newer_than_it(home: Path) -> None:
    """Under the folder's own day there would be two of one date, and neither would count."""
    folder = home / "data" / "rawdata" / "D" / "2026-11-20__D"
    series = write_series(folder / "ct", SHAPE)
    write_rois(folder / "rt.dcm", series, {"GTV": ball(SHAPE, (3, 8, 8), 3)})
    seal_by_hand.fn("D")
    write_rois(folder / "corrected.dcm", series, {"GTV": ball(SHAPE, (3, 8, 8), 4)}, name="corrected")
    seal_by_hand.fn("D")
    (case,) = state_at(DatasetPaths.of("D"), DatasetSettings())[0].images
    assert case.state == "pending"
    assert case.segmentation is not None and case.segmentation.path.name != "rt.dcm"


def test_a_file_that_was_changed_after_sealing_is_no_label(home: Path) -> None:
    """Its old content is in the manifest, and may be in the store under the old content's key."""
    folder = home / "data" / "rawdata" / "D" / "2026-11-20__D"
    series = write_series(folder / "ct", SHAPE)
    drawn = write_rois(folder / "rt.dcm", series, {"GTV": ball(SHAPE, (3, 8, 8), 3)})
    seal_by_hand.fn("D")
    paths, settings, rois = DatasetPaths.of("D"), DatasetSettings(), RoiPatterns({"GTV": ["GTV"]})
    (case,) = state_at(paths, settings)[0].images
    write_rois(drawn, series, {"GTV": ball(SHAPE, (3, 8, 8), 5)})
    with pytest.raises(CaseRejected, match="changed-after-sealing"):
        convert_case(to_convert(case, settings, rois), Store(paths.store), settings, rois)
    edit(series.files[0], lambda ds: setattr(ds, "PixelData", b"\0" * len(ds.PixelData)))
    with pytest.raises(CaseRejected, match="changed-after-sealing"):
        convert_image(to_convert(case, settings, rois), Store(paths.store))


def test_a_link_that_leads_nowhere_is_told_once_and_stops_nobody(home: Path) -> None:
    folder = home / "data" / "rawdata" / "D" / "2026-11-20__D"
    write_series(folder / "DOE^JOHN", SHAPE)
    (folder / "DOE^JOHN" / "gone").symlink_to("nowhere")
    assert seal_by_hand.fn("D")[0]["files"]["rejected"] == 1
    assert seal_by_hand.fn("D") == []


def test_what_another_account_put_there_is_sealed_all_the_same(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = home / "data" / "rawdata" / "D" / "2026-11-20__D"
    write_series(folder / "DOE^JOHN", SHAPE)

    def refused(path: Path, mode: int) -> None:
        raise PermissionError(1, "Operation not permitted", str(path))

    monkeypatch.setattr(Path, "chmod", refused)
    assert seal_by_hand.fn("D")[0]["snapshot"] == "2026-11-20__D"
    assert list(noted_snapshots(DatasetPaths.of("D"))) == ["2026-11-20__D"]


def test_a_damaged_file_put_into_a_sealed_folder_is_told(home: Path) -> None:
    folder = home / "data" / "rawdata" / "D" / "2026-11-20__D"
    write_series(folder / "ct", SHAPE)
    seal_by_hand.fn("D")
    make_writable(folder)
    (folder / "correction.dcm").write_bytes(b"half a file")
    (report,) = seal_by_hand.fn("D")
    assert (report["snapshot"], report["files"]["rejected"]) == (None, 1)
    assert "correction.dcm" in Path(report["manifest"]).read_text()
    assert seal_by_hand.fn("D") == []


def test_a_damaged_file_that_is_sent_again_counts_though_it_is_as_long_as_before(home: Path) -> None:
    """A copy over a network reserves the whole length first, and may end before it is filled."""
    folder = home / "data" / "rawdata" / "D" / "2026-11-20__D"
    series = write_series(folder / "ct", SHAPE)
    whole = series.files[2].read_bytes()
    series.files[2].write_bytes(b"\0" * len(whole))
    assert seal_by_hand.fn("D")[0]["files"]["taken"] == 5
    assert seal_by_hand.fn("D") == []
    make_writable(folder)
    series.files[2].write_bytes(whole)
    (report,) = seal_by_hand.fn("D")
    assert report["files"]["taken"] == 1
    assert seal_by_hand.fn("D") == []


@pytest.mark.parametrize(
    ("name", "told"),
    [
        *(("2026_11_20__D", True), ("2026-11-31__D", True), ("20261120", True), ("2026-11-20.1__D", True)),
        *(("2026-11-20 left lung", True), ("4711-0815-33", False), ("12345678", False), ("notes", False)),
    ],
)
def test_a_folder_that_is_nearly_called_like_a_day_is_told_and_stops_nobody(
    home: Path, name: str, told: bool
) -> None:
    root = home / "data" / "rawdata" / "D"
    write_series(root / "2026-11-19__D" / "a", SHAPE)
    write_series(root / name / "b", SHAPE, name="b")
    assert [report["snapshot"] for report in seal_by_hand.fn("D")] == ["2026-11-19__D"]
    said = passed_over("D")
    assert bool(said) == told
    assert name not in "".join(said)


def test_a_folder_filled_by_hand_is_not_taken_where_identities_are_not_wanted(home: Path) -> None:
    (home / "config" / "dataset_D.yaml").write_text("arrival_quiet_s: 0\ndeidentify_folders: true\n")
    folder = home / "data" / "rawdata" / "D" / "2026-11-20__D"
    folder.mkdir(parents=True)
    assert passed_over("D") == []
    write_series(folder, SHAPE)
    assert seal_by_hand.fn("D") == []
    (said,) = passed_over("D")
    assert "`deidentify_folders` wants no identities" in said
    assert not (folder / "manifest.json").exists()
