"""The page stays one that a browser opens, however many images wait."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from bs4 import BeautifulSoup
from dicom_factory import ball, write_rois, write_series
from predicted_lab import DAY, a_model, predict, predicted

import tasks.report
from tasks.ingest import take_delivery
from tasks.ledger.case_book import BookedCase, book_cases
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.patients import extend_patients
from tasks.ledger.refinements import Refinement, note_refinements
from tasks.ledger.withdrawals import add_withdrawal
from tasks.report import effort_by_model, write_report
from tasks.review.report import effort_row
from tasks.settings.dataset import load_dataset_settings
from tasks.state import state_at

SHAPE = (6, 20, 24)
MASKS = {"GTV": ball(SHAPE, (3, 8, 8), 4)}


def note_corrections(effort: Mapping[str, Mapping[str, Any]]) -> None:
    """Case id → what its correction cost of the one structure."""
    rows = {
        case: Refinement(case, "edited", "series", "1.2", "2026-11-20", False, "s", {"GTV": dict(figures)})
        for case, figures in effort.items()
    }
    note_refinements(DatasetPaths.of("D").refinements, rows)


@pytest.mark.parametrize(("most", "pictured", "words"), [(500, 3, ""), (1, 1, "2 more, further down")])
def test_the_first_of_the_worklist_have_pictures(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, pictured: int, words: str
) -> None:
    lab = predicted(home, tmp_path, MASKS)
    for name in ("second", "third"):
        write_series(tmp_path / "more" / name, SHAPE, name=name, patient=name)
    take_delivery.fn("D", tmp_path / "more", DAY)
    for case in state_at(lab.paths, load_dataset_settings(lab.paths.config, "D"))[0].images:
        predict(lab.paths, lab.model, MASKS, case)
    monkeypatch.setattr(tasks.report, "MOST_PICTURES", most)
    page = BeautifulSoup(write_report.fn("D").read_text(), "html.parser")
    rows = [row["id"].removeprefix("w-") for row in page.select("tr[id^=w-]")]
    figures = [figure["id"].removeprefix("p-") for figure in page.select("figure[id^=p-]")]
    assert len(rows) == 3
    assert figures == rows[:pictured]
    assert (words in page.text) if words else ("further down" not in page.text)


def test_two_scans_of_one_patient_are_no_independent_witnesses(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, models = DatasetPaths.of("D"), [a_model(DatasetPaths.of("D"), ["GTV"])]
    cost = {"added_path_length_mm": 0.0, "edited_slices": 1, "edited_volume_ml": 1.0, "unedited": False}
    scores = {"dice": 0.9, "surface_dice": 0.9, "hd95_mm": 1.0}
    lengths = dict(zip("abcdefgh", (10.0, 12.0, 90.0, 88.0, 40.0, 42.0, 58.0, 60.0), strict=True))
    rows = {
        case: Refinement(
            case, "edited", "series", "1.2", "2026-11-20", False, "s",
            {"GTV": {**cost, **scores, "added_path_length_mm": length}},
        )
        for case, length in lengths.items()
    }  # fmt: skip
    note_refinements(paths.refinements, rows)
    widths = []
    for patients in ("abcdefgh", "aacceegg"):
        booked = {case: [{"patient": patient}] for case, patient in zip(rows, patients, strict=True)}
        monkeypatch.setattr("tasks.report.load_cases", lambda _, found=booked: found)
        (row,) = effort_by_model(paths, models)
        assert (row.cases, row.path_length_mm.value) == (8, 50.0)
        widths.append(row.path_length_mm.high - row.path_length_mm.low)
    assert widths[1] > widths[0]


def test_what_was_neither_predicted_nor_there_cost_nobody_anything(home: Path) -> None:
    """It would halve what a structure costs that is in every second scan."""
    paths, models = DatasetPaths.of("D"), [a_model(DatasetPaths.of("D"), ["GTV"])]
    cost = {"edited_slices": 2, "edited_volume_ml": 1.0, "surface_dice": None, "hd95_mm": None}
    drawn = {**cost, "added_path_length_mm": 80.0, "unedited": False, "dice": 0.5}
    absent = {**cost, "added_path_length_mm": 0.0, "edited_slices": 0, "unedited": True, "dice": None}
    found = {"a": {"GTV": drawn, "node": absent}, "b": {"GTV": absent, "node": absent}}
    note_refinements(
        paths.refinements,
        {c: Refinement(c, "edited", "series", "1.2", "2026-11-20", False, "s", e) for c, e in found.items()},
    )
    (row,) = effort_by_model(paths, models)
    assert (row.structure, row.cases, row.path_length_mm.value, row.unedited) == ("GTV", 1, 80.0, 0)


def test_a_distance_says_of_how_many_corrections_it_is(home: Path) -> None:
    """Where a reader has taken a false alarm away there is none."""
    cost = {"added_path_length_mm": 9.0, "edited_slices": 2, "edited_volume_ml": 1.0, "unedited": False}
    both = {**cost, "dice": 0.9, "surface_dice": 0.9, "hd95_mm": 1.0}
    gone = {**cost, "dice": 0.0, "surface_dice": 0.0, "hd95_mm": None}
    note_corrections({"a": both, "b": gone, "c": gone})
    (row,) = effort_by_model(DatasetPaths.of("D"), [a_model(DatasetPaths.of("D"), ["GTV"])])
    assert (row.cases, row.with_dice, row.with_distance) == (3, 3, 1)
    assert effort_row(row)["HD95, mm"] == "1.0 (1 of 3 cases)"
    assert effort_row(row)["Dice"] == "0.300"


@pytest.mark.parametrize(("cases", "patient"), [(["a"], None), ([], "keyed-a")])
def test_who_is_withdrawn_does_not_count_in_what_corrections_cost(
    home: Path, cases: list[str], patient: str | None
) -> None:
    paths = DatasetPaths.of("D")
    cost = {"added_path_length_mm": 9.0, "edited_slices": 2, "edited_volume_ml": 1.0, "unedited": False}
    note_corrections({c: {**cost, "dice": 0.9, "surface_dice": 0.9, "hd95_mm": 1.0} for c in "ab"})
    book_cases(paths.cases, "s", {c: BookedCase(f"keyed-{c}", "i", "l", None, None, "s") for c in "ab"})
    add_withdrawal(paths.withdrawals, date(2026, 11, 23), cases, patient)
    (row,) = effort_by_model(paths, [a_model(paths, ["GTV"])])
    assert row.cases == 1


def test_a_correction_that_was_saved_again_is_counted_once(home: Path) -> None:
    """Nor twice where a viewer saves it as SEG and as RTSTRUCT."""
    paths, models = DatasetPaths.of("D"), [a_model(DatasetPaths.of("D"), ["GTV"])]
    cost = {"edited_slices": 2, "edited_volume_ml": 1.0, "surface_dice": None, "hd95_mm": None}
    saved = {"2026-11-23.2__D": 300.0, "2026-11-23__D": 100.0}
    note_refinements(
        paths.refinements,
        {
            arrived: Refinement(
                *("case1", "edited", "series", "1.2", "2026-11-20", False, arrived),
                {"GTV": {**cost, "added_path_length_mm": length_mm, "unedited": False, "dice": 0.5}},
            )
            for arrived, length_mm in saved.items()
        },
    )
    (row,) = effort_by_model(paths, models)
    assert (row.cases, row.path_length_mm.value) == (1, 300.0)


def test_the_account_adds_up_to_all_that_the_dataset_has(home: Path, tmp_path: Path) -> None:
    lab = predicted(home, tmp_path, MASKS)
    for name in ("second", "third"):
        series = write_series(tmp_path / "more" / name, SHAPE, name=name, patient=name)
    for rival in ("one", "other"):  # of one date: which of them counts?
        write_rois(tmp_path / "more" / rival, series, MASKS, name=rival)
    for number in range(4):
        write_series(tmp_path / "more" / f"{number}", SHAPE, name=f"{number}", patient=f"P{number}")
    take_delivery.fn("D", tmp_path / "more", DAY)
    cases = state_at(lab.paths, load_dataset_settings(lab.paths.config, "D"))[0].images
    waiting = {case.patient for case in cases if case.reason == "unlabelled"}
    tested = extend_patients(lab.paths.patients, [], 2, 0.5, unlabelled=waiting, every_fold=False).test
    page = BeautifulSoup(write_report.fn("D").read_text(), "html.parser")
    cells = [[cell.text for cell in row.find_all("td")] for row in page.select("table")[0].select("tbody tr")]
    account = {name: int(count) for name, count in cells}
    settings = load_dataset_settings(lab.paths.config, "D")
    assembly, _ = state_at(lab.paths, settings)
    assert sum(account.values()) == len(assembly.images) + len(assembly.segmentations)
    seen = {case.patient for case in cases if case.case_id == lab.record["case_id"]}
    left = tested - seen  # which was predicted before
    assert account["images of the test set, to be drawn by hand"] == len(left) > 0
    assert account["images, unlabelled"] == 6 - len(left)
    assert account["images that cannot be used"] == 1
    assert account["further segmentations that cannot be used"] == 2
