"""Rows of the loop: what a night with little or nothing new costs, and what the flow adds to a training."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np
from dicom_factory import ball, grid_for, write_rois, write_series
from homes import ITERSEG, SMALL_NETWORK, imgtools, new_home, side, with_ingest
from measure import Found, Row, Side, compare, measured, put_away

from tasks.last_run import inputs_of, remember_run
from tasks.ledger.accounts import FileRow
from tasks.ledger.home import at_home
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.pseudonyms import Pseudonyms
from tasks.ledger.snapshots import note_snapshots, seal

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


def rows(work: Path, server: Mapping[str, str], *, quick: bool) -> Iterator[Found]:
    """All rows of this file, each as soon as it is measured."""
    sizes: list[tuple[int, int, Shape, str]] = [(6, 2, (24, 64, 64), "more as it grows")]
    if not quick:
        sizes = [
            (60, 4, (60, 320, 320), "ratio of 10 or more"),
            (1000, 10, HIPPOCAMPUS, "ratio of 50 or more"),
        ]
    for before, new, shape, target in sizes:
        home = grown_home(work, server, before, new, shape)
        increments, note = incremental_rows(work, home, server, (before, new, shape), target)
        yield from increments
        yield note
    yield nothing_new_row(home, server, increments[0], before + new, limit_s=5)
    if not quick:
        yield metadata_note(work / "many", 10_000)


def training(work: Path, server: Mapping[str, str], *, quick: bool) -> Iterator[Row]:
    """A fold of a small network, of its own dataset."""
    home = work / "home"
    epochs = 1 if quick else 5
    new_home(home, SETTINGS.replace("epochs_first: 5", f"epochs_first: {epochs}"))
    # Small, since the validation of a fold, which is not what is measured, takes minutes for large ones.
    cases = small_cases(work / "cases", range(8 if quick else 60), HIPPOCAMPUS)
    iterseg(home, server, "ingest", "bench", "--from", str(cases))
    yield training_row(work, home, server, 2, epochs)


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
    """A home that was prepared with ``before`` cases; ``new`` more wait beside it in ``more-<before>``."""
    home, cases = work / f"home-{before}", work / f"cases-{before}" / "dicom"
    new_home(home, SETTINGS)
    small_cases(cases, range(before), shape)
    iterseg(home, server, "ingest", "bench", "--from", str(cases), "--date", "2026-01-01")
    iterseg(home, server, "prepare", "bench")
    more = small_cases(work / f"more-{before}", range(before, before + new), shape)
    for case in more.iterdir():  # the seed converts everything again
        shutil.copytree(case, cases / case.name)
    return home


def incremental_rows(
    work: Path, home: Path, server: Mapping[str, str], size: tuple[int, int, Shape], target: str
) -> tuple[list[Row], str]:
    """A few new cases against the seed's two commands, which know no increment, with and without ingest."""
    before, new, shape = size
    paths = DatasetPaths(home, "bench")
    first_mb = disk_mb(paths.procdata)
    more, cases = work / f"more-{before}", work / f"cases-{before}" / "dicom"
    what = f"{new} CTs of {' × '.join(map(str, shape[::-1]))} added to {before:,}, whole commands"
    environment = {**server, "ITERSEG_HOME": str(home)}

    def row(name: str, ours: Side, how: str, target: str, *, crawled: bool, alone: Side) -> Row:
        return compare(
            f"{name}, {before:,} + {new}",
            ours,
            seed_prepare(work, cases, crawled=crawled),
            what=f"{what}, {how}",
            target=target,
            bound="the imports of its commands",
            repeats=2,
            alone=alone,
        )

    both = with_ingest(more, "prepare", "bench")
    with put_back(paths, work / "kept") as as_before:
        ours = Side("iterseg ingest, prepare", both, as_before, environment)
        alone = imports_alone("ingest", "prepare")
        whole = row("ingest and increment", ours, "from the DICOM on", "stated", crawled=False, alone=alone)
        added = disk_mb(paths.procdata) - first_mb
        as_before()
    iterseg(home, server, "ingest", "bench", "--from", str(more))
    with put_back(paths, work / "kept") as as_before:
        ours = Side("iterseg prepare", [*ITERSEG, "prepare", "bench"], as_before, environment)
        alone, how = imports_alone("prepare"), "headers read before on both sides"
        prepared = row("incremental prepare", ours, how, target, crawled=True, alone=alone)
    return [whole, prepared], (
        f"Disk, {before:,} + {new}: the first takes {first_mb:.1f} MB, the next adds {added:.1f} MB, "
        f"{added / first_mb:.1%} for {new / before:.1%} new cases (target: at most 10 % for 5 %)."
    )


