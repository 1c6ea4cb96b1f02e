"""Curves as SVG: values against models, a line for each structure, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from tasks.colours import css_of

WIDTH, HEIGHT, MARGIN, TOP, RIGHT = 640, 260, 44, 40, 28
LEGEND, ROW = 28, 16
QUARTERS = (0.0, 0.25, 0.5, 0.75, 1.0)
MARKS = "●■▲◆"
"""A line's own, beside its colour: not everybody sees that, nor every printer."""
LETTER = 8.0
"""About how wide one is, in the units of the picture."""


@dataclass(frozen=True)
class Point:
    """A value with its interval, and of how many of what."""

    value: float
    low: float
    high: float
    count: int
    of: str = "cases"


def curve(
    what: str,
    models: Sequence[str],
    lines: Mapping[str, Sequence[Point | None]],
    top: float | None = None,
    across: Mapping[str, Sequence[float]] | None = None,
    bottom: float = 0.0,
) -> str:
    """Draw a picture that scales with the page.

    Parameters
    ----------
    what
        What the values are, with their unit; said to those who cannot see it, too.
    models
        The names along the axis; none with ``across``.
    lines
        Name of a line → one point for each model; None where there is none.
    top
        Of the axis; left out: a little above the highest value.
    across
        Name of a line → where along an axis of numbers, from 0, its points lie.
    bottom
        Where the axis begins; what lies below is drawn there.
    """
    highest = max((p.high for points in lines.values() for p in points if p is not None), default=1.0)
    scale = _Scale(top or 1.1 * max(highest, 1e-6), len(models), bottom=bottom)
    if across is not None:
        furthest = max((x for positions in across.values() for x in positions), default=0.0)
        scale = _Scale(scale.top, 0, furthest or 1.0, bottom)
    marks = [_axes(scale)]
    for number, (name, points) in enumerate(lines.items()):
        places = across[name] if across is not None else range(len(points))
        marks.append(_line(number, name, points, [scale.x(place) for place in places], scale))
    below = f"y='{HEIGHT - 10}' text-anchor='middle' fill='currentColor'"
    names = [f"<text x='{x:.1f}' {below}>{escape(name)}</text>" for x, name in scale.names(models)]
    legend, more = _legend(list(lines))
    return (
        f"<svg viewBox='0 0 {WIDTH} {HEIGHT + more}' role='img' font-size='12' aria-label='{escape(what)}'>"
        f"<text x='0' y='12' fill='currentColor'>{escape(what)}</text>{legend}"
        f"<g transform='translate(0 {more})'>{''.join(marks)}{''.join(names)}</g></svg>"
    )


def standing_alone(svg: str) -> str:
    """A picture as a file of its own: it names its namespace, and has a colour that any background bears."""
    return svg.replace("<svg ", "<svg xmlns='http://www.w3.org/2000/svg' style='color:#888' ", 1)


@dataclass(frozen=True)
class _Scale:
    top: float
    count: int
    furthest: float = 0.0
    bottom: float = 0.0

    def x(self, position: float) -> float:
        if self.furthest:
            return MARGIN + (WIDTH - MARGIN - RIGHT) * position / self.furthest
        return MARGIN + (WIDTH - MARGIN) * (position + 0.5) / self.count

    def names(self, models: Sequence[str]) -> list[tuple[float, str]]:
        """What stands along the axis, at most eight, and where."""
        if self.furthest:
            marks = [part * self.furthest for part in QUARTERS]
            return [(self.x(mark), f"{mark:,.0f}" if mark >= 100 else f"{mark:.3g}") for mark in marks]
        every = -(-len(models) // 8)
        return [(self.x(n), name) for n, name in enumerate(models) if n % every == 0]

    def y(self, value: float) -> float:
        return TOP + (HEIGHT - TOP - 30) * (1 - self._share(value))

    def value(self, share: float) -> float:
        """At a height of the axis, from 0 to 1."""
        return self.bottom + share * (self.top - self.bottom)

    def _share(self, value: float) -> float:
        return (min(max(value, self.bottom), self.top) - self.bottom) / (self.top - self.bottom)


def in_words(point: Point, digits: str = ".3g") -> str:
    """The value with its interval, which a single patient or seed does not have."""
    if not point.low < point.high:  # of one seed it is no number
        return f"{point.value:{digits}}"
    return f"{point.value:{digits}} ({point.low:{digits}} to {point.high:{digits}})"


def _mark(number: int) -> str:
    return MARKS[number % len(MARKS)]


def _legend(names: Sequence[str]) -> tuple[str, int]:
    """The names with their marks, in as many rows as they need, and how much lower the rest lies for it."""
    parts, x, y = [], 0.0, LEGEND
    for number, name in enumerate(names):
        if x and x + LETTER * (len(name) + 2) > WIDTH:
            x, y = 0.0, y + ROW
        mark = f"<tspan fill='{css_of(number)}'>{_mark(number)}</tspan>"
        parts.append(f"<text x='{x:.0f}' y='{y}' fill='currentColor'>{mark} {escape(name)}</text>")
        x += LETTER * (len(name) + 4)
    return "".join(parts), y - LEGEND


def _axes(scale: _Scale) -> str:
    lines = []
    for share in QUARTERS:
        y = scale.y(scale.value(share))
        lines.append(
            f"<line x1='{MARGIN}' x2='{WIDTH}' y1='{y:.1f}' y2='{y:.1f}' stroke='#8885'/>"
            f"<text x='0' y='{y + 4:.1f}' fill='currentColor'>{scale.value(share):.3g}</text>"
        )
    return "".join(lines)


def _line(number: int, name: str, points: Sequence[Point | None], at: Sequence[float], scale: _Scale) -> str:
    colour = css_of(number)
    shown = [(x, p) for x, p in zip(at, points, strict=True) if p is not None]
    path = " ".join(f"{x:.1f},{scale.y(p.value):.1f}" for x, p in shown)
    marks = [f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='2'/>"]
    for x, point in shown:
        low, high, y = scale.y(point.low), scale.y(point.high), scale.y(point.value)
        title = f"{name}: {in_words(point)}, {point.count} {point.of}"
        ends = f"x1='{x:.1f}' x2='{x:.1f}' y1='{low:.1f}' y2='{high:.1f}'"
        at_foot = f"x='{x:.1f}' y='{y + 4:.1f}' text-anchor='middle'"
        marks.append(
            f"<g><title>{escape(title)}</title><line {ends} stroke='{colour}' stroke-opacity='.6'/>"
            f"<text {at_foot} fill='{colour}'>{_mark(number)}</text></g>"
        )
    return "".join(marks)
