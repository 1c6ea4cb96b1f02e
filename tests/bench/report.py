"""What was measured, for people and with every number."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import psutil
import ratios
from measure import Row, Run

from tasks.ledger.files import read_json, write_json

BUSY_PERCENT = 10
PATHS = "PYTHONPATH=.:tests:tests/slurm:data/examples"


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
    if any(name.endswith(", cuda") for name in found):
        said = {name: note for name, note in said.items() if "no GPU was at hand" not in note}
    content = {"rows": list(found.values()), "notes": list(said.values())}
    write_json(folder / "report.json", content)
    of_days = [(_row(row), str(row["machine"]).rsplit(", ", 1)) for row in content["rows"]]
    ratios.picture([row for row, _ in of_days], folder)
    lines = [
        "# Measured",
        "",
        *sorted({f"- {where}" for _, (where, _) in of_days}),
        "",
        "Medians; in brackets the spread of wall times and the number of runs, which take turns where there "
        "are several of both sides. What a server of Prefect takes, which a lab has always on, is in no row. "
        "`make bench` measures all anew, and this a part (`--help` names them):",
        "",
        f"    {PATHS} .venv/bin/python tests/bench/run.py --only conversion",
        "",
        f"![How many times as fast each row is, and what was asked for]({ratios.NAME})",
        "",
        "| | against | target | wall time | ratio | CPU time | peak memory | bound, and ours over it | day |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *(_line(row, day) for row, (_, day) in of_days),
        "",
        *(f"{note}\n" for note in content["notes"]),
    ]
    (folder / "report.md").write_text("\n".join(lines))


def _row(content: Mapping[str, Any]) -> Row:
    runs = {side: [Run(**run) for run in runs] for side, runs in content["runs"].items()}
    return Row(**{k: v for k, v in content.items() if k not in ("runs", "machine")}, runs=runs)


def _line(row: Row, day: str) -> str:
    wall = " / ".join(_spread(row, side) for side in (row.ours, row.theirs))
    cpu = " / ".join(_figure(row, side, "cpu_s", "{:.1f} s") for side in (row.ours, row.theirs))
    memory = " / ".join(_figure(row, side, "peak_mb", "{:.0f} MB") for side in (row.ours, row.theirs))
    return (
        f"| **{row.name}**: {row.what} | {row.theirs} | {row.target} | {wall} | {row.ratio('wall_s'):.2f} | "
        f"{cpu} | {memory} | {row.bound}{_over_the_bound(row)} | {day} |"
    )


def _over_the_bound(row: Row) -> str:
    """How far from what bounds it; below 1 it is overlapped with other work."""
    if not row.alone:
        return ""
    alone_s = row.median(row.alone, "wall_s")
    return f": {row.median(row.ours, 'wall_s') / alone_s:.2f} × the {alone_s:.2f} s of it alone"


def _spread(row: Row, side: str) -> str:
    walls = [run.wall_s for run in row.runs[side]]
    spread = f"{min(walls):.2f}–{max(walls):.2f}, n = {len(walls)}" if len(walls) > 1 else "n = 1"
    busy = max(run.busy_percent for run in row.runs[side])
    others = f", beside other work of {busy:.0f} %" if busy > BUSY_PERCENT else ""
    return f"{statistics.median(walls):.2f} s ({spread}{others})"


def _figure(row: Row, side: str, figure: str, words: str) -> str:
    """A dash where it was not measured."""
    value = row.median(side, figure)
    return words.format(value) if value else "–"
