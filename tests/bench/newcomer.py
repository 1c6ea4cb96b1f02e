"""What somebody waits for who has just come: an answer, and the demo."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median

from homes import ITERSEG, new_home
from iterations import HIPPOCAMPUS, iterseg, small_cases
from measure import Side, measured

CHECKOUT = Path(__file__).parents[2]


def notes(work: Path, server: Mapping[str, str]) -> Iterator[str]:
    """Each as soon as it is measured; nobody else is asked the same."""
    home = work / "home"
    new_home(home)
    iterseg(
        home, server, "ingest", "bench", "--from", str(small_cases(work / "cases", range(4), HIPPOCAMPUS))
    )
    status = Side("iterseg status", [*ITERSEG, "status", "bench"], environment={"ITERSEG_HOME": str(home)})
    answered_s = median(measured(status).wall_s for _ in range(5))
    yield (
        f"A command that runs no flow: {answered_s:.2f} s for `iterseg status` of a small dataset, whole "
        "(target: under 1 s)."
    )
    demo = measured(Side("the demo", [sys.executable, str(CHECKOUT / "data" / "examples" / "demo.py")]))
    yield (
        f"The demo: {demo.wall_s / 60:.1f} minutes after the install (target: under 10), and at most "
        f"{demo.peak_mb:,.0f} MB in all of its processes (target: under 6,000)."
    )
