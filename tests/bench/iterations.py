"""Rows of the loop: what a night with little or nothing new costs, and what the flow adds to a training."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from dicom_factory import ball, grid_for, write_rois, write_series
from homes import ITERSEG, SMALL_NETWORK, imgtools, new_home, side
from measure import Row, Side, compare, measured

from tasks.last_run import inputs_of, remember_run
from tasks.ledger.home import at_home
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.snapshots import FileRow, note_snapshots, seal

Shape = tuple[int, int, int]
SETTINGS = f"""{SMALL_NETWORK}
training:
  epochs_first: 5
  epochs_fine_tune: 5
  device: cpu
  augmentation_workers: 0
"""
"""As nnU-Net trains by default, for 5 epochs: 250 steps and 50 of validation an epoch, SGD."""


HIPPOCAMPUS: Shape = (36, 50, 36)
"""The size of the small scans that the project's examples are made of."""
SETTLE_S = 6.0
"""ext4 goes round every inode that was freed less than 5 s ago: new links then take ten times as long."""


def rows(work: Path, server: Mapping[str, str], notes: list[str], *, quick: bool) -> Iterator[Row]:
    """All rows of this file, each as soon as it is measured."""
    sizes: list[tuple[int, int, Shape, str]] = [(6, 2, (24, 64, 64), "more as it grows")]
    if not quick:
        sizes = [
            (60, 4, (60, 320, 320), "ratio of 10 or more"),
            (1000, 10, HIPPOCAMPUS, "ratio of 50 or more"),
        ]
    for before, new, shape, target in sizes:
        home = grown_home(work, server, before, new, shape)
        seed, note = incremental_row(work, home, server, (before, new, shape), target)
        notes.append(note)
        yield seed
    yield nothing_new_row(home, server, seed, before + new, limit_s=5)
    if not quick:
        yield metadata_row(work / "many", 10_000, seed)
    yield from training_rows(work, home, server, repeats=1)


def small_cases(root: Path, numbers: range, shape: Shape) -> Path:
    """CTs of noise with a bright ball, each with its RTSTRUCT."""
    for number in numbers:
        rng = np.random.default_rng(number)
        middle = [size / 2 + rng.uniform(-0.1, 0.1) * size for size in shape]
        tumour = ball(shape, tuple(middle), min(shape) / 5)
        voxels = (rng.normal(0, 20, shape) + 100 * tumour).astype(np.int16)
        grid = grid_for(shape, spacing_mm=(0.9, 0.9, 2.5))
        series = write_series(
            root / f"{number}" / "ct", name=f"c{number}", patient=f"P{number}", grid=grid, voxels=voxels
        )
        # med-imagetools leaves files with another ending out, in silence.
        series.files = [file.rename(file.with_suffix(".dcm")) for file in series.files]
        write_rois(root / f"{number}" / "rt" / "rt.dcm", series, {"GTV": tumour}, name=f"r{number}")
    return root


