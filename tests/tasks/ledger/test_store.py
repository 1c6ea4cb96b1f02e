"""Keys change with everything that decides the content, and with nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.ledger.store import image_key, label_key, preprocessed_key

CHOICES: dict[str, Any] = {"patterns": {"A": ["a"], "B": ["b"]}, "strategy": "label_image"}


def test_an_image_is_its_files_in_any_order() -> None:
    assert image_key(["x", "y"], 1) == image_key(["y", "x"], 1)
    assert image_key(["x", "y"], 1) != image_key(["x"], 1)
    assert image_key(["x", "y"], 1) != image_key(["x", "y"], 2)


@pytest.mark.parametrize(
    "other",
    [
        ("j", "seg", CHOICES),
        ("i", "seg2", CHOICES),
        ("i", "seg", {**CHOICES, "strategy": "priority"}),
        ("i", "seg", {**CHOICES, "patterns": {"B": ["b"], "A": ["a"]}}),
        ("i", "seg", {**CHOICES, "patterns": {"A": ["a.*"], "B": ["b"]}}),
    ],
)
def test_a_label_is_image_segmentation_and_choices_in_their_order(other: tuple[Any, ...]) -> None:
    assert label_key("i", "seg", CHOICES) == label_key("i", "seg", dict(CHOICES))
    assert label_key("i", "seg", CHOICES) != label_key(*other)


def test_a_preprocessed_case_is_image_label_plans_and_code() -> None:
    assert preprocessed_key("i", "l", "p", "c") != preprocessed_key("i", "l", "q", "c")
    assert preprocessed_key("i", "l", "p", "c") != preprocessed_key("i", "m", "p", "c")
    assert preprocessed_key("i", "l", "p", "c") != preprocessed_key("i", "l", "p", "d")
