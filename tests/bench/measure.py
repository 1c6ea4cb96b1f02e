"""Two ways of doing one thing, run in turn on one machine: wall time, CPU time, peak memory."""

from __future__ import annotations

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

SAMPLE_EVERY_S = 0.5
"""Adding up a process's pages stops it meanwhile: every 0.05 s it made a command of 5 s one of 7 s, every
0.25 s one of 4.3 s one of 4.8 s."""
MB = 1e6
ONCE = "ITERSEG_BENCH_ONCE"
"""The environment variable by which each side runs once, whatever a row asks for."""
SETTLE_S = 6.0
"""How long it is watched, before a run, what else the machine does."""
AWAY = "put-away-"
FREED_S = 61.0
"""How long ext4 without a journal goes round a freed inode (``RECENTCY_MIN`` of its ``ialloc.c``)."""
_freed_at_s: list[float] = []


@dataclass
class Run:
    """One run of a command with all its children."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    whole_s: float = 0.0
    """Of the whole process, where the side timed only its own work."""
    busy_percent: float = 0.0
    """What else the machine did just before, of all its cores."""


@dataclass
class Side:
    """A way of doing it: what it is called, and its command; ``before`` and ``check`` run unmeasured."""

    name: str
    command: Sequence[str]
    before: Callable[[], None] = lambda: None
    environment: Mapping[str, str] = field(default_factory=dict)
    check: Callable[[], None] = lambda: None
    """Raises where a run, which ended well, has not done what it is measured for."""


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
    alone: str = ""
    """The side of ``runs`` that does what bounds the row, and nothing else; may be ``theirs``."""
    least_mb: float = 0.0
    """Where memory is the bound: what the arrays take that the result is made of."""
    part: str = ""
    """What ``run.py --only`` calls the rows among which this one is measured."""

    def __post_init__(self) -> None:
        """A row says how far it is from what bounds it."""
        if self.alone not in self.runs and not self.least_mb:
            raise ValueError(f"{self.name}: what bounds it was not measured alone")

    def median(self, side: str, figure: str) -> float:
        """The median of a figure of a side."""
        return statistics.median(getattr(run, figure) for run in self.runs[side])

    def ratio(self, figure: str) -> float:
        """Theirs over ours: above 1 we need less."""
        return self.median(self.theirs, figure) / max(self.median(self.ours, figure), 1e-9)


Found = Row | str
"""What a part of the bench yields as it is measured: a row, or a line of what nobody else is asked."""


def compare(
    name: str,
    ours: Side,
    theirs: Side,
    *,
    what: str,
    target: str,
    bound: str,
    repeats: int = 3,
    alone: Side,
) -> Row:
    """Run the sides in turn, A B B A; with them the bound alone, which may be the other side itself."""
    sides = {side.name: side for side in (ours, theirs, alone)}
    runs: dict[str, list[Run]] = {name: [] for name in sides}
    for number in range(1 if ONCE in os.environ else repeats):
        for side in list(sides.values())[:: -1 if number % 2 else 1]:
            runs[side.name].append(run := measured(side))
            print(f"{name}: {side.name}, {run.wall_s:.2f} s", file=sys.stderr, flush=True)
    return Row(name, what, target, bound, ours.name, theirs.name, runs, alone.name)


def said(wall_s: float, cpu_s: float = 0.0) -> None:
    """Print what a side has timed by itself, and its own peak, which short work has between two samples."""
    # Not of getrusage(2), which remembers the process that started this one.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak_mb = int(status["VmHWM"].split()[0]) * 1024 / MB
    print(json.dumps({"wall_s": wall_s, "cpu_s": cpu_s, "peak_mb": peak_mb}), flush=True)


@contextmanager
def timed() -> Iterator[None]:
    """Print the wall and CPU time of what is inside."""
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    yield
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    said(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def put_away(path: Path, work: Path) -> None:
    """Move what a run has left, if it has, out of the way of the next.

    While there are inodes that were freed a moment ago (:data:`FREED_S`), a link takes ten times as long. So
    nothing is deleted before a part is measured, and :func:`measured` waits after :func:`delete`.
    """
    if path.is_dir():
        path.chmod(0o700)  # else a folder that is sealed cannot be renamed
        path.rename(Path(tempfile.mkdtemp(prefix=AWAY, dir=work)) / path.name)


def delete(folder: Path) -> None:
    """Free the disk of what a part has left."""
    subprocess.run(["chmod", "-R", "u+w", str(folder)], check=False)
    shutil.rmtree(folder)
    _freed_at_s.append(time.monotonic())


def measured(side: Side, settle_s: float = SETTLE_S) -> Run:
    """Run a command; memory is the sum over its processes, shared pages counted once each (PSS).

    ``settle_s`` is less where nobody reads what else the machine did.
    """
    side.before()
    if _freed_at_s:
        time.sleep(max(0.0, _freed_at_s[-1] + FREED_S - time.monotonic()))
    os.sync()
    busy = psutil.cpu_percent(settle_s)
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+", errors="replace") as log:  # a pipe that nobody reads would fill
        process = subprocess.Popen(
            side.command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **side.environment}
        )
        watched = psutil.Process(process.pid)
        peak, cpu = 0.0, {}
        while process.poll() is None:
            peak = max(peak, _sample(watched, cpu))
            with suppress(subprocess.TimeoutExpired):
                process.wait(SAMPLE_EVERY_S)
        wall = time.perf_counter() - began
        log.seek(0)
        output = log.read()
    if process.returncode:
        raise RuntimeError(f"{side.name} ended with {process.returncode}:\n{output[-3000:]}")
    side.check()
    own = [line for line in output.splitlines() if line.startswith('{"wall_s"')]
    if own:  # the side timed its own work, without the start of Python
        timed = json.loads(own[-1])
        return Run(timed["wall_s"], timed["cpu_s"], max(peak, timed["peak_mb"]), wall, busy)
    return Run(wall, sum(cpu.values()), peak, wall, busy)


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
