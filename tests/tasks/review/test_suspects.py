"""Which labels are to be looked at again."""

from __future__ import annotations

import pytest

from tasks.review.suspects import suspect_labels


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.9, 0.91, 0.89, 0.9, 0.2], ["case4"]),
        ([0.9, 0.91, 0.89, 0.9, 0.0, 0.1], ["case4", "case5"]),
        ([0.9, 0.9, 0.9, 0.9, 0.85], []),  # nobody would see the difference
        ([0.1, 0.9, 0.2, 0.8, 0.5, 0.6], []),  # a network that knows nothing accuses nobody
        ([0.9, 0.9, 0.9, 0.1], []),  # of four, who is the odd one?
        ([0.9, 0.91, 0.89, 0.9, 0.92, None], []),
    ],
)
def test_labels_far_below_the_others_are_suspect(scores: list[float | None], expected: list[str]) -> None:
    cases = {f"case{n}": {"a": value, "b": 0.9} for n, value in enumerate(scores)}
    found = suspect_labels(cases, ["a", "b"])
    assert [suspect.case_id for suspect in found] == expected
    assert {suspect.structure for suspect in found} <= {"a"}
