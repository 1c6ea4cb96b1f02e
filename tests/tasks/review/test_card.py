"""What goes out with a model says of what its figures are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from predicted_lab import a_model

from tasks.ledger.paths import DatasetPaths
from tasks.review.card import card_as_markdown, model_card


def test_a_distance_says_of_how_many_cases_it_is(home: Path) -> None:
    """Where a tumour was missed there is none, and the mean looks the better for it."""
    rows = [
        {"dice": {"GTV": 0.9, "node": 0.8}, "hd95_mm": {"GTV": 2.0, "node": 3.0}},
        {"dice": {"GTV": 0.0, "node": 0.7}, "hd95_mm": {"GTV": None, "node": 4.0}},
    ]
    model = replace(
        a_model(DatasetPaths.of("D"), ["GTV", "node"]),
        test_cases=rows,
        test_dice={"GTV": 0.45, "node": 0.75},
        test_hd95_mm={"GTV": 2.0, "node": 3.5},
    )
    card = model_card(model, "D")
    assert card["test"]["hd95_cases"] == {"GTV": (1, 2), "node": (2, 2)}
    text = card_as_markdown(card)
    assert "| 2.000 (1 of 2 cases) |" in text
    assert "| 3.500 |" in text


def test_a_score_says_of_how_many_test_cases_it_is(home: Path) -> None:
    """In the others nothing is, and nothing was found."""
    rows = [{"dice": {"GTV": dice}, "hd95_mm": {"GTV": 2.0 if dice else None}} for dice in (0.9, None, None)]
    model = replace(
        a_model(DatasetPaths.of("D"), ["GTV"]),
        test_cases=rows,
        cases={"training": 4, "test": 3},
        test_dice={"GTV": 0.9},
        test_hd95_mm={"GTV": 2.0},
    )
    assert "| GTV | 0.900 (1 of 3 cases) |" in card_as_markdown(model_card(model, "D"))