def seed_prepare(work: Path, cases: Path, *, crawled: bool) -> Side:
    """The seed's conversion, planning and preprocessing of all cases."""
    convert = imgtools(work, cases, crawled=crawled)
    both = "imgtools nnunet-pipeline + nnUNetv2_plan_and_preprocess"
    theirs = side(both, "seed_prepare", str(work / "imgtools"), *convert.command, before=convert.before)
    theirs.check = convert.check
    return theirs


@contextmanager
def put_back(paths: DatasetPaths, kept: Path) -> Iterator[Callable[[], None]]:
    """What puts a dataset back to where it stands now, again and again."""
    places = {p: kept / str(n) for n, p in enumerate((paths.procdata, paths.results, paths.rawdata))}
    for place, copy in places.items():
        shutil.copytree(place, copy, symlinks=True)

    def as_before() -> None:
        for place, copy in places.items():
            put_away(place, paths.home.parent)
            shutil.copytree(copy, place, symlinks=True)

    yield as_before
    put_away(kept, paths.home.parent)


def imports_alone(*flows: str) -> Side:
    """Nothing but the imports of some commands; torch is imported beside them, in another process."""
    return Side(
        "imports alone", ["sh", "-ec", "; ".join(imports(f"flows.cli, flows.{name}") for name in flows)]
    )


def imports(modules: str) -> str:
    """A word of a shell: nothing but some imports, collecting garbage as rarely as a command does."""
    rarely = "import atexit, gc; gc.set_threshold(100_000, 50, 50); atexit.register(gc.freeze)"
    return shlex.join([sys.executable, "-c", f"{rarely}; import {modules}"])


def nothing_new_row(home: Path, server: Mapping[str, str], seed: Row, cases: int, limit_s: int) -> Row:
    """A run with nothing to do, whole, beside the seed's commands on as many cases."""
    paths = DatasetPaths(home, "bench")
    _as_if_run(paths)
    # First, since it asserts that there is nothing to do.
    inside = side("without its imports", "nothing_new", home=home)
    inside.environment = {**inside.environment, **server}
    inside_s = median(measured(inside).wall_s for _ in range(3))
    ours = Side("iterseg run", [*ITERSEG, "run", "bench"])
    ours.environment = {**server, "ITERSEG_HOME": str(home)}
    alone = imports_alone("iterate")
    runs = {one.name: [measured(one) for _ in range(3)] for one in (ours, alone)}
    runs[seed.theirs] = seed.runs[seed.theirs]
    hashed = side("digests of the manifests", "manifests", str(home))
    hashed_s = median(measured(hashed).wall_s for _ in range(3))
    return Row(
        f"nothing new, {cases:,}",
        f"a run of {cases:,} cases with nothing to do, whole command; theirs are the runs of the increment",
        f"under {limit_s} s after imports: {inside_s:.2f} s",
        f"the imports of its command, after which the manifests are hashed in {hashed_s:.3f} s",
        ours.name,
        seed.theirs,
        runs,
        alone.name,
    )


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


