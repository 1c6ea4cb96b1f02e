"""How far a command is and how long it will take: on a terminal, and silence everywhere else."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

Item = TypeVar("Item")
EVERY_S = 1.0


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
def epochs_shown(files: Sequence[Path]) -> Iterator[None]:
    """A bar of trainings that run at the same time, which note their epochs in files (:func:`note_epoch`)."""
    if not sys.stderr.isatty():
        yield
        return
    bar_format = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
    with _bar(desc="train", total=float(len(files)), bar_format=bar_format) as bar:

        def look() -> None:
            noted = [_noted(file) for file in files]
            bar.n = sum(epoch / of for epoch, of in noted)
            bar.set_postfix_str("epochs " + ", ".join(f"{epoch}/{of}" for epoch, of in noted if epoch))

        with _each_second(look):
            yield


def note_epoch(file: Path, epoch: int, of: int) -> None:
    """Note how far a training is; nothing but a bar reads it, and half a line is waited for."""
    file.write_text(json.dumps([epoch, of]))


def _noted(file: Path) -> tuple[int, int]:
    try:
        epoch, of = json.loads(file.read_text())
    except (OSError, ValueError):
        return 0, 1
    return int(epoch), max(1, int(of))


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
