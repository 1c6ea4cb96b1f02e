"""The ratios of a report as a picture: how many times as fast, and what was asked for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from measure import Row

NAME = "ratios.svg"


def picture(rows: Sequence[Row], folder: Path) -> None:
    """A line for each row on a logarithmic axis: median, range over the pairs of runs, and target."""
    # The same numbers are the same file, and words stay words.
    mpl.rcParams |= {"svg.hashsalt": "ratios", "svg.fonttype": "none"}
    figure = Figure(figsize=(9, 0.36 * len(rows) + 1), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(rows):
        ours, theirs = ([run.wall_s for run in row.runs[side]] for side in (row.ours, row.theirs))
        low, high = min(theirs) / max(ours), max(theirs) / min(ours)
        axes.plot([low, high], [place, place], color="#268bd2", linewidth=2)
        axes.plot(row.ratio("wall_s"), place, "o", color="#268bd2")
        if asked := re.match(r"ratio of ([0-9.]+) or more", row.target):
            axes.plot(float(asked[1]), place, "|", color="#dc322f", markersize=14, markeredgewidth=2)
    axes.axvline(1, color="#93a1a1", linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_yticks(range(len(rows)), [f"{row.name}\n(against {row.theirs})" for row in rows], fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("wall time of the other over ours; red: what was asked for")
    figure.savefig(folder / NAME, metadata={"Date": None})
