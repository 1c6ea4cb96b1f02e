"""Keys change with everything that decides the content, and with nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.ledger.store import LINKS_TOGETHER, image_key, label_key, link_all, preprocessed_key

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


def test_links_lead_to_their_files_also_where_the_home_is_moved(tmp_path: Path) -> None:
    home = tmp_path / "home"
    targets = {name: home / place / name for name, place in (("a", "store/1"), ("b", "store/2"), ("c", "x"))}
    for name, target in targets.items():
        target.parent.mkdir(parents=True)
        target.write_text(name)
    for _ in range(2):  # a retried step finds the links of its first try
        link_all({home / "2026-11-27" / "imagesTr": list(targets.items())})
    home.rename(tmp_path / "moved")
    links = tmp_path / "moved" / "2026-11-27" / "imagesTr"
    assert {link.name: link.read_text() for link in links.iterdir()} == {name: name for name in "abc"}


def test_links_are_all_there_also_where_there_are_many(tmp_path: Path) -> None:
    counts = {"imagesTr": 2 * LINKS_TOGETHER + 1, "labelsTr": LINKS_TOGETHER, "gt_segmentations": 1}
    targets = {
        tmp_path / folder: [(str(n), tmp_path / "store" / f"{folder}-{n}") for n in range(count)]
        for folder, count in counts.items()
    }
    link_all(targets)
    for folder, wanted in targets.items():
        assert {link.name: link.resolve() for link in folder.iterdir()} == dict(wanted)


def test_links_lead_to_files_that_lie_apart(tmp_path: Path) -> None:
    targets = {name: tmp_path / place / name for name, place in (("a", "home/store"), ("b", "disk2/store"))}
    for name, target in targets.items():
        target.parent.mkdir(parents=True)
        target.write_text(name)
    link_all({tmp_path / "home" / "imagesTr": list(targets.items())})
    links = (tmp_path / "home" / "imagesTr").iterdir()
    assert {link.name: link.read_text() for link in links} == {"a": "a", "b": "b"}
