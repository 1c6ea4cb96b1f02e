"""What a command says when it has done its work."""

from __future__ import annotations

from typing import Any

import pytest

from flows.words import in_words, of_cases

NOTHING: dict[str, Any] = {
    "stage": "ingest",
    "snapshots": [],
    "manifests": [],
    "files": {},
    "reasons": {},
    "retrieved": None,
    "held": {},
    "refinements": {},
    "passed_over": [],
    "cases": [],
    "totals": {"done": 0, "rejected": 0, "ignored": 0},
}
SOME = {"taken": 0, "duplicate": 0, "rejected": 1, "ignored": 0}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "ingest: 0 files\n  nothing new\n  cases: none"),
        (
            {"files": SOME, "reasons": {"unreadable": 1}, "manifests": ["/raw/deliveries/a.json"]},
            "ingest: 1 files: 1 rejected\n  unreadable: 1\n  nothing new\n"
            "  which files these are stands in /raw/deliveries/a.json\n  cases: none",
        ),
        (
            {
                "files": {**SOME, "taken": 3, "rejected": 0},
                "snapshots": ["s"],
                "manifests": ["/raw/s/m.json"],
            },
            "ingest: 3 files: 3 taken\n  snapshot s\n  cases: none",
        ),
    ],
)
def test_what_ingest_says(changes: dict[str, Any], words: str) -> None:
    assert in_words({**NOTHING, **changes}) == words


def test_what_has_no_cases_says_nothing_of_them() -> None:
    report = {"stage": "send", "model": "m", "sent": {"pacs": {"sent": 3}}, "cases": [], "totals": {}}
    assert "cases: none" not in in_words(report)


@pytest.mark.parametrize(("patients", "said"), [(3, True), (9, True), (10, False), (0, False)])
def test_few_test_patients_are_told(patients: int, said: bool) -> None:
    """A bootstrap over a handful promises more than it holds (docs/science.md)."""
    report = {
        **{"stage": "train", "model": "m", "parent": None, "state": "trained", "control": None},
        **{"test_dice": {}, "validation_dice": {}, "suspects": [], "accepted": True, "in_use": "m"},
        **{"latest": "latest", "verdicts": [{"patients": patients}, {"patients": 40}]},
    }
    assert ("the bound is optimistic" in in_words(report)) is said


def test_a_patient_of_whom_no_image_was_here_is_withdrawn_in_words() -> None:
    report = {"stage": "withdraw", "new": True, "cases": [], "deleted": None, "models": [], "also_in": []}
    assert "the patient is withdrawn; no image was here" in in_words({**report, "copies": {}})


def test_what_a_withdrawal_says_of_the_same_scan_under_another_name() -> None:
    report = {"stage": "withdraw", "new": True, "cases": ["a"], "deleted": None, "models": [], "also_in": []}
    assert in_words({**report, "copies": {"D": ["b"]}}).splitlines()[1:] == [
        "  case b of D is the same scan under another name; withdraw it too"
    ]


def test_a_reason_without_more_to_say_ends_without_a_colon() -> None:
    rejected = {"case_id": "a", "state": "rejected", "reason": "same-image-withdrawn"}
    rows = [{**rejected, "detail": ""}, {**rejected, "detail": "more"}]
    said = of_cases({"stage": "prepare", "cases": rows, "totals": {"done": 0, "rejected": 2, "ignored": 0}})
    assert [line for line in said if line.startswith("  rejected")] == [
        "  rejected a: same-image-withdrawn",
        "  rejected a: same-image-withdrawn: more",
    ]
