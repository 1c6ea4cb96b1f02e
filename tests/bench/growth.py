"""How each cost grows with cases, voxels and structures: pictures beside the report, and their numbers."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import date
from pathlib import Path

import numpy as np
from dicom_factory import ball, grid_for, write_rois, write_series
from homes import side
from measure import Side, measured
from scale import WAYS, made_up

from tasks.ledger.files import write_json, write_text
from tasks.review.curves import Point, curve, standing_alone

Lines = dict[str, dict[float, Point]]
REPEATS = 3
CASES = (100, 1000, 3000, 10_000)
SLICES = (50, 100, 200, 400)
STRUCTURES = (1, 3, 10, 30)
PLANE = (512, 512)
WRITERS = {"SEG": "write_seg", "RTSTRUCT": "write_rtstruct"}


def pictures(work: Path, target: Path) -> Iterator[str]:
    """Draw them, each as soon as it is measured; what stands in the report about them."""
    parts = {
        "cases": ("seconds after imports, over cases of a dataset", with_cases),
        "voxels": ("seconds for one CT with a structure, over millions of voxels", with_voxels),
        "structures": (
            "seconds to write objects of 512 × 512 × 100, over structures",
            with_structures,
        ),
    }
    for name, (what, measure) in parts.items():
        lines = measure(work / name)
        across = {line: list(points) for line, points in lines.items()}
        drawn = {line: list(points.values()) for line, points in lines.items()}
        write_text(target / f"growth-{name}.svg", standing_alone(curve(what, [], drawn, across=across)))
        plain = {
            line: {str(x): asdict(point) for x, point in points.items()} for line, points in lines.items()
        }
        where = f"{platform.platform()}, {date.today()}"
        write_json(target / f"growth-{name}.json", {"what": what, "machine": where, "lines": plain})
        yield f"Growth with {name}: ![{what}](growth-{name}.svg)"


def with_cases(work: Path) -> Lines:
    """What is asked of a dataset without touching a voxel."""
    lines: Lines = {way: {} for way in WAYS}
    for cases in CASES:
        home = made_up(work / str(cases), cases, iterations=10)
        for way in WAYS:
            lines[way][cases] = _point(side(way, "of_scale", way, home=home))
    return lines


def with_voxels(work: Path) -> Lines:
    """Read and label a CT, and write what was predicted of it."""
    lines: Lines = {"convert": {}, **{kind: {} for kind in WRITERS}}
    for slices in SLICES:
        folder, shape = work / str(slices), (slices, *PLANE)
        drawn = {"GTV": ball(shape, tuple(size / 2 for size in shape), min(slices, 200) / 2.5)}
        _image(folder, shape, drawn)
        millions = float(np.prod(shape)) / 1e6
        lines["convert"][millions] = _point(side("convert", "convert_one", str(folder)))
        for kind, way in WRITERS.items():
            lines[kind][millions] = _point(side(kind, way, str(folder)))
    return lines


def with_structures(work: Path) -> Lines:
    """Balls beside each other, all in one image."""
    lines: Lines = {kind: {} for kind in WRITERS}
    shape = (100, *PLANE)
    for count in STRUCTURES:
        centres = [(50, 60 + 80 * (n // 6), 60 + 80 * (n % 6)) for n in range(count)]
        _image(
            work / str(count), shape, {f"S{n}": ball(shape, centre, 30) for n, centre in enumerate(centres)}
        )
        for kind, way in WRITERS.items():
            lines[kind][count] = _point(side(kind, way, str(work / str(count))))
    return lines


def _image(folder: Path, shape: tuple[int, int, int], masks: Mapping[str, np.ndarray]) -> None:
    series = write_series(folder / "ct", grid=grid_for(shape, spacing_mm=(0.8, 0.8, 1.0)))
    (folder / "rt").mkdir()
    write_rois(folder / "rt" / "rt.dcm", series, dict(list(masks.items())[:1]))
    np.savez_compressed(folder / "masks.npz", **masks)


def _point(one: Side) -> Point:
    walls = [measured(one).wall_s for _ in range(REPEATS)]
    return Point(float(np.median(walls)), min(walls), max(walls), len(walls), "runs")