def metadata_note(home: Path, cases: int) -> str:
    """The same question of a dataset that is made of manifests alone, without voxels; nobody else asks it."""
    new_home(home)
    paths = DatasetPaths(home, "bench")
    for part in range(10):
        folder = paths.rawdata / f"2026-01-{part + 1:02}__bench"
        folder.mkdir(parents=True)
        numbers = range(part * cases // 10, (part + 1) * cases // 10)
        seal(folder, [_row(number, k) for number in numbers for k in range(41)], "copied")
    Pseudonyms(paths.patient_key, first=True)
    note_snapshots(paths)
    _as_if_run(paths)
    asked = [measured(side("IterSeg", "told_nothing_new", home=home)) for _ in range(3)]
    return (
        f"Nothing new, {cases:,} cases, {41 * cases:,} files in 10 deliveries, without models: "
        f"{median(run.wall_s for run in asked):.2f} s after imports (target: under 20 s), "
        f"{max(run.peak_mb for run in asked):.0f} MB."
    )


def ready_to_train(home: Path, server: Mapping[str, str]) -> tuple[Path, Callable[[], None]]:
    """Prepare what was ingested; the iteration's folder, and what forgets its training."""
    # nnU-Net takes all cores for a fold, and so does a cluster of one worker.
    (home / "config" / "clusters").mkdir()
    (home / "config" / "clusters" / "local.yaml").write_text("workers: 1\n")
    iterseg(home, server, "prepare", "bench")
    iteration = max((home / "data" / "procdata" / "bench").glob("*__bench/iteration.json")).parent

    def untrained() -> None:
        for folder in iteration.glob("nnUNet_results*"):
            put_away(folder, home.parent)

    return iteration, untrained


def busy_row(work: Path, server: Mapping[str, str]) -> Row:
    """An epoch while another process keeps a core busy: threads that wait asleep, and such that spin."""
    home = work / "home"
    new_home(home, SETTINGS.replace("epochs_first: 5", "epochs_first: 1"))
    iterseg(
        home, server, "ingest", "bench", "--from", str(small_cases(work / "cases", range(8), HIPPOCAMPUS))
    )
    iteration, untrained = ready_to_train(home, server)
    asleep, spinning = (
        side(name, "train_beside_another", home=home, before=untrained)
        for name in ("iterseg train --folds 0", "the same, OMP_WAIT_POLICY=ACTIVE")
    )
    asleep.environment = {**asleep.environment, **server}
    spinning.environment = {**asleep.environment, "OMP_WAIT_POLICY": "ACTIVE"}
    return compare(
        "training beside another",
        asleep,
        spinning,
        what="seconds in an epoch of 250 steps on all cores, while another process keeps one busy",
        target="stated",
        bound="forward and backward passes beside it",
        repeats=1,
        alone=side("passes alone", "training_passes_beside_another", str(iteration / "nnUNet_preprocessed")),
    )


def training_row(
    work: Path,
    home: Path,
    server: Mapping[str, str],
    repeats: int,
    epochs: int = 5,
    *,
    name: str = "training",
    what: str = "a small network on all cores, whose threads wait asleep on both sides",
    device: str = "cpu",
) -> Row:
    """A fold through the flow, against `nnUNetv2_train` on the same preprocessed cases."""
    iteration, untrained = ready_to_train(home, server)
    preprocessed, results = iteration / "nnUNet_preprocessed", work / "their_results"
    theirs_preprocessed = work / "their_preprocessed"
    shutil.copytree(preprocessed, theirs_preprocessed, symlinks=False)  # links lead out of it
    results.mkdir()
    taken = (
        f"{epochs} epochs" if device == "cpu" else "an epoch, after the first, which compiles the network,"
    )
    ours = side("iterseg train --folds 0", "train_ours", device, home=home, before=untrained)
    ours.environment = {**ours.environment, **server}
    theirs = side(
        "nnUNetv2_train", "train_theirs", str(theirs_preprocessed), str(results), device, str(epochs)
    )
    return compare(
        name,
        ours,
        theirs,
        what=f"seconds in {taken} of one fold, of 250 steps, {what}",
        target="ratio of 0.95 or more",
        bound="forward and backward passes",
        repeats=repeats,
        alone=side("passes alone", "training_passes", str(theirs_preprocessed), device, str(epochs)),
    )
