"""Plans and structures are frozen within a lineage; a new one is a decision on record."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.errors import UserDataError
from tasks.ledger.case_book import BookedCase, book_cases, load_cases
from tasks.ledger.journal import Journal
from tasks.ledger.lineages import (
    Lineage,
    current_lineage,
    keep_plans,
    load_lineages,
    open_lineage,
    plans_of,
    resume_lineage,
)
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.registry import load_registry, register

PLANS = {"p.json": {"patch": [1]}, "dataset.json": {}, "dataset_fingerprint.json": {}}


@pytest.fixture
def paths(home: Path) -> DatasetPaths:
    return DatasetPaths(home, "D")


def begin(paths: DatasetPaths, *structures: str) -> Lineage:
    return open_lineage(paths, "a test", structures, "label_image", "p", "3d_fullres")


def test_the_newest_lineage_is_trained_until_an_older_one_is_resumed(paths: DatasetPaths) -> None:
    assert current_lineage(paths) is None
    first = keep_plans(paths, begin(paths, "A"), PLANS)
    second = keep_plans(paths, begin(paths, "A", "B"), PLANS)
    assert (first.number, second.number) == (1, 2)
    assert current_lineage(paths) == second
    resume_lineage(paths, 1, "rollback")
    assert current_lineage(paths) == first
    resume_lineage(paths, 1, "again")  # nothing to say
    assert [e["event"] for e in Journal(paths.lineages).entries()].count("resumed") == 1


def test_a_lineage_without_plans_may_still_be_changed(paths: DatasetPaths) -> None:
    """A typing error in the ROI file must not stay for ever."""
    begin(paths, "Hart")
    lineage = begin(paths, "Heart")
    assert (lineage.number, lineage.structures) == (1, ["Heart"])
    assert load_registry(paths.labels) == {}
    keep_plans(paths, lineage, PLANS)
    assert load_registry(paths.labels) == {"Heart": 1}


def test_plans_that_were_changed_are_not_used(paths: DatasetPaths) -> None:
    lineage = keep_plans(paths, begin(paths, "A"), PLANS)
    folder = plans_of(paths, lineage)
    (folder / "p.json").write_text('{"patch": [2]}')
    with pytest.raises(UserDataError, match="does not hold the plans that lineage 1 was frozen with"):
        plans_of(paths, lineage)


def test_plans_of_a_run_that_was_killed_before_their_record_are_made_anew(paths: DatasetPaths) -> None:
    lineage = begin(paths, "A")
    keep_plans(paths, lineage, PLANS)
    content = Journal(paths.lineages).entries()[:1]
    paths.lineages.unlink()
    for entry in content:
        Journal(paths.lineages).append({k: v for k, v in entry.items() if k != "parent"})
    assert load_lineages(paths)[0][1].plans is None
    other = keep_plans(paths, load_lineages(paths)[0][1], {**PLANS, "p.json": {"patch": [3]}})
    assert plans_of(paths, other).is_dir()


def test_a_number_is_never_given_to_another_name(tmp_path: Path) -> None:
    book = tmp_path / "labels.json"
    assert register(book, ["A", "B"], 1) == {"A": 1, "B": 2}
    assert register(book, ["C", "A"], 2) == {"A": 1, "B": 2, "C": 3}
    assert register(book, ["B"], 3) == load_registry(book) == {"A": 1, "B": 2, "C": 3}
    assert len(Journal(book).entries()) == 2


def test_a_case_is_noted_when_it_is_new_or_changed(tmp_path: Path) -> None:
    book = tmp_path / "cases.json"
    case = BookedCase("p", "image", None, None, None, "2026-11-22__D")
    book_cases(book, "2026-11-22__D", {"case1": case})
    book_cases(book, "2026-11-23__D", {"case1": case})
    drawn = BookedCase("p", "image", "label", "1.2.3", "reader", "2026-11-24__D")
    book_cases(book, "2026-11-24__D", {"case1": drawn, "case2": case})
    history = load_cases(book)
    assert [(row["snapshot"], row["label"]) for row in history["case1"]] == [
        ("2026-11-22__D", None),
        ("2026-11-24__D", "label"),
    ]
    assert len(history["case2"]) == 1
