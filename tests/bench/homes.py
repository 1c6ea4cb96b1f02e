"""Homes to measure in, and the commands that are held against each other."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from measure import Side, put_away

HERE = Path(__file__).parent
ITERSEG = [sys.executable, "-m", "flows.cli"]
PLAIN = "arrival_quiet_s: 0\nfolds: 2\ntest_share: 0\n"
SMALL_NETWORK = f"""{PLAIN}
plan_overrides:
  patch_size: [16, 32, 32]
  batch_size: 2
  features_per_stage: [8, 16, 32]
  convolutions_per_stage: 1
"""


def side(
    name: str, what: str, *arguments: str, home: Path | None = None, before: Callable[[], None] = lambda: None
) -> Side:
    """One of the ways in ``sides.py``."""
    environment = {"ITERSEG_HOME": str(home)} if home else {}
    command = [sys.executable, str(HERE / "sides.py"), what, *arguments]
    return Side(name, command, before, environment)


def new_home(home: Path, settings: str = PLAIN) -> None:
    """An empty home with a dataset `bench`."""
    put_away(home, home.parent)
    (home / "config").mkdir(parents=True)
    (home / "data").mkdir()
    (home / "config" / "dataset_bench.yaml").write_text(settings)
    (home / "config" / "roi_bench.yaml").write_text("GTV: GTV.*\n")


def imgtools(work: Path, cases: Path, *, crawled: bool = False) -> Side:
    """The seed's own command, with a fresh output folder.

    ``crawled``: its index of the files is there before, as our snapshot is; else it makes it.
    """
    output, index = work / "imgtools", cases.parent / ".imgtools"
    program = str(Path(sys.executable).with_name("imgtools"))

    def forget() -> None:
        put_away(output, work)
        output.mkdir()
        (work / "roi.yaml").write_text("GTV: GTV.*\n")
        if not crawled:
            put_away(index, work)
        elif not index.is_dir():
            crawl = [program, "index", "--dicom-dir", str(cases), "--n-jobs", str(os.cpu_count())]
            subprocess.run(crawl, check=True, capture_output=True)

    command = [program, "nnunet-pipeline", str(cases), str(output)]
    command += ["--modalities", "CT,RTSTRUCT", "--mask-saving-strategy", "sparse_mask"]
    command += [] if crawled else ["--update-crawl"]
    command += ["--roi-match-yaml", str(work / "roi.yaml"), "--jobs", str(os.cpu_count())]
    count = sum(1 for _ in cases.iterdir())
    return Side("imgtools nnunet-pipeline", command, forget, check=lambda: converted(output, count))


def converted(folder: Path, cases: int) -> None:
    """Raise where a case has not become an image and a label map: both sides leave out what they refuse."""
    for part in ("images*", "labels*"):
        found = sum(1 for file in folder.rglob(f"{part}/*.nii.gz"))
        if found != cases:
            raise RuntimeError(f"{folder} has {found} {part} of {cases} cases")


def with_ingest(cases: Path, *prepare: str) -> list[str]:
    """Our two commands from the DICOM on, as the other side's one has it."""
    first = [*ITERSEG, "ingest", "bench", "--from", str(cases)]
    return ["sh", "-ec", f"{shlex.join(first)}; {shlex.join([*ITERSEG, *prepare])}"]
