"""What simulated labs learned: means over seeds with intervals, and differences within seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from scipy.stats import t as student

from tasks.review.curves import Point, curve, in_words
from tasks.review.page import template
from tasks.review.scores import mean_of_defined

Row = Mapping[str, Any]
Runs = Mapping[str, Mapping[int, Sequence[Row]]]
"""Arm → seed → rounds."""
CONFIDENCE = 0.95


def mean_dice(row: Row) -> float:
    """Of the round's own model on the test set, over structures; one that was never seen is left out."""
    return _mean(row["test_dice"])


def mean_surface_dice(row: Row) -> float:
    """Of the round's own model on the test set, over structures, at the tolerance of the settings."""
    return _mean(row["test_surface_dice"])


def _mean(scores: Mapping[str, float | None]) -> float:
    mean = mean_of_defined(scores.values())
    return float("nan") if mean is None else mean


def interval_of_mean(values: Sequence[float]) -> Point:
    """The mean over seeds and its Student interval; of one seed there is none."""
    found = np.asarray([value for value in values if not np.isnan(value)])
    if len(found) < 2:
        middle = float(found.mean()) if len(found) else float("nan")
        return Point(middle, middle, middle, len(found), "seeds")
    half = float(student.ppf((1 + CONFIDENCE) / 2, len(found) - 1) * found.std(ddof=1) / np.sqrt(len(found)))
    middle = float(found.mean())
    return Point(middle, middle - half, middle + half, len(found), "seeds")


def over_rounds(runs: Runs, arm: str, figure: Callable[[Row], float]) -> list[Point]:
    """The figure of an arm after each round that all of its seeds have finished."""
    seeds = list(runs[arm].values())
    rounds = min((len(rows) for rows in seeds), default=0)
    return [interval_of_mean([figure(rows[number]) for rows in seeds]) for number in range(rounds)]


def spent(runs: Runs, arm: str, cost: str) -> list[float]:
    """What corrections had cost in all before each round's training, the mean over seeds."""
    seeds = list(runs[arm].values())
    rounds = min((len(rows) for rows in seeds), default=0)
    return [
        float(np.mean([sum(row[cost] for row in rows[: number + 1]) for rows in seeds]))
        for number in range(rounds)
    ]


def against(runs: Runs, arm: str, other: str, figure: Callable[[Row], float]) -> Point | None:
    """By how much an arm is above another, seed by seed, as a mean over the rounds after the first.

    The first round is the same for both: there was nothing to choose yet.
    """
    pairs = []
    for seed in sorted(runs[arm].keys() & runs[other].keys()):
        both = list(zip(runs[arm][seed], runs[other][seed], strict=False))[1:]
        if both:
            pairs.append(float(np.mean([figure(one) - figure(two) for one, two in both])))
    return interval_of_mean(pairs) if pairs else None


def at_equal_cost(runs: Runs, arm: str, other: str, cost: str) -> Point | None:
    """By how much the Dice of an arm is above another's at what its corrections had cost, seed by seed.

    As :func:`against`, but the other one's curve is read between its rounds, where it had spent as much; what
    lies beyond its last round is left out.
    """
    gains = []
    for seed in sorted(runs[arm].keys() & runs[other].keys()):
        spent_by, dice_of = ({a: f(runs[a][seed]) for a in (arm, other)} for f in (_spent(cost), _dice))
        within = [
            dice - float(np.interp(x, spent_by[other], dice_of[other]))
            for x, dice in zip(spent_by[arm][1:], dice_of[arm][1:], strict=True)
            if x <= spent_by[other][-1]
        ]
        if within:
            gains.append(float(np.mean(within)))
    return interval_of_mean(gains) if gains else None


def _spent(cost: str) -> Callable[[Sequence[Row]], list[float]]:
    return lambda rows: np.cumsum([row[cost] for row in rows]).tolist()


def _dice(rows: Sequence[Row]) -> list[float]:
    return [mean_dice(row) for row in rows]


