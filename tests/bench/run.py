"""Measure IterSeg against what a lab would use instead: `make bench`, or `make bench-quick`.

Writes report.md and report.json beside this file.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cluster
import gpu
import growth
import iterations
import newcomer
import numpy as np
import prediction
import scale
import SimpleITK as sitk
from begun import Begun
from dicom_factory import ball, grid_for, write_rois, write_series
from homes import ITERSEG, converted, imgtools, new_home, side, with_ingest
from measure import MB, ONCE, Found, Row, Run, Side, compare, delete, measured, put_away
from report import write_report
from scipy.ndimage import zoom
from tests_support import PrefectServer

from tasks.dicom.image import read_series

HERE = Path(__file__).parent
REAL = HERE.parent / "data" / "sarcoma" / "STS_002" / "CT" / "image"
NOISE_HU = 12.0


def make_cases(root: Path, count: int, shape: tuple[int, int, int]) -> None:
    """A real CT enlarged, with noise of its own for each case, and a tumour that is a ball."""
    image = sitk.GetArrayFromImage(read_series(sorted(REAL.iterdir())).image).astype(np.float32)
    enlarged = zoom(image, [a / b for a, b in zip(shape, image.shape, strict=True)], order=1)
    tumour = ball(shape, (shape[0] / 2, shape[1] / 2, shape[2] / 2), shape[1] / 12)
    for number in range(count):
        noise = np.random.default_rng(number).normal(0, NOISE_HU, shape)
        series = write_series(
            root / f"{number}" / "ct",
            name=f"case {number}",
            patient=f"P{number}",
            grid=grid_for(shape, spacing_mm=(0.9, 0.9, 2.5)),
            voxels=(enlarged + noise).astype(np.int16),
        )
        # med-imagetools leaves files with another ending out, in silence.
        series.files = [file.rename(file.with_suffix(".dcm")) for file in series.files]
        write_rois(root / f"{number}" / "rt" / "rt.dcm", series, {"GTV": tumour}, name=f"rt {number}")


def ingest_row(work: Path, cases: Path, count: int) -> Row:
    home = work / "home"
    ours = side("IterSeg", "ingest", str(cases), home=home)
    ours.before = lambda: new_home(home)
    theirs = side("copy, hash, flush", "copy", str(cases), str(work / "copy"))
    theirs.before = lambda: put_away(work / "copy", work)
    return compare(
        "ingest",
        ours,
        theirs,
        what=f"{count} CTs, {sum(p.is_file() for p in cases.rglob('*'))} files, the task without its start",
        target="ratio of 0.67 or more",
        bound="the disk",
        repeats=5,
        alone=theirs,
    )


def conversion_rows(work: Path, cases: Path, count: int, server: dict[str, str]) -> Iterator[Row]:
    """The conversion alone, of files that both sides know already, and from the DICOM on."""
    home = work / "home"
    environment = {"ITERSEG_HOME": str(home), **server}
    new_home(home)
    ingest = [*ITERSEG, "ingest", "bench", "--from", str(cases)]
    subprocess.run(ingest, check=True, capture_output=True, env={**os.environ, **environment})
    size = f"{count} CTs of 512 × 512 × 120 with an RTSTRUCT, whole commands"

    def forget() -> None:
        put_away(home / "data" / "procdata", work)

    def check() -> None:
        converted(home / "data" / "procdata", count)

    ours = Side("iterseg prepare --convert-only", [*ITERSEG, "prepare", "bench", "--convert-only"], forget)
    ours.environment, ours.check = environment, check
    yield compare(
        "first conversion",
        ours,
        imgtools(work, cases, crawled=True),
        what=f"{size}; headers read before on both sides; gzip of level 1 against 9",
        target="ratio of 3 or more, no more memory",
        bound="gzip",
        repeats=2,
        alone=side("gzip alone", "gzip", str(cases)),
    )
    both = with_ingest(cases, "prepare", "bench", "--convert-only")
    whole = Side("iterseg ingest, prepare --convert-only", both, lambda: new_home(home), environment, check)
    alone = side("copy and gzip alone", "copy_and_gzip", str(cases), str(work / "copy"))
    alone.before = lambda: put_away(work / "copy", work)
    yield compare(
        "ingest and first conversion",
        whole,
        imgtools(work, cases),
        what=f"{size}, from the DICOM on; ours keeps a copy of it that is flushed to the disk",
        target="stated",
        bound="gzip, and the disk",
        repeats=2,
        alone=alone,
    )


def big_row(work: Path) -> Row:
    big, shape = work / "big", (400, 512, 512)
    make_cases(big, 1, shape)
    ours, theirs = side("IterSeg", "convert_one", str(big / "0")), imgtools(work, big)
    runs: dict[str, list[Run]] = {ours.name: [], theirs.name: []}
    for one in (ours, theirs, theirs, ours):
        runs[one.name].append(measured(one))
    # It times itself for its own peak, which a sample now and then would miss.
    runs[ours.name] = [replace(run, wall_s=run.whole_s) for run in runs[ours.name]]
    return Row(
        "one large CT",
        "512 × 512 × 400 read, labelled and written, whole processes; CPU time of ours without imports",
        "under 2,000 MB",
        "memory, the image of 16 bits and its label map of 8",
        ours.name,
        theirs.name,
        runs,
        least_mb=float(np.prod(shape)) * (2 + 1) / MB,
    )


@dataclass(frozen=True)
class Bench:
    """Where a part measures."""

    work: Path
    server: PrefectServer
    quick: bool


def conversion(bench: Bench) -> Iterator[Row]:
    """From a folder of DICOM to an nnU-Net dataset."""
    count, cases = 4 if bench.quick else 32, bench.work / "cases"
    make_cases(cases, count, (120, 512, 512))
    yield ingest_row(bench.work, cases, count)
    yield from conversion_rows(bench.work, cases, count, bench.server.environment)


def night(bench: Bench) -> Iterator[Found]:
    """A whole iteration, and a night with many scans."""
    yield cluster.orchestration_row(bench.work / "demo", bench.server)
    yield cluster.many_cases(bench.work / "many-cases", bench.server)


def growing(name: str, bench: Bench) -> Iterator[str]:
    """How a cost grows."""
    return growth.picture(name, bench.work, HERE, bench.server.environment)


PARTS: Mapping[str, Callable[[Bench], Iterator[Found]]] = {
    "conversion": conversion,
    "iterations": lambda b: iterations.rows(b.work, b.server.environment, quick=b.quick),
    "training": lambda b: iterations.training(b.work, b.server.environment, quick=b.quick),
    "busy": lambda b: iter([iterations.busy_row(b.work, b.server.environment)]),
    "prediction": lambda b: prediction.rows(b.work, b.server.environment, quick=b.quick),
    "scale": lambda b: scale.notes(b.work, cases=10_000, iterations=100),
    "cluster": lambda b: cluster.rows(b.work, b.server),
    "night": night,
    "gpu": lambda b: gpu.rows(b.work, b.server.environment),
    "newcomer": lambda b: newcomer.notes(b.work, b.server.environment),
    "large": lambda b: iter([big_row(b.work)]),
    **{f"growth-{name}": partial(growing, name) for name in growth.PICTURES},
}
QUICK = ("conversion", "iterations", "training", "prediction")


def measured_parts(
    work: Path, parts: Sequence[str], *, quick: bool, ended: Callable[[str], None]
) -> Iterator[tuple[str, Found]]:
    """Whatever is measured, with its part, as soon as it is."""
    (work / "prefect").mkdir()
    with PrefectServer(work / "prefect") as server:  # as a lab has one, always on
        for part in parts:
            bench = Bench(work / part, server, quick)
            bench.work.mkdir()
            yield from ((part, found) for found in PARTS[part](bench))
            ended(part)
            if not quick:
                delete(bench.work)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and smaller cases, once, printed only")
    parser.add_argument("--only", choices=tuple(PARTS), action="append", help="these parts; the others stay")
    chosen = parser.parse_args()
    if chosen.quick:
        os.environ[ONCE] = "1"
    # Who sets it compiles our modules anew in each command, and nobody else's: pip has compiled theirs.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=HERE, capture_output=True, text=True, check=False
    )
    begun = Begun(HERE / "begun.json", commit.stdout.strip())
    some = bool(chosen.quick or chosen.only)
    parts = list(dict.fromkeys(chosen.only or (QUICK if chosen.quick else begun.left(tuple(PARTS)))))
    if chosen.quick and not set(parts) <= set(QUICK):
        parser.error(f"--quick has the parts {', '.join(QUICK)}")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="iterseg-bench-") as name:
        work = Path(name)
        target = work if chosen.quick else HERE
        ended = (lambda _: None) if some else (lambda part: begun.end(part, tuple(PARTS)))
        for part, found in measured_parts(work, parts, quick=chosen.quick, ended=ended):
            write_report(part, found, target)  # what is measured stays, whatever comes next
        print((target / "report.md").read_text())
        subprocess.run(["chmod", "-R", "u+w", name], check=False)
    print(f"measured in {(time.monotonic() - began) / 60:.1f} minutes: {', '.join(parts)}")


if __name__ == "__main__":
    main()
