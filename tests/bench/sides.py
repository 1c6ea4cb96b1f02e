"""What is measured, each in a process of its own: `python sides.py NAME ARGUMENTS`.

Work whose own start would drown it prints its time; the rest is timed from outside.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import subprocess
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


def nothing_new() -> None:
    """A run that has nothing to do."""
    from flows.iterate import iterate

    with timed():
        report = iterate("bench")
    assert isinstance(report, dict) and report["state"] == "nothing new", report


def told_nothing_new() -> None:
    """Only the question whether there is anything new, without a flow around it."""
    from tasks.last_run import nothing_new as ask

    with timed():
        answer = ask.fn("bench")
    assert answer


def seed_prepare(output: str, *imgtools: str) -> None:
    """The seed's two commands: convert everything, then plan and preprocess everything."""
    subprocess.run(imgtools, check=True)
    raw = next(Path(output).rglob("nnUNet_raw"), None) or next(Path(output).rglob("Dataset*")).parent
    dataset = next(raw.glob("Dataset*"))
    folders = {
        "nnUNet_raw": raw,
        "nnUNet_preprocessed": raw.parent / "pre",
        "nnUNet_results": raw.parent / "res",
    }
    program = str(Path(sys.executable).with_name("nnUNetv2_plan_and_preprocess"))
    number = dataset.name.removeprefix("Dataset")[:3]
    command = [
        program,
        "-d",
        number,
        "-c",
        "3d_fullres",
        "-np",
        str(os.cpu_count()),
        "-npfp",
        str(os.cpu_count()),
    ]
    subprocess.run(command, check=True, env={**os.environ, **{k: str(v) for k, v in folders.items()}})


def _epochs(seconds: float) -> None:
    print(json.dumps({"wall_s": seconds, "cpu_s": 0.0}), flush=True)


def train_ours() -> None:
    """A fold through the flow: the seconds in its epochs."""
    command = [sys.executable, "-m", "flows.cli", "train", "bench", "--folds", "0", "--json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    _epochs(json.loads(done.stdout)["folds"][0]["training_s"])


FIVE_EPOCHS = """
import functools
from nnunetv2.run.run_training import run_training_entry
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
begin = nnUNetTrainer.__init__
@functools.wraps(begin)
def begin_short(self, *arguments, **options):
    begin(self, *arguments, **options)
    self.num_epochs = 5
nnUNetTrainer.__init__ = begin_short
run_training_entry()
"""
"""`nnUNetv2_train` with 5 epochs. nnU-Net has a trainer of that name, but to find it imports all others, of
which one needs a package that nnU-Net does not ask for."""


def train_theirs(preprocessed: str, results: str) -> None:
    """The same fold by nnU-Net's own command, on as many threads."""
    folders = {"nnUNet_raw": results, "nnUNet_preprocessed": preprocessed, "nnUNet_results": results}
    threads = {"OMP_NUM_THREADS": str(os.cpu_count()), "nnUNet_n_proc_DA": "0", "nnUNet_def_n_proc": "1"}
    command = [sys.executable, "-c", FIVE_EPOCHS, "1", "3d_fullres", "0", "-device", "cpu"]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env={**os.environ, **folders, **threads}
    )
    if done.returncode:
        sys.exit(done.stdout[-2000:] + done.stderr[-2000:])
    _epochs(sum(float(found) for found in re.findall(r"Epoch time: ([0-9.]+) s", done.stdout)))


WAYS = (ingest, copy, convert_one, nothing_new, told_nothing_new, seed_prepare, train_ours, train_theirs)
SIDES: dict[str, Callable[..., None]] = {way.__name__: way for way in WAYS}

if __name__ == "__main__":
    SIDES[sys.argv[1]](*sys.argv[2:])