def curves(runs: Runs) -> dict[str, str]:
    """Name → SVG: Dice and surface Dice over labelled cases, and Dice over what corrections cost."""
    arms = [arm for arm in runs if over_rounds(runs, arm, mean_dice)]
    if not arms:
        return {}
    dice = {arm: over_rounds(runs, arm, mean_dice) for arm in arms}
    surface = {arm: over_rounds(runs, arm, mean_surface_dice) for arm in arms}
    cases = {arm: _labelled(runs, arm) for arm in arms}
    by = {
        "path": ("added_path_length_mm", "added path length, mm"),
        "slices": ("edited_slices", "edited slices"),
    }
    drawn = {
        "dice": _drawn("test Dice, over labelled cases", dice, cases),
        "surface-dice": _drawn("test surface Dice, over labelled cases", surface, cases),
    }
    for name, (cost, words) in by.items():
        effort = {arm: spent(runs, arm, cost) for arm in arms}
        drawn[f"dice-by-{name}"] = _drawn(f"test Dice, over {words}, in all", dice, effort)
    return drawn


def _drawn(what: str, lines: Mapping[str, Sequence[Point]], across: Mapping[str, Sequence[float]]) -> str:
    """A curve on an axis that shows differences of hundredths."""
    lows = [p.low for points in lines.values() for p in points if not np.isnan(p.low)]
    highs = [p.high for points in lines.values() for p in points if not np.isnan(p.high)]
    bottom = max(0.0, float(np.floor(20 * min(lows, default=0.0)) / 20))
    top = min(1.0, float(np.ceil(20 * max(highs, default=1.0)) / 20))
    return curve(what, [], lines, max(top, bottom + 0.05), across, bottom)


def _labelled(runs: Runs, arm: str) -> list[float]:
    seeds = list(runs[arm].values())
    return [float(np.mean([row["labelled"] for row in rows])) for rows in zip(*seeds, strict=False)]


def summary(runs: Runs) -> list[dict[str, Any]]:
    """A row for each arm: seeds, rounds, the last scores, what it cost, and how far from the first arm."""
    arms = [arm for arm in runs if over_rounds(runs, arm, mean_dice)]
    rows = []
    for arm in arms:
        last, surface = over_rounds(runs, arm, mean_dice)[-1], over_rounds(runs, arm, mean_surface_dice)[-1]
        first = arms[0]
        gain = against(runs, arm, first, mean_dice) if arm != first else None
        equal = at_equal_cost(runs, arm, first, "added_path_length_mm") if arm != first else None
        seeds = list(runs[arm].values())
        rows.append(
            {
                "arm": arm,
                "seeds": len(seeds),
                "rounds": len(over_rounds(runs, arm, mean_dice)),
                "test Dice": _words(last),
                "test surface Dice": _words(surface),
                f"Dice above {first}, rounds 2 on": _words(gain, signed=True) if gain else "",
                "the same, at equal path length": _words(equal, signed=True) if equal else "",
                "added path length, mm": f"{spent(runs, arm, 'added_path_length_mm')[-1]:,.0f}",
                "edited slices": f"{spent(runs, arm, 'edited_slices')[-1]:,.0f}",
                "training, min": f"{np.mean([sum(r['training_s'] for r in s) for s in seeds]) / 60:.1f}",
            }
        )
    return rows


def _words(point: Point, *, signed: bool = False) -> str:
    return in_words(point, "+.3f" if signed else ".3f")


def render(dataset_id: str, runs: Runs) -> str:
    """The page of a simulation, with everything in it."""
    rows = summary(runs)
    drawn = {name: Markup(svg) for name, svg in curves(runs).items()}  # noqa: S704 - ours, names escaped
    header = list(rows[0]) if rows else []
    return template("simulation.html.j2").render(
        dataset_id=dataset_id, rows=rows, header=header, curves=drawn
    )
