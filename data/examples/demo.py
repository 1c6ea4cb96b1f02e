"""Two iterations on 24 real hippocampi: ingest, train, predict, correct, and again.

Eight cases are annotated, eight are not, and eight are held out and never ingested. After the first
iteration the true contours of the second eight stand in for a reader's corrections. The demo runs
the commands that a user would type and scores both models on the held-out cases.

    make demo
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import SimpleITK as sitk
from dicom_from_nifti import STRUCTURES, write_mr_series, write_segmentation

from tasks.dicom.image import image_files, read_series
from tasks.dicom.seg import SegObject
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.snapshots import make_writable
from tasks.review.scores import dice, mean_scores

DATASET = "demo_hippocampus"
SOURCE = Path(__file__).parent / "hippocampus"
ANNOTATED, UNANNOTATED = slice(0, 8), slice(8, 16)
HELD_OUT = slice(16, 24)

Case = tuple[str, sitk.Image, sitk.Image]


def main() -> int:
    """Run the demo; the exit status says whether the second model is the better one."""
    started = time.monotonic()
    paths = DatasetPaths.of(DATASET)
    for folder in (paths.rawdata, paths.procdata, paths.results):
        if folder.is_dir():
            make_writable(folder, files=False)  # what an earlier demo sealed
            shutil.rmtree(folder)
    cases = read_cases()
    with tempfile.TemporaryDirectory(prefix="iterseg-demo-") as temporary:
        work = Path(temporary)
        series = deliver_images(work, cases)
        yesterday, today = date.today() - timedelta(days=1), date.today()
        print("\n== Iteration 1: eight annotated cases, eight without annotation")
        annotate(cases[ANNOTATED], series, work / "day-1")
        first = _iterate(work, "day-1", yesterday)
        print("\n== The reader corrects the predictions, and draws the test cases, which have none, by hand")
        print("   (the true contours stand in)")
        annotate(cases[UNANNOTATED], series, work / "day-2")
        print("\n== Iteration 2: sixteen annotated cases, warm start from iteration 1")
        second = _iterate(work, "day-2", today)
        scores = [_score(model, work / "held-out", cases[HELD_OUT], series) for model in (first, second)]
    return _conclude(paths, (first, second), scores, time.monotonic() - started)


def read_cases() -> list[Case]:
    """Name, image and label of each, in a fixed order."""
    files = sorted((SOURCE / "images").glob("*.nii.gz"))
    return [
        (
            file.name.removesuffix(".nii.gz"),
            sitk.ReadImage(str(file)),
            sitk.ReadImage(str(SOURCE / "labels" / file.name)),
        )
        for file in files
    ]


def deliver_images(work: Path, cases: list[Case]) -> dict[str, list[Path]]:
    """Images of the first sixteen arrive on the first day; the held-out ones stay outside."""
    outside = {name for name, _, _ in cases[HELD_OUT]}
    return {
        name: write_mr_series(image, name, work / ("held-out" if name in outside else "day-1") / name / "MR")
        for name, image, _ in cases
    }


def annotate(cases: list[Case], series: dict[str, list[Path]], folder: Path) -> None:
    """SEG and RTSTRUCT in turn: both are read."""
    for number, (name, _, label) in enumerate(cases):
        kind = ("SEG", "RTSTRUCT")[number % 2]
        write_segmentation(label, series[name], folder / name / f"{kind}.dcm", kind=kind)


def _iterate(work: Path, delivery: str, day: date) -> str:
    _iterseg("ingest", DATASET, "--from", str(work / delivery), "--date", str(day))
    _iterseg("run", DATASET)
    status = json.loads(_iterseg("status", DATASET, "--json", quiet=True))
    model: str = status["model"]
    return model


def _score(
    model: str, folder: Path, cases: list[Case], series: dict[str, list[Path]]
) -> dict[str, float | None]:
    """Mean Dice of the DICOM SEG files, read back by highdicom, against the truth."""
    answer = _iterseg("predict", DATASET, "--input", str(folder), "--model", model, "--json", quiet=True)
    report: dict[str, Any] = json.loads(answer)
    volumes = {name: read_series(list(image_files(series[name][0].parent))) for name, _, _ in cases}
    predicted = {_series_of(Path(row["label"])): Path(row["label"]) for row in report["cases"]}
    found = []
    for name, _, label in cases:
        truth = sitk.GetArrayFromImage(sitk.DICOMOrient(label, "LPS"))
        seg = SegObject(predicted[_series_uid(series[name][0])])
        masks = {segment.name: seg.mask(segment, volumes[name].grid) for segment in seg.segments}
        found.append({s: dice(truth == value, masks[s]) for s, value in STRUCTURES.items()})
    return mean_scores(found, list(STRUCTURES))


def _series_of(seg_file: Path) -> str:
    import pydicom

    return str(pydicom.dcmread(seg_file).ReferencedSeriesSequence[0].SeriesInstanceUID)


def _series_uid(image_file: Path) -> str:
    import pydicom

    return str(pydicom.dcmread(image_file, stop_before_pixels=True).SeriesInstanceUID)


def _iterseg(*arguments: str, quiet: bool = False) -> str:
    """Run the command line as a user does; stop the demo where it fails."""
    print(f"$ iterseg {' '.join(arguments)}", flush=True)
    command = [sys.executable, "-m", "flows.cli", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=os.environ, check=False)
    if not quiet:
        print(done.stdout, flush=True)
    if done.returncode != 0:
        sys.exit(done.returncode)
    return done.stdout


def _conclude(
    paths: DatasetPaths,
    models: tuple[str, str],
    scores: list[dict[str, float | None]],
    seconds: float,
) -> int:
    print("\n== Dice on eight held-out cases")
    print(f"{'':12}{'iteration 1':>14}{'iteration 2':>14}")
    for structure in STRUCTURES:
        print(f"{structure:12}" + "".join(f"{score[structure] or 0:14.3f}" for score in scores))
    means = [sum(value or 0 for value in score.values()) / len(score) for score in scores]
    print(f"{'mean':12}" + "".join(f"{mean:14.3f}" for mean in means))
    print(f"\nmodels:      {models[0]} and {models[1]}, in use: {paths.latest}")
    print(f"DICOM SEG:   {paths.results / 'predictions'}/<model>/<case>.seg.dcm")
    print(f"report:      {paths.report}")
    print(f"run history: make server, then http://127.0.0.1:4200 ({seconds:.0f} s in all)")
    if means[1] <= means[0]:
        print("\nThe second model is not better than the first.")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
