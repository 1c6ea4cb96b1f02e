"""Values lie where the axis says, whatever it begins with."""

from __future__ import annotations

import re

import pytest

from tasks.review.curves import HEIGHT, TOP, Point, curve, standing_alone

LOWEST, HIGHEST = HEIGHT - 30.0, float(TOP)


def heights(svg: str) -> list[float]:
    marks = re.findall(r"<text x='[^']*' y='([^']*)' text-anchor='middle' fill='rgb[^']*'>[●■▲◆]<", svg)
    return [float(y) - 4 for y in marks]  # the foot of a letter


@pytest.mark.parametrize(
    ("bottom", "top", "values", "shares"),
    [
        (0.0, 1.0, [0.0, 0.5, 1.0], [0.0, 0.5, 1.0]),
        (0.6, 1.0, [0.6, 0.8, 1.0], [0.0, 0.5, 1.0]),
        (0.6, 1.0, [0.1, 2.0], [0.0, 1.0]),
    ],
)
def test_points_lie_at_their_share_of_the_axis(
    bottom: float, top: float, values: list[float], shares: list[float]
) -> None:
    points = [Point(value, value, value, 1) for value in values]
    drawn = curve("x", [str(value) for value in values], {"line": points}, top, bottom=bottom)
    assert heights(drawn) == pytest.approx([LOWEST - share * (LOWEST - HIGHEST) for share in shares])
    assert f">{bottom:.3g}</text>" in drawn


def test_a_picture_of_its_own_is_svg() -> None:
    drawn = standing_alone(curve("x", ["a"], {"line": [Point(1, 1, 1, 1)]}))
    assert drawn.startswith("<svg xmlns='http://www.w3.org/2000/svg' ")


def test_an_axis_of_many_cases_is_read_without_exponents() -> None:
    drawn = curve("x", [], {"line": [Point(1, 1, 1, 1)]}, across={"line": [10_000.0]})
    assert ">10,000</text>" in drawn
    assert ">2,500</text>" in drawn


@pytest.mark.parametrize(("names", "rows"), [(3, 1), (7, 2), (14, 3)])
def test_a_legend_stays_within_the_picture(names: int, rows: int) -> None:
    drawn = curve("Dice", ["a"], {f"the name {n}": [Point(0.5, 0.4, 0.6, 3)] for n in range(names)})
    mark = "<tspan fill='rgb[^']+'>[●■▲◆]</tspan>"
    places = re.findall(rf"<text x='(\d+)' y='(\d+)' fill='currentColor'>{mark} the name \d+<", drawn)
    assert len(places) == names
    assert max(int(x) for x, _ in places) <= 640 - 8 * len("● the name 0")
    assert len({y for _, y in places}) == rows
    assert f"viewBox='0 0 640 {260 + 16 * (rows - 1)}'" in drawn
