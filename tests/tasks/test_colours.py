from __future__ import annotations

from itertools import combinations

import pytest

from tasks.colours import PALETTE, css_of, rgb_of


def test_no_two_structures_of_a_hundred_have_the_same_colour() -> None:
    colours = [rgb_of(number) for number in range(100)]
    assert len(set(colours)) == 100
    assert all(0 <= part <= 255 for colour in colours for part in colour)


def test_the_first_ones_are_far_apart() -> None:
    apart = min(max(abs(p - q) for p, q in zip(a, b, strict=True)) for a, b in combinations(PALETTE, 2))
    assert apart >= 60


@pytest.mark.parametrize("number", [0, 6, 7, 50])
def test_a_page_has_the_same_colour(number: int) -> None:
    assert css_of(number) == "rgb({},{},{})".format(*rgb_of(number))
