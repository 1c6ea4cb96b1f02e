"""Homes to measure in, and the commands that are held against each other."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from measure import Side

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
    subprocess.run(["chmod", "-R", "u+w", str(home)], check=False, capture_output=True)
    shutil.rmtree(home, ignore_errors=True)
    (home / "config").mkdir(parents=True)
    (home / "data").mkdir()
    (home / "config" / "dataset_bench.yaml").write_text(settings)
    (home / "config" / "roi_bench.yaml").write_text("GTV: GTV.*\n")


def imgtools(work: Path, cases: Path) -> Side:
    """The seed's own command, with a fresh output folder and a fresh index, as it needs them."""
    output = work / "imgtools"

    def forget() -> None:
        shutil.rmtree(output, ignore_errors=True)
        output.mkdir()
        shutil.rmtree(cases.parent / ".imgtools", ignore_errors=True)
        (work / "roi.yaml").write_text("GTV: GTV.*\n")

    command = [str(Path(sys.executable).with_name("imgtools")), "nnunet-pipeline", str(cases), str(output)]
    command += ["--modalities", "CT,RTSTRUCT", "--mask-saving-strategy", "sparse_mask", "--update-crawl"]
    command += ["--roi-match-yaml", str(work / "roi.yaml"), "--jobs", str(os.cpu_count())]
    return Side("imgtools nnunet-pipeline", command, forget)
