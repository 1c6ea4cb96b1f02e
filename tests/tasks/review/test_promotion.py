"""A worse model is not put into use; chance alone is no reason to call one worse, or better."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.review.promotion import ScoredCase, judge, lower_bound

LIMITS = {"margin": 0.02, "confidence": 0.95, "false_alarm_margin": 0.1}


def cases(
    candidate: list[float | None], current: list[float | None], patients: list[str] | None = None
) -> list[ScoredCase]:
    names = patients or [f"p{n}" for n in range(len(candidate))]
    return [
        ScoredCase(name, {"A": new}, {"A": old})
        for name, new, old in zip(names, candidate, current, strict=True)
    ]


@pytest.mark.parametrize(
    ("candidate", "current", "accepted"),
    [
        ([0.9] * 10, [0.8] * 10, True),
        ([0.8] * 10, [0.8] * 10, True),
        ([0.79] * 10, [0.8] * 10, True),  # within the margin
        ([0.77] * 10, [0.8] * 10, False),
        # better on average, but three patients of ten are far worse: the bound is below the margin
        ([0.95] * 7 + [0.4] * 3, [0.75] * 10, False),
        ([0.1], [0.9], False),
        ([], [], True),
    ],
)
def test_a_candidate_must_not_be_worse(
    candidate: list[float | None], current: list[float | None], accepted: bool
) -> None:
    (verdict,) = judge(cases(candidate, current), ["A"], **LIMITS)
    assert verdict.non_inferior is accepted
    assert (verdict.margin, verdict.confidence) == (0.02, 0.95), "whoever judges again must know"


def test_one_structure_that_got_worse_is_enough() -> None:
    both = [ScoredCase(f"p{n}", {"A": 0.95, "B": 0.5}, {"A": 0.7, "B": 0.8}) for n in range(8)]
    verdicts = {v.structure: v.non_inferior for v in judge(both, ["A", "B"], **LIMITS)}
    assert verdicts == {"A": True, "B": False}


def test_many_scans_of_one_patient_are_one_witness() -> None:
    """Counted one by one, twenty scans of the one patient who got better would outvote two others."""
    candidate: list[float | None] = [0.82] * 20 + [0.75, 0.75]
    patients = ["p"] * 20 + ["q", "r"]
    (apart,) = judge(cases(candidate, [0.8] * 22), ["A"], **LIMITS)
    (together,) = judge(cases(candidate, [0.8] * 22, patients), ["A"], **LIMITS)
    assert (apart.patients, together.patients) == (22, 3)
    assert (apart.non_inferior, together.non_inferior) == (True, False)


def test_finding_what_is_not_there_counts_against_a_model() -> None:
    (worse,) = judge(cases([0.0, 0.0], [None, None]), ["A"], **LIMITS)
    assert (worse.non_inferior, worse.false_alarms) == (False, 2)
    assert worse.alarm_bound is not None and worse.alarm_bound <= -0.1 == -LIMITS["false_alarm_margin"]
    (unknown,) = judge(cases([None], [None]), ["A"], **LIMITS)
    assert (unknown.cases, unknown.non_inferior) == (0, True)


@pytest.mark.parametrize(
    ("candidate", "current", "accepted"),
    [
        # Silent where the other one saw something, it has lost a tenth of every tumour.
        ([0.8] * 5 + [None] * 5, [0.9] * 5 + [0.0] * 5, False),
        # Better on every tumour, it sees some where there are none.
        ([0.99] * 5 + [0.0] * 2 + [None] * 3, [0.5] * 5 + [None] * 5, False),
        ([0.9] * 5 + [None] * 5, [0.9] * 5 + [0.0] * 5, True),
    ],
)
def test_false_alarms_and_tumours_do_not_make_up_for_each_other(
    candidate: list[float | None], current: list[float | None], accepted: bool
) -> None:
    (verdict,) = judge(cases(candidate, current), ["A"], **LIMITS)
    assert verdict.non_inferior is accepted
    assert verdict.cases == 5


def test_cases_in_which_both_see_what_is_not_there_do_not_hide_a_loss() -> None:
    """Their difference is nought, and three of four such would divide every loss by four."""
    tumours, empty = [0.86] * 5, [0.0] * 15
    scored = cases([*tumours, *empty], [0.9] * 5 + empty)
    known = [replace(c, absent=frozenset("A")) if not c.current["A"] else c for c in scored]
    (diluted,), (verdict,) = judge(scored, ["A"], **LIMITS), judge(known, ["A"], **LIMITS)
    assert (diluted.cases, diluted.non_inferior) == (20, True)
    assert (verdict.cases, verdict.difference, verdict.non_inferior) == (5, pytest.approx(-0.04), False)
    assert (verdict.empty, verdict.false_alarms, verdict.false_alarms_before) == (15, 0, 0)


@pytest.mark.parametrize(
    ("empty", "alarms", "margin", "accepted"),
    [(40, 1, 0.1, True), (40, 3, 0.1, False), (10, 1, 0.1, False), (10, 1, 0.4, True), (40, 0, 0.0, True)],
)
def test_false_alarms_have_a_margin_of_their_own(
    empty: int, alarms: int, margin: float, accepted: bool
) -> None:
    """Against that of Dice a single one among 150 patients was too many."""
    candidate: list[float | None] = [0.9] * 20 + [0.0] * alarms + [None] * (empty - alarms)
    scored = cases(candidate, [0.9] * 20 + [None] * empty)
    known = [replace(c, absent=frozenset("A")) if c.current["A"] is None else c for c in scored]
    (verdict,) = judge(known, ["A"], **{**LIMITS, "false_alarm_margin": margin})
    assert (verdict.non_inferior, verdict.empty, verdict.cases) == (accepted, empty, 20)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=20))
def test_the_bound_is_a_bound_and_the_same_every_time(pairs: list[tuple[float, float]]) -> None:
    scored = cases([a for a, _ in pairs], [b for _, b in pairs])
    (one,), (two,) = (judge(scored, ["A"], **LIMITS) for _ in range(2))
    assert one == two
    assert one.lower_bound is not None and one.difference is not None
    assert min(a - b for a, b in pairs) - 1e-9 <= one.lower_bound
    assert one.lower_bound <= max(a - b for a, b in pairs) + 1e-9


@pytest.mark.parametrize(("patients", "held"), [(2, 0.75), (3, 0.81), (5, 0.90), (10, 0.93), (20, 0.94)])
def test_few_patients_make_the_bound_as_optimistic_as_it_is_said(patients: int, held: float) -> None:
    """`docs/science.md` has these figures; of 4,000 draws, here of 300."""
    rng = np.random.default_rng(patients)
    draws = [rng.normal(0, 1, patients) for _ in range(300)]
    bounds = [lower_bound([(f"p{n}", x) for n, x in enumerate(draw)], 0.95) for draw in draws]
    assert np.mean(np.array(bounds) <= 0) == pytest.approx(held, abs=0.06)
    said = (Path(__file__).parents[3] / "docs" / "science.md").read_text()
    assert f"{held * 100:.0f} {'% of draws ' if patients == 2 else ''}of {patients}" in " ".join(said.split())


def test_the_bound_is_that_of_the_normal_theory_where_it_holds() -> None:
    rng = np.random.default_rng(0)
    differences = rng.normal(0.01, 0.05, 400)
    (verdict,) = judge(cases(list(0.5 + differences), [0.5] * 400), ["A"], **LIMITS)
    expected = differences.mean() - 1.645 * differences.std(ddof=1) / 20
    assert verdict.lower_bound == pytest.approx(expected, abs=5e-4)
