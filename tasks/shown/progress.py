"""How far a command is and how long it will take: on a terminal, and silence everywhere else."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

Item = TypeVar("Item")
EVERY_S = 1.0
Step = Literal["epoch", "validated", "scored"]
"""An epoch that is done, a case that validated a fold after its last epoch, a case of the test set."""
_STEPS: dict[Step, str] = {"epoch": "train", "validated": "validate", "scored": "score"}
"""The kinds of steps in the order in which they are done, and what a bar of them is called."""


def progress(items: Iterable[Item], what: str, total: int | None = None) -> Iterator[Item]:
    """Iterate with a bar on standard error, where that is a terminal."""
    if not sys.stderr.isatty():
        yield from items
        return
    count = len(items) if isinstance(items, Sized) else total
    with _bar(desc=what, total=count) as bar:
        for item in items:
            yield item
            bar.update()


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Say on a terminal what is being waited for, and for how long by now."""
    if not sys.stderr.isatty():
        yield
        return
    with _bar(desc=what, bar_format="{desc} … {elapsed}") as bar, _each_second(bar.refresh):
        yield


def told(what: str) -> None:
    """Say on a terminal what begins now, where whoever asked may not expect it."""
    if sys.stderr.isatty():
        print(what, file=sys.stderr, flush=True)


@contextmanager
def steps_shown(files: Sequence[Path], first: Step = "epoch") -> Iterator[None]:
    """A bar of tasks that run at the same time, which note in files how far they are (:func:`note_step`).

    When all have done their last step of a kind it begins anew: the last epoch, then the validation.
    """
    if not files or not sys.stderr.isatty():
        yield
        return
    bar_format = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
    with _bar(desc=_STEPS[first], total=float(len(files)), bar_format=bar_format) as bar:

        def look() -> None:
            noted = [_noted(file, first) for file in files]
            now = min((step for step, _, _ in noted), key=list(_STEPS).index)
            if bar.desc != _STEPS[now]:
                bar.set_description_str(_STEPS[now], refresh=False)
                bar.reset()  # which draws it
            # A task that is further has done all of these.
            bar.n = sum(done / of if step == now else 1.0 for step, done, of in noted)
            bar.set_postfix_str(", ".join(f"{step} {done}/{of}" for step, done, of in noted if done))

        with _each_second(look):
            yield


def note_step(file: Path, step: Step, done: int, of: int) -> None:
    """Note how far a task is: for a bar, and for whoever counts attempts (:func:`noted_step`)."""
    file.write_text(json.dumps([step, done, of]))


def noted_step(file: Path) -> tuple[int, int]:
    """How far a task is that noted its steps, in numbers that grow: which kind of step, and how many."""
    step, done, _ = _noted(file, "epoch")
    return list(_STEPS).index(step), done


def _noted(file: Path, first: Step) -> tuple[Step, int, int]:
    try:
        step, done, of = json.loads(file.read_text())
    except (OSError, ValueError):
        return first, 0, 1
    return step, int(done), max(1, int(of))


def _bar(**options: Any) -> Any:
    from tqdm import tqdm

    return tqdm(leave=False, file=sys.stderr, dynamic_ncols=True, **options)


@contextmanager
def _each_second(look: Any) -> Iterator[None]:
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(EVERY_S):
            look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
