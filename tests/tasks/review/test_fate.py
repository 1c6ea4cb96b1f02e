"""What became of a model is said in one way, everywhere."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.review.fate import fate_of

WORSE = {"structure": "GTV", "difference": -0.31, "lower_bound": -0.4, "non_inferior": False}
MODEL: dict[str, Any] = {
    "model_id": "m2",
    "accepted": True,
    "promoted": False,
    "compared_with": "m1",
    "basis": "test set",
    "verdicts": [WORSE, {**WORSE, "structure": "node", "non_inferior": True}],
}


@pytest.mark.parametrize(
    ("changes", "in_use", "words"),
    [
        ({"promoted": True}, "m2", "in use"),
        ({"promoted": True}, "m1", "was in use"),
        ({"promoted": True, "accepted": False}, "m1", "was in use"),  # by a rollback
        ({}, "m1", "never in use"),  # imported beside one that is in use
        (
            {"accepted": False},
            "m1",
            "not put into use: against m1 on the test set: GTV -0.310 (at least -0.400)",
        ),
        ({"accepted": False, "verdicts": []}, None, "not put into use: against m1 on the test set"),
    ],
)
def test_what_became_of_a_model(changes: dict[str, Any], in_use: str | None, words: str) -> None:
    assert fate_of({**MODEL, **changes}, in_use) == words
