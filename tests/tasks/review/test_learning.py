"""Curves of simulated labs: intervals over seeds, differences within them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from bs4 import BeautifulSoup
from scipy.stats import t, ttest_1samp

from tasks.review.learning import (
    against,
    at_equal_cost,
    curves,
    interval_of_mean,
    mean_dice,
    over_rounds,
    render,
    spent,
    summary,
)


def row(number: int, dice: float, cost: float = 0.0) -> dict[str, Any]:
    return {
        "round": number,
        "labelled": 10 * number,
        "test_dice": {"A": dice, "B": dice, "C": None},
        "test_surface_dice": {"A": dice, "B": dice},
        "validation_dice": {"0": {"A": dice}, "1": {"A": dice + 0.1}},
        "training_s": 60.0,
        "added_path_length_mm": cost,
        "edited_slices": int(cost / 10),
    }


RUNS = {
    "random": {1: [row(1, 0.5), row(2, 0.6, 100), row(3, 0.7, 80)], 2: [row(1, 0.4), row(2, 0.5, 90)]},
    "entropy": {1: [row(1, 0.5), row(2, 0.7, 150)], 2: [row(1, 0.4), row(2, 0.55, 120)]},
    "begun": {1: []},
}


def test_the_interval_is_students() -> None:
    values = [0.5, 0.6, 0.8]
    point = interval_of_mean(values)
    low, high = ttest_1samp(values, 0).confidence_interval(0.95)
    assert (point.low, point.high, point.count, point.of) == (
        pytest.approx(low),
        pytest.approx(high),
        3,
        "seeds",
    )


def test_one_seed_has_no_interval() -> None:
    point = interval_of_mean([0.5])
    assert (point.low, point.value, point.high) == (0.5, 0.5, 0.5)


def test_a_curve_is_as_long_as_every_seed_is() -> None:
    assert [p.value for p in over_rounds(RUNS, "random", mean_dice)] == pytest.approx([0.45, 0.55])
    assert over_rounds(RUNS, "begun", mean_dice) == []


def test_a_structure_without_a_score_does_not_count() -> None:
    assert mean_dice(row(1, 0.5)) == pytest.approx(0.5)


def test_what_was_spent_adds_up() -> None:
    assert spent(RUNS, "random", "added_path_length_mm") == [0, 95]


def test_arms_are_compared_within_seeds_and_after_the_first_round() -> None:
    found = against(RUNS, "entropy", "random", mean_dice)
    assert found is not None
    gains = [0.1, 0.05]
    half = t.ppf(0.975, 1) * np.std(gains, ddof=1) / np.sqrt(2)
    assert (found.value, found.high - found.value) == (pytest.approx(0.075), pytest.approx(half))


def test_the_page_has_a_line_for_each_arm_that_has_begun() -> None:
    assert [r["arm"] for r in summary(RUNS)] == ["random", "entropy"]
    page = BeautifulSoup(render("D", RUNS), "html.parser")
    assert [cell.text for cell in page.select("tbody tr td:first-child")] == ["random", "entropy"]
    assert {div["id"] for div in page.select("div[id]")} == set(curves(RUNS))
    assert all(len(svg.select("polyline")) == 2 for svg in page.select("svg"))


def test_a_page_without_a_finished_round_says_so() -> None:
    assert "No round is finished" in render("D", {"begun": {1: []}})


def test_at_equal_cost_curves_are_read_between_rounds() -> None:
    """Half the cost, and just as far on the way: nothing is gained. Beyond the last round nothing is said."""
    runs = {
        "random": {1: [row(1, 0.5), row(2, 0.6, 100), row(3, 0.7, 100)]},
        "half": {1: [row(1, 0.5), row(2, 0.55, 50), row(3, 0.6, 50)]},
        "better": {1: [row(1, 0.5), row(2, 0.6, 50), row(3, 0.9, 500)]},
    }
    half = at_equal_cost(runs, "half", "random", "added_path_length_mm")
    better = at_equal_cost(runs, "better", "random", "added_path_length_mm")
    assert half is not None and better is not None
    assert (half.value, better.value) == (pytest.approx(0.0), pytest.approx(0.05))
