"""What is measured, each in a process of its own: `python sides.py NAME ARGUMENTS`.

Work whose own start would drown it prints its time; the rest is timed from outside.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path


@contextmanager
def timed() -> Iterator[None]:
    """Print the wall and CPU time of what is inside."""
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    yield
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"wall_s": wall, "cpu_s": cpu}), flush=True)


def ingest(source: str) -> None:
    """A delivery becomes a snapshot."""
    from tasks.ingest import take_delivery

    with timed():
        take_delivery.fn("bench", Path(source), date(2026, 1, 1))


def copy(source: str, target: str) -> None:
    """The same files copied, hashed and flushed to the disk, one after the other."""
    files = [path for path in Path(source).rglob("*") if path.is_file()]
    Path(target).mkdir(parents=True)
    with timed():
        for number, file in enumerate(files):
            content = file.read_bytes()
            hashlib.sha256(content).hexdigest()
            with (Path(target) / str(number)).open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())


def convert_one(source: str) -> None:
    """One case, read and labelled."""
    from tasks.dicom.convert import LabelRules, label_map
    from tasks.dicom.image import read_series

    files = sorted((Path(source) / "ct").iterdir())
    with timed():
        volume = read_series(files)
        label_map(volume, Path(source) / "rt" / "rt.dcm", "RTSTRUCT", LabelRules({"GTV": ["GTV.*"]}))


SIDES: dict[str, Callable[..., None]] = {f.__name__: f for f in (ingest, copy, convert_one)}

if __name__ == "__main__":
    SIDES[sys.argv[1]](*sys.argv[2:])
