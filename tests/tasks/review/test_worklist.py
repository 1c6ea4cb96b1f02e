"""The worklist is in the order that its strategy says, with a share of chance, and stays so."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.review.worklist import Candidate, Strategy, rank


def candidate(case_id: str, **doubt: Any) -> Candidate:
    plain: dict[str, Any] = {"fold_dice": {"A": 0.9}, "entropy": 0.1, "foreground": 0.1, "slices": []}
    plain["mutual_information"] = 0.01
    return Candidate(case_id, {**plain, **doubt})


SLICES = [(4, 9.0), (2, 1.0)]
CASES = [
    candidate("sure", fold_dice={"A": 1.0}, entropy=0.01, mutual_information=0.001),
    candidate("disputed", fold_dice={"A": 0.3}, entropy=0.2, mutual_information=0.05, slices=SLICES),
    candidate("vague", fold_dice={"A": 0.8}, entropy=0.6, mutual_information=0.02),
    candidate("torn", fold_dice={"A": 0.7}, entropy=0.3, mutual_information=0.2),
    candidate("empty", fold_dice={"A": None}, foreground=0.0, entropy=0.05),
]


@pytest.mark.parametrize(
    ("strategy", "order"),
    [
        ("fold_disagreement", ["disputed", "torn", "vague"]),
        ("entropy", ["vague", "torn", "disputed"]),
        ("bald", ["torn", "disputed", "vague"]),
    ],
)
def test_the_most_doubtful_comes_first(strategy: Any, order: list[str]) -> None:
    assert [r.case_id for r in rank(CASES, strategy, 0.0, 1)][:3] == order


def test_each_place_has_its_reason_and_its_slices() -> None:
    first, *_ = rank(CASES, "fold_disagreement", 0.0, 1)
    assert first.reason == "folds agree to a Dice of 0.30, on A of 0.30"
    assert first.slices == [5, 3]  # from 1, where nobody noted how a viewer numbers them
    numbered = candidate("c", fold_dice={"A": 0.1}, slices=SLICES, shown_as=[56, 58])
    assert rank([numbered], "fold_disagreement", 0.0, 1)[0].slices == [56, 58]
    assert first.score == pytest.approx(0.7)


def test_at_random_but_what_shows_nothing_comes_last() -> None:
    orders = {tuple(r.case_id for r in rank(CASES, "foreground_random", 0.0, seed)) for seed in range(30)}
    assert len(orders) > 10
    assert {order[-1] for order in orders} == {"empty"}


@pytest.mark.parametrize("strategy", ["random", "power_bald"])
def test_chance_favours_as_it_should(strategy: Any) -> None:
    first = Counter(rank(CASES, strategy, 0.0, seed)[0].case_id for seed in range(2000))
    information = {c.case_id: c.doubt["mutual_information"] for c in CASES}
    for case_id, value in information.items():
        share = 1 / len(CASES) if strategy == "random" else value / sum(information.values())
        assert first[case_id] / 2000 == pytest.approx(share, abs=0.04)


def test_structures_take_turns_and_the_rare_one_begins() -> None:
    both = [candidate(f"both{n}", fold_dice={"common": 0.5, "rare": 0.2}) for n in range(2)]
    common = [candidate(f"common{n}", fold_dice={"common": 0.1, "rare": None}) for n in range(6)]
    ranked = rank([*both, *common], "class_stratified", 0.0, 3)
    assert ranked[0].case_id.startswith("both")
    assert ranked[0].reason.startswith("for rare, seen in 2 images")
    assert ranked[1].reason.startswith("for common, seen in 8 images")


def test_a_share_of_the_places_is_drawn_at_random() -> None:
    cases = [candidate(f"c{n:02}", entropy=1 - n / 100) for n in range(50)]
    plain = [r.case_id for r in rank(cases, "entropy", 0.0, 1)]
    mixed = rank(cases, "entropy", 0.2, 1)
    drawn = [n for n, r in enumerate(mixed) if r.reason.startswith("drawn at random, as 20% of the list are")]
    assert len(drawn) == 10
    assert {later - earlier for earlier, later in pairwise(drawn)} == {5}
    others = [r.case_id for n, r in enumerate(mixed) if n not in drawn]
    assert others == [case_id for case_id in plain if case_id in others]


def test_who_only_gets_to_the_first_places_sees_one_at_random_too() -> None:
    """A list is ranked anew after each model: with the fifth place always, four a night would see none."""
    cases = [candidate(f"c{n:02}", entropy=1 - n / 100) for n in range(50)]
    first = [rank(cases, "entropy", 0.2, seed)[0].reason.startswith("drawn") for seed in range(300)]
    assert sum(first) / 300 == pytest.approx(0.2, abs=0.06)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 3)), max_size=12),
    st.sampled_from(get_args(Strategy)),
    st.floats(0, 1),
    st.integers(0, 2**40),
)
def test_every_image_has_one_place_and_the_same_seed_the_same_list(
    figures: list[tuple[float, float, float]], strategy: Any, share: float, seed: int
) -> None:
    cases = [
        candidate(f"c{n}", fold_dice={"A": a, "B": None}, foreground=b, entropy=e, mutual_information=e / 2)
        for n, (a, b, e) in enumerate(figures)
    ]
    ranked = rank(cases, strategy, share, seed)
    assert sorted(r.case_id for r in ranked) == sorted(c.case_id for c in cases)
    shuffled = [cases[i] for i in np.random.default_rng(0).permutation(len(cases))]
    assert rank(shuffled, strategy, share, seed) == ranked
    assert all(r.reason for r in ranked)


def test_a_model_of_one_fold_is_asked_what_it_doubts_itself() -> None:
    """As one that was imported: there are no pairs, and it sees something all the same."""
    cases = [
        candidate(name, fold_dice={"A": None}, entropy=value) for name, value in (("a", 0.1), ("b", 0.3))
    ]
    first, second = rank(cases, "fold_disagreement", 0.0, 1)
    assert (first.case_id, second.case_id) == ("b", "a")
    assert first.reason == "one fold, and none to compare it with: its entropy is 0.300 nats"
    (nothing,) = rank([CASES[-1]], "fold_disagreement", 0.0, 1)
    assert nothing.reason == "no fold sees anything"


def test_where_no_fold_sees_a_structure_they_are_not_said_to_agree_on_it() -> None:
    (empty,) = rank([candidate("empty", fold_dice={"A": None}, foreground=0.0)], "class_stratified", 0.0, 1)
    assert empty.reason == "for A, seen in 0 images: no fold sees anything"
    assert empty.score == 0
