"""How each cost grows with cases, voxels and structures: pictures beside the report, and their numbers.

Of the whole commands of the loop, which take from seconds to minutes, each point is one run.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from datetime import date
from pathlib import Path

import numpy as np
from dicom_factory import ball, grid_for, write_rois, write_series
from homes import ITERSEG, new_home, side
from iterations import HIPPOCAMPUS, SETTINGS, iterseg, ready_to_train, small_cases
from measure import Side, measured
from prediction import SETTINGS as OF_PREDICTION
from prediction import predicted
from scale import WAYS, made_up

from tasks.ledger.files import write_json, write_text
from tasks.review.curves import Point, curve, standing_alone

Lines = dict[str, dict[float, Point]]
REPEATS = 3
SETTLE_S = 0.5
CASES = (100, 1000, 3000, 10_000)
SLICES = (50, 100, 200, 400)
STRUCTURES = (1, 3, 10, 30)
PREPARED = (30, 100, 300, 600)
LONGER = (48, 96, 192, 384)
"""Slices of an image to predict, of 128 × 128."""
PATCHES = (16, 24, 32, 48)
"""Edges of a patch; an epoch takes as long whatever the number of cases and their size."""
PLANE = (512, 512)
WRITERS = {"SEG": "write_seg", "RTSTRUCT": "write_rtstruct"}


def with_cases(work: Path, _: Mapping[str, str]) -> Lines:
    """What is asked of a dataset without touching a voxel."""
    lines: Lines = {way: {} for way in WAYS}
    for cases in CASES:
        home = made_up(work / str(cases), cases, iterations=10)
        for way in WAYS:
            lines[way][cases] = _point(side(way, "of_scale", way, home=home))
    return lines


def with_voxels(work: Path, _: Mapping[str, str]) -> Lines:
    """Take a CT in, read and label it, and write what was predicted of it."""
    lines: Lines = {"ingest": {}, "convert": {}, **{kind: {} for kind in WRITERS}}
    for slices in SLICES:
        folder, shape = work / str(slices), (slices, *PLANE)
        drawn = {"GTV": ball(shape, tuple(size / 2 for size in shape), min(slices, 200) / 2.5)}
        _image(folder, shape, drawn)
        millions = float(np.prod(shape)) / 1e6
        home = work / f"home-{slices}"
        taken = side("ingest", "ingest", str(folder), home=home, before=lambda home=home: new_home(home))
        lines["ingest"][millions] = _point(taken)
        lines["convert"][millions] = _point(side("convert", "convert_one", str(folder)))
        for kind, way in WRITERS.items():
            lines[kind][millions] = _point(side(kind, way, str(folder)))
    return lines


def with_structures(work: Path, _: Mapping[str, str]) -> Lines:
    """Balls beside each other, all in one image, written and read again."""
    lines: Lines = {"convert": {}, **{kind: {} for kind in WRITERS}}
    shape = (100, *PLANE)
    for count in STRUCTURES:
        centres = [(50, 60 + 80 * (n // 6), 60 + 80 * (n % 6)) for n in range(count)]
        drawn = {f"S{n}": ball(shape, centre, 30) for n, centre in enumerate(centres)}
        _image(work / str(count), shape, drawn)
        lines["convert"][count] = _point(side("convert", "convert_one", str(work / str(count)), *drawn))
        for kind, way in WRITERS.items():
            lines[kind][count] = _point(side(kind, way, str(work / str(count))))
    return lines


def _image(folder: Path, shape: tuple[int, int, int], masks: Mapping[str, np.ndarray]) -> None:
    series = write_series(folder / "ct", grid=grid_for(shape, spacing_mm=(0.8, 0.8, 1.0)))
    (folder / "rt").mkdir()
    write_rois(folder / "rt" / "rt.dcm", series, dict(masks))
    np.savez_compressed(folder / "masks.npz", **masks)


def of_the_loop(work: Path, server: Mapping[str, str]) -> Lines:
    """Take in and prepare a first delivery, and one more scan."""
    lines: Lines = {"ingest": {}, "prepare": {}, "prepare one more": {}}
    for cases in PREPARED:
        home = work / f"home-{cases}"
        new_home(home, SETTINGS)
        first = small_cases(work / f"{cases}", range(cases), HIPPOCAMPUS)
        lines["ingest"][cases] = _command(home, server, "ingest", "bench", "--from", str(first))
        lines["prepare"][cases] = _command(home, server, "prepare", "bench")
        more = small_cases(work / f"more-{cases}", range(cases, cases + 1), HIPPOCAMPUS)
        iterseg(home, server, "ingest", "bench", "--from", str(more))
        lines["prepare one more"][cases] = _command(home, server, "prepare", "bench")
    return lines


def of_prediction(work: Path, server: Mapping[str, str]) -> Lines:
    """One CT of 128 × 128 and more and more slices, in patches of 32 × 32 × 16 by two folds."""
    home = work / "home"
    new_home(home, OF_PREDICTION)
    cases = small_cases(work / "first", range(8), (36, 64, 64))
    iterseg(home, server, "ingest", "bench", "--from", str(cases))
    iterseg(home, server, "run", "bench")
    line: dict[float, Point] = {}
    for number, slices in enumerate(LONGER):
        incoming = small_cases(work / f"{slices}", range(100 + number, 101 + number), (slices, 128, 128))
        shutil.rmtree(incoming / f"{100 + number}" / "rt")
        point = _command(home, server, "predict", "bench", "--input", str(incoming))
        line[slices * 128 * 128 / 1e6] = point
    predicted(home, "*.seg.dcm", len(LONGER))
    return {"iterseg predict": line}


def of_training(work: Path, server: Mapping[str, str]) -> Lines:
    """One epoch of the first fold of a small network, whose patches are cubes."""
    line: dict[float, Point] = {}
    for edge in PATCHES:
        home = work / f"{edge}"
        settings = SETTINGS.replace("patch_size: [16, 32, 32]", f"patch_size: [{edge}, {edge}, {edge}]")
        new_home(home, settings.replace("epochs_first: 5", "epochs_first: 1"))
        cases = small_cases(work / f"cases-{edge}", range(6), (48, 50, 50))
        iterseg(home, server, "ingest", "bench", "--from", str(cases))
        _, untrained = ready_to_train(home, server)
        one = side("an epoch", "train_ours", home=home, before=untrained)
        one.environment = {**one.environment, **server}
        line[edge**3 / 1e3] = _point(one, 1)
    return {"iterseg train": line}


def _command(home: Path, server: Mapping[str, str], *arguments: str) -> Point:
    environment = {**server, "ITERSEG_HOME": str(home)}
    return _point(Side("iterseg", [*ITERSEG, *arguments], environment=environment), 1)


def _point(one: Side, repeats: int = REPEATS) -> Point:
    walls = [measured(one, SETTLE_S).wall_s for _ in range(repeats)]
    return Point(float(np.median(walls)), min(walls), max(walls), len(walls), "runs")


PICTURES: Mapping[str, tuple[str, Callable[[Path, Mapping[str, str]], Lines]]] = {
    "cases": ("seconds after imports, over cases of a dataset", with_cases),
    "voxels": ("seconds for one CT with a structure, over millions of voxels", with_voxels),
    "structures": ("seconds to read and write objects of 512 × 512 × 100, over structures", with_structures),
    "loop": ("seconds of whole commands, over cases of 36 × 50 × 36", of_the_loop),
    "prediction": ("seconds of `iterseg predict` for one CT, over millions of voxels", of_prediction),
    "training": ("seconds of an epoch of 250 steps, over thousands of voxels of a patch", of_training),
}


def picture(name: str, work: Path, target: Path, server: Mapping[str, str]) -> Iterator[str]:
    """Draw one of them; what stands in the report about it."""
    what, measure = PICTURES[name]
    lines = measure(work, server)
    across = {line: list(points) for line, points in lines.items()}
    drawn = {line: list(points.values()) for line, points in lines.items()}
    write_text(target / f"growth-{name}.svg", standing_alone(curve(what, [], drawn, across=across)))
    plain = {line: {str(x): asdict(point) for x, point in points.items()} for line, points in lines.items()}
    where = f"{platform.platform()}, {date.today()}"
    write_json(target / f"growth-{name}.json", {"what": what, "machine": where, "lines": plain})
    yield f"Growth with {name}: ![{what}](growth-{name}.svg)"
