"""Two ways of doing one thing, run in turn on one machine: wall time, CPU time, peak memory."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import psutil

from tasks.ledger.files import read_json, write_json

SAMPLE_EVERY_S = 0.5
"""Adding up a process's pages stops it meanwhile: every 0.05 s it made a command of 5 s one of 7 s, every
0.25 s one of 4.3 s one of 4.8 s."""
MB = 1e6


@dataclass
class Run:
    """One run of a command with all its children."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    whole_s: float = 0.0
    """Of the whole process, where the side timed only its own work."""


@dataclass
class Side:
    """A way of doing it: what it is called, and its command; ``before`` runs unmeasured."""

    name: str
    command: Sequence[str]
    before: Callable[[], None] = lambda: None
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Row:
    """A comparison: ours against a named alternative."""

    name: str
    what: str
    target: str
    bound: str
    ours: str
    theirs: str
    runs: dict[str, list[Run]]

    def median(self, side: str, figure: str) -> float:
        """The median of a figure of a side."""
        return statistics.median(getattr(run, figure) for run in self.runs[side])

    def ratio(self, figure: str) -> float:
        """Theirs over ours: above 1 we need less."""
        return self.median(self.theirs, figure) / max(self.median(self.ours, figure), 1e-9)


def compare(
    name: str, ours: Side, theirs: Side, *, what: str, target: str, bound: str, repeats: int = 3
) -> Row:
    """Run both sides in turn, A B A B."""
    runs: dict[str, list[Run]] = {ours.name: [], theirs.name: []}
    for _ in range(repeats):
        for side in (ours, theirs):
            side.before()
            runs[side.name].append(measured(side))
    return Row(name, what, target, bound, ours.name, theirs.name, runs)


def measured(side: Side) -> Run:
    """Run a command; memory is the sum over its processes, shared pages counted once each (PSS)."""
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+", errors="replace") as log:  # a pipe that nobody reads would fill
        process = subprocess.Popen(
            side.command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **side.environment}
        )
        watched = psutil.Process(process.pid)
        peak, cpu = 0.0, {}
        while process.poll() is None:
            peak = max(peak, _sample(watched, cpu))
            time.sleep(SAMPLE_EVERY_S)
        wall = time.perf_counter() - began
        log.seek(0)
        output = log.read()
    if process.returncode:
        raise RuntimeError(f"{side.name} ended with {process.returncode}:\n{output[-3000:]}")
    own = [line for line in output.splitlines() if line.startswith('{"wall_s"')]
    if own:  # the side timed its own work, without the start of Python
        timed = json.loads(own[-1])
        return Run(timed["wall_s"], timed["cpu_s"], peak, wall)
    return Run(wall, sum(cpu.values()), peak, wall)


def _sample(root: psutil.Process, cpu: dict[int, float]) -> float:
    total = 0.0
    try:
        tree = [root, *root.children(recursive=True)]
    except psutil.Error:
        return 0.0
    for process in tree:
        try:
            total += process.memory_full_info().pss / MB
            times = process.cpu_times()
            cpu[process.pid] = times.user + times.system
        except psutil.Error:
            continue
    return total


def write_report(rows: Sequence[Row], notes: Sequence[str], folder: Path) -> None:
    """``report.md`` for people and ``report.json`` with every run.

    Rows that were measured before and not again stay, each with its day and machine.
    """
    memory_gb = psutil.virtual_memory().total / 1e9
    machine = f"{os.cpu_count()} cores, {memory_gb:.0f} GB, {platform.platform()}, {date.today()}"
    known = read_json(folder / "report.json") if (folder / "report.json").is_file() else {}
    found = {row["name"]: row for row in known.get("rows", [])}
    found |= {row.name: {**asdict(row), "machine": machine} for row in rows}
    said = {note.split(":")[0]: note for note in [*known.get("notes", []), *notes]}
    content = {"rows": list(found.values()), "notes": list(said.values())}
    write_json(folder / "report.json", content)
    machines = sorted({row["machine"] for row in content["rows"]})
    lines = [
        "# Measured",
        "",
        *(f"- {where}" for where in machines),
        "",
        "The sides of a row in turn; medians, in brackets the spread of wall times. `make bench` measures "
        "all anew, `tests/bench/run.py --only PART` a part.",
        "",
        "| | against | target | wall time | ratio | CPU time | peak memory | bound |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *(_line(_row(row)) for row in content["rows"]),
        "",
        *(f"{note}\n" for note in content["notes"]),
    ]
    (folder / "report.md").write_text("\n".join(lines))


def _row(content: Mapping[str, Any]) -> Row:
    runs = {side: [Run(**run) for run in runs] for side, runs in content["runs"].items()}
    return Row(**{k: v for k, v in content.items() if k not in ("runs", "machine")}, runs=runs)


def _line(row: Row) -> str:
    wall = " / ".join(_spread(row, side) for side in (row.ours, row.theirs))
    cpu = " / ".join(f"{row.median(side, 'cpu_s'):.1f} s" for side in (row.ours, row.theirs))
    memory = " / ".join(f"{row.median(side, 'peak_mb'):.0f} MB" for side in (row.ours, row.theirs))
    return (
        f"| **{row.name}**: {row.what} | {row.theirs} | {row.target} | {wall} | {row.ratio('wall_s'):.2f} | "
        f"{cpu} | {memory} | {row.bound} |"
    )


def _spread(row: Row, side: str) -> str:
    walls = [run.wall_s for run in row.runs[side]]
    return f"{statistics.median(walls):.2f} s ({min(walls):.2f}–{max(walls):.2f})"