def iterseg(home: Path, server: Mapping[str, str], *arguments: str) -> None:
    environment = {**os.environ, **server, "ITERSEG_HOME": str(home)}
    done = subprocess.run(
        [*ITERSEG, *arguments], check=False, capture_output=True, text=True, env=environment
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: {done.stderr}")


def disk_mb(folder: Path) -> float:
    """What the files below a folder take on the disk; links are none."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return sum(path.stat().st_blocks * 512 for path in files) / 1e6


def grown_home(work: Path, server: Mapping[str, str], before: int, new: int, shape: Shape) -> Path:
    """A home that was prepared with ``before`` cases, and has since got ``new`` more."""
    home, cases = work / f"home-{before}", work / f"cases-{before}" / "dicom"
    new_home(home, SETTINGS)
    small_cases(cases, range(before), shape)
    iterseg(home, server, "ingest", "bench", "--from", str(cases), "--date", "2026-01-01")
    iterseg(home, server, "prepare", "bench")
    more = small_cases(work / f"more-{before}", range(before, before + new), shape)
    iterseg(home, server, "ingest", "bench", "--from", str(more), "--date", "2026-01-02")
    for case in more.iterdir():
        case.rename(cases / case.name)  # the seed converts everything again
    return home


def incremental_row(
    work: Path, home: Path, server: Mapping[str, str], size: tuple[int, int, Shape], target: str
) -> tuple[Row, str]:
    """Prepare a few new cases, against the seed's two commands, which know no increment."""
    before, new, shape = size
    paths, kept = DatasetPaths(home, "bench"), work / "kept"
    places = {paths.procdata: kept / "procdata", paths.ledger: kept / "ledger"}
    for place, copy in places.items():
        shutil.copytree(place, copy, symlinks=True)
    first_mb = disk_mb(paths.procdata)

    def as_before() -> None:
        for place, copy in places.items():
            # Moved away, and not deleted: making links is slow for seconds after many files are freed.
            place.rename(tempfile.mkdtemp(dir=kept) + f"/{place.name}")
            shutil.copytree(copy, place, symlinks=True)
        os.sync()
        time.sleep(SETTLE_S)

    ours = Side("iterseg prepare", [*ITERSEG, "prepare", "bench"], as_before)
    ours.environment = {**server, "ITERSEG_HOME": str(home)}
    seed = imgtools(work, work / f"cases-{before}" / "dicom")
    both = "imgtools nnunet-pipeline + nnUNetv2_plan_and_preprocess"
    theirs = side(both, "seed_prepare", str(work / "imgtools"), *seed.command, before=seed.before)
    row = compare(
        f"incremental prepare, {before:,} + {new}",
        ours,
        theirs,
        what=f"{new} CTs of {' × '.join(map(str, shape[::-1]))} added to {before:,}, whole commands",
        target=target,
        bound="the start of Prefect, of the workers and of torch",
        repeats=2,
        alone=one_case(work / "one", server),
    )
    added = disk_mb(paths.procdata) - first_mb
    shutil.rmtree(kept)
    return row, (
        f"Disk, {before:,} + {new}: the first takes {first_mb:.1f} MB, the next adds {added:.1f} MB, "
        f"{added / first_mb:.1%} for {new / before:.1%} new cases (target: at most 10 % for 5 %)."
    )


def one_case(home: Path, server: Mapping[str, str]) -> Side:
    """Prepare the smallest dataset that there is: nearly nothing but the start of all that is needed."""
    new_home(home, SETTINGS)
    cases = small_cases(home / "dicom", range(2), (8, 16, 16))
    iterseg(home, server, "ingest", "bench", "--from", str(cases))
    alone = Side("prepare of two tiny cases", [*ITERSEG, "prepare", "bench"])
    alone.before = lambda: shutil.rmtree(DatasetPaths(home, "bench").procdata, ignore_errors=True)
    alone.environment = {**server, "ITERSEG_HOME": str(home)}
    return alone


def nothing_new_row(home: Path, server: Mapping[str, str], seed: Row, cases: int, limit_s: int) -> Row:
    """A run with nothing to do, after its imports, beside the seed's commands on as many cases."""
    paths = DatasetPaths(home, "bench")
    _as_if_run(paths)
    ours = side("IterSeg", "nothing_new", home=home)
    ours.environment = {**ours.environment, **server}
    return _beside(seed, ours, cases, f"a run of {cases:,} cases with nothing to do", limit_s)


def metadata_row(home: Path, cases: int, seed: Row) -> Row:
    """The same question of a dataset that is made of manifests alone, without voxels."""
    new_home(home)
    paths = DatasetPaths(home, "bench")
    for part in range(10):
        folder = paths.rawdata / f"2026-01-{part + 1:02}__bench"
        folder.mkdir(parents=True)
        numbers = range(part * cases // 10, (part + 1) * cases // 10)
        seal(folder, [_row(number, k) for number in numbers for k in range(41)], "copied")
    note_snapshots(paths)
    _as_if_run(paths)
    ours = side("IterSeg", "told_nothing_new", home=home)
    return _beside(seed, ours, cases, f"{cases:,} cases, {41 * cases:,} files, is anything new?", limit_s=20)


def _row(number: int, k: int) -> FileRow:
    uid = f"1.2.826.0.1.3680043.8.498.{number}.{k}"
    header = {
        "kind": "CT",
        "sop_instance_uid": uid,
        "series_instance_uid": f"{uid[:-2]}",
        "patient": f"{number}",
    }
    return FileRow(f"CT_{number}/{uid}.dcm", "taken", None, "", f"{number:032x}{k:032x}", 500_000, header)


def _as_if_run(paths: DatasetPaths) -> None:
    """What a complete run leaves for the next one to see."""
    paths.report.parent.mkdir(parents=True, exist_ok=True)
    paths.report.write_text("a report")
    with at_home(paths.home):
        remember_run.fn(paths.dataset_id, inputs_of(paths))
    assert paths.last_run.is_file()


def _beside(seed: Row, ours: Side, cases: int, what: str, limit_s: int) -> Row:
    alone = side("digests of the manifests", "manifests", ours.environment["ITERSEG_HOME"])
    runs = {way.name: [measured(way) for _ in range(3)] for way in (ours, alone)}
    runs[seed.theirs] = seed.runs[seed.theirs]
    name, bound = f"nothing new, {cases:,}", "hashing the manifests"
    target = f"under {limit_s} s after imports"
    return Row(name, what, target, bound, ours.name, seed.theirs, runs, alone.name)


def training_rows(
    work: Path,
    home: Path,
    server: Mapping[str, str],
    repeats: int,
    *,
    name: str = "training",
    what: str = "seconds in the epochs of one fold, 5 epochs of 250 steps of a small network on all cores",
    device: str = "cpu",
) -> list[Row]:
    """A fold through the flow, against `nnUNetv2_train` on the same preprocessed cases."""
    # nnU-Net takes all cores for a fold, and so does a cluster of one worker.
    (home / "config" / "clusters").mkdir()
    (home / "config" / "clusters" / "local.yaml").write_text("workers: 1\n")
    iterseg(home, server, "prepare", "bench")
    iteration = max((home / "data" / "procdata" / "bench").glob("*__bench/iteration.json")).parent
    preprocessed, results = iteration / "nnUNet_preprocessed", work / "their_results"
    theirs_preprocessed = work / "their_preprocessed"
    shutil.copytree(preprocessed, theirs_preprocessed, symlinks=False)  # links lead out of it
    results.mkdir()

    def untrained() -> None:
        for folder in iteration.glob("nnUNet_results*"):
            shutil.rmtree(folder)

    ours = side("iterseg train --folds 0", "train_ours", home=home, before=untrained)
    ours.environment = {**ours.environment, **server}
    theirs = side("nnUNetv2_train", "train_theirs", str(theirs_preprocessed), str(results), device)
    row = compare(
        name,
        ours,
        theirs,
        what=what,
        target="ratio of 0.95 or more",
        bound="forward and backward passes",
        repeats=repeats,
        alone=theirs,
    )
    whole = {way: [replace(run, wall_s=run.whole_s) for run in runs] for way, runs in row.runs.items()}
    constant = replace(
        row,
        name=f"{name}, whole commands",
        what="the same with start, final validation and end: the difference is the flow's constant",
        target="stated",
        bound="the start of Prefect and of the workers",
        runs=whole,
    )
    return [row, constant]
