"""What was measured, for people and with every number."""

from __future__ import annotations

import os
import platform
import re
import statistics
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import psutil
import ratios
from measure import Found, Row, Run

from tasks.ledger.files import read_json, write_json

BUSY_PERCENT = 10
NOT_MEASURED = "not measured"
"""So a note says what this machine lacks; it takes the place of nothing that another one has measured."""
COLUMNS = (
    *("", "against", "target", "wall time", "ratio", "CPU time", "peak memory"),
    *("bound, and ours over it", "part, day"),
)
PATHS = "PYTHONPATH=.:tests:tests/slurm:data/examples"


def write_report(part: str, found: Found, folder: Path) -> None:
    """``report.md`` for people and ``report.json`` with every run, with what a part has just measured.

    What was measured before and not again stays, each with its day and machine.
    """
    where = {"machine": _machine(), "day": str(date.today())}
    known = read_json(folder / "report.json") if (folder / "report.json").is_file() else {}
    rows = {row["name"]: row for row in known.get("rows", [])}
    said = {_subject(note["text"]): note for note in known.get("notes", [])}
    if isinstance(found, Row):
        rows[found.name] = {**asdict(found), "part": part, **where}
    elif NOT_MEASURED not in found or NOT_MEASURED in said.get(_subject(found), {"text": found})["text"]:
        said[_subject(found)] = {"text": found, "part": part, **where}
    measured = {row["part"] for row in rows.values()}
    said = {
        subject: note
        for subject, note in said.items()
        if not (note["part"] in measured and NOT_MEASURED in note["text"])
    }
    content = {"rows": list(rows.values()), "notes": list(said.values())}
    write_json(folder / "report.json", content)
    ratios.picture([_row(row) for row in content["rows"]], folder)
    (folder / "report.md").write_text("\n".join(_page(content)))


def _page(content: Mapping[str, Any]) -> list[str]:
    return [
        "# Measured",
        "",
        *sorted({f"- {found['machine']}" for found in (*content["rows"], *content["notes"])}),
        "",
        "Medians; in brackets the spread of wall times and the number of runs, which take turns where there "
        "are several of both sides; *whole* is with the start of a process that timed only its own work. "
        "What a server of Prefect takes, which a lab has always on, is in no row. Where a command of nnU-Net "
        "has no option for what is compared (the number of epochs, the folder of a model), its own function "
        "is called. `make bench` measures all anew, and this the part that the last column names:",
        "",
        f"    {PATHS} .venv/bin/python tests/bench/run.py --only conversion",
        "",
        f"![How many times as fast each row is, and what was asked for]({ratios.NAME})",
        "",
        f"| {' | '.join(COLUMNS)} |",
        "| --- " * len(COLUMNS) + "|",
        *(_line(_row(row), row["day"]) for row in content["rows"]),
        "",
        *(f"{note['text']} (`--only {note['part']}`, {note['day']})\n" for note in content["notes"]),
    ]


def _subject(note: str) -> str:
    return note.split(":", maxsplit=1)[0]


def _machine() -> str:
    """Its cores, memory, GPUs, system and the disk that is measured on."""
    info = Path("/proc/cpuinfo")
    models = re.findall(r"^model name\s*: (.+)", info.read_text(), re.MULTILINE) if info.is_file() else []
    mounts = [
        m
        for m in psutil.disk_partitions(all=True)
        if Path(tempfile.gettempdir()).is_relative_to(m.mountpoint)
    ]
    disk = max(mounts, key=lambda mount: len(mount.mountpoint)).fstype if mounts else "unknown disk"
    memory_gb = psutil.virtual_memory().total / 1e9
    cpu = models[0] if models else platform.machine()
    found = [f"{os.cpu_count()} cores ({cpu})", f"{memory_gb:.0f} GB", *_gpus(), disk, platform.platform()]
    return ", ".join(found)


def _gpus() -> list[str]:
    """Each with its driver, as nvidia-smi names them; none where there is no such program."""
    asked = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
    except OSError:
        return []
    return [] if done.returncode else [line.replace(",", " with driver") for line in done.stdout.splitlines()]


def _row(content: Mapping[str, Any]) -> Row:
    runs = {side: [Run(**run) for run in runs] for side, runs in content["runs"].items()}
    return Row(**{k: v for k, v in content.items() if k not in ("runs", "machine", "day")}, runs=runs)


def _line(row: Row, day: str) -> str:
    wall = " / ".join(_spread(row, side) for side in (row.ours, row.theirs))
    cpu = " / ".join(_figure(row, side, "cpu_s", "{:.1f} s") for side in (row.ours, row.theirs))
    memory = " / ".join(_figure(row, side, "peak_mb", "{:.0f} MB") for side in (row.ours, row.theirs))
    return (
        f"| **{row.name}**: {row.what} | {row.theirs} | {row.target} | {wall} | {row.ratio('wall_s'):.2f} | "
        f"{cpu} | {memory} | {row.bound}{_over_the_bound(row)} | {row.part}, {day} |"
    )


def _over_the_bound(row: Row) -> str:
    """How far from what bounds it."""
    if row.least_mb:
        return f": {row.median(row.ours, 'peak_mb') / row.least_mb:.2f} × the {row.least_mb:.0f} MB of it"
    alone_s = row.median(row.alone, "wall_s")
    whose = "of the other side, which is it" if row.alone == row.theirs else "of it alone"
    return f": {row.median(row.ours, 'wall_s') / alone_s:.2f} × the {alone_s:.2f} s {whose}"


def _spread(row: Row, side: str) -> str:
    walls = [run.wall_s for run in row.runs[side]]
    spread = f"{min(walls):.2f}–{max(walls):.2f}, n = {len(walls)}" if len(walls) > 1 else "n = 1"
    busy = max(run.busy_percent for run in row.runs[side])
    others = f", beside other work of {busy:.0f} %" if busy > BUSY_PERCENT else ""
    whole_s = row.median(side, "whole_s")
    whole = f", whole {whole_s:.1f} s" if whole_s > 1.02 * statistics.median(walls) else ""
    return f"{statistics.median(walls):.2f} s ({spread}{whole}{others})"


def _figure(row: Row, side: str, figure: str, words: str) -> str:
    """A dash where it was not measured."""
    value = row.median(side, figure)
    return words.format(value) if value else "–"
