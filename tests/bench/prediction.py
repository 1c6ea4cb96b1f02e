"""Rows of prediction: a batch of images, the objects that are handed out, and the page that shows them."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from dicom_factory import ball, grid_for, write_series
from homes import ITERSEG, SMALL_NETWORK, new_home, side
from iterations import Shape, iterseg, small_cases
from measure import MB, Found, Row, Side, compare, measured, put_away
from predicted_lab import a_model, predict

from tasks.dicom.image import image_files, read_series
from tasks.ingest import take_delivery
from tasks.ledger.files import replace_symlink
from tasks.ledger.home import at_home
from tasks.ledger.paths import DatasetPaths
from tasks.report import write_report
from tasks.settings.dataset import load_dataset_settings
from tasks.state import state_at

SETTINGS = f"""{SMALL_NETWORK}
training:
  epochs_first: 4
  iterations_per_epoch: 40
  validation_iterations: 2
  optimizer: adamw
  device: cpu
  augmentation_workers: 0
prediction: {{mirroring: false, device: cpu}}
"""
WHOLE = (
    SETTINGS.replace("patch_size: [16, 32, 32]", "patch_size: [48, 128, 128]")
    .replace("features_per_stage: [8, 16, 32]", "features_per_stage: [8, 16, 32, 64, 80, 80]")
    .replace("epochs_first: 4\n  iterations_per_epoch: 40", "epochs_first: 1\n  iterations_per_epoch: 10")
)
"""As nnU-Net plans for images of this size, one patch an image, but a quarter as wide."""
CT: Shape = (36, 64, 64)
LARGER: Shape = (48, 128, 128)
LARGE: Shape = (300, 512, 512)
THUMBNAILS: Shape = (40, 96, 96)
SEVERAL = 4


def rows(work: Path, server: Mapping[str, str], *, quick: bool) -> Iterator[Found]:
    """All rows of this file, each as soon as it is measured."""
    least = "ratio of 3 or more"
    yield from batch_rows(work / "predict", server, "prediction", CT, 4 if quick else 40, least)
    if not quick:
        yield from batch_rows(
            work / "larger", server, "prediction of larger images", LARGER, 40, least, WHOLE
        )
        # With patches so small that one image has 245 of them, forward passes are most of both sides, and no
        # program can be three times as fast.
        many, stated = "prediction in small patches", "stated; 3 where a case's start is most of it"
        yield from batch_rows(work / "patches", server, many, LARGER, 8, stated)
    yield from object_rows(work / "large", (60, 256, 256) if quick else LARGE)
    yield report_note(work / "report", 20 if quick else 500)


def batch_rows(
    work: Path,
    server: Mapping[str, str],
    name: str,
    shape: Shape,
    cases: int,
    target: str,
    settings: str = SETTINGS,
    device: str = "cpu",
    repeats: int = 2,
) -> Iterator[Row]:
    """Whole commands on a folder of CTs: ours writes SEG and RTSTRUCT, the others label maps from NIfTI."""
    home, incoming, images = work / "home", work / "incoming", work / "nifti"
    new_home(home, settings)
    iterseg(home, server, "ingest", "bench", "--from", str(small_cases(work / "first", range(8), shape)))
    iterseg(home, server, "run", "bench")
    small_cases(incoming, range(100, 100 + cases), shape)
    for segmentation in incoming.glob("*/rt"):
        shutil.rmtree(segmentation)
    as_nifti(incoming, images)
    model = DatasetPaths(home, "bench").latest.resolve()
    predictions, store = (DatasetPaths(home, "bench").predicted, DatasetPaths(home, "bench").store)
    trained = set(store.iterdir())

    def forget() -> None:
        put_away(predictions, work)
        for folder in set(store.iterdir()) - trained:  # the images are read anew, as on the other side
            put_away(folder, work)

    ours = Side("iterseg predict", [*ITERSEG, "predict", "bench", "--input", str(incoming)], forget)
    ours.environment = {**server, "ITERSEG_HOME": str(home)}
    ours.check = lambda: predicted(predictions, "*.seg.dcm", cases)
    program = str(Path(sys.executable).with_name("nnUNetv2_predict_from_modelfolder"))
    options = ["-f", "0", "1", "--disable_tta", "-device", device, "-chk", "checkpoint_final.pth"]
    theirs = Side(
        "nnUNetv2_predict", [program, "-i", str(images), "-o", str(work / "out"), "-m", str(model), *options]
    )
    theirs.before = lambda: put_away(work / "out", work)
    theirs.check = lambda: predicted(work / "out", "*.nii.gz", cases)
    theirs.environment = {f"nnUNet_{name}": str(work) for name in ("raw", "preprocessed", "results")}
    size = " × ".join(map(str, shape[::-1]))
    what = f"{cases} CTs of {size}, two folds, whole commands"
    bound = "forward passes"
    passes = side("forward passes alone", "forward_passes", str(model), str(images), device)
    row = compare(
        f"{name}, beside nnU-Net's own",
        ours,
        theirs,
        what=f"{what}; SEG and RTSTRUCT against label maps",
        target="ratio of 1 or more",
        bound=bound,
        repeats=repeats,
        alone=passes,
    )
    yield row
    if device != "cpu":
        yield by_several(home, ours, row, repeats)
        return
    seed = side(
        "a process for each case", "predict_one_by_one", str(model), str(images), str(work / "one"), device
    )
    runs = {**{way: row.runs[way] for way in (ours.name, passes.name)}, seed.name: [measured(seed)]}
    yield Row(f"{name}, beside the seed's", what, target, bound, ours.name, seed.name, runs, passes.name)


def by_several(home: Path, ours: Side, row: Row, repeats: int) -> Row:
    """The same by workers that share the GPU: one reads and writes while another computes."""
    (home / "config" / "clusters").mkdir()
    (home / "config" / "clusters" / "several.yaml").write_text(f"workers: {SEVERAL}\n")
    several = replace(ours, name=f"{SEVERAL} workers", command=[*ours.command, "--cluster", "several"])
    runs = {several.name: [measured(several) for _ in range(repeats)]}
    runs |= {way: row.runs[way] for way in (row.theirs, row.alone)}
    name, what = f"{row.name}, by {SEVERAL} workers", f"{row.what}; the runs of nnU-Net are those above"
    return Row(name, what, "stated", row.bound, several.name, row.theirs, runs, row.alone)


def predicted(folder: Path, names: str, cases: int) -> None:
    """Raise where not every case has its prediction."""
    found = sum(1 for _ in folder.rglob(names))
    if found != cases:
        raise RuntimeError(f"{folder} has {found} predictions of {cases} cases")


def as_nifti(incoming: Path, target: Path) -> None:
    """What nnU-Net's command takes: the same images, converted before and not measured."""
    target.mkdir(parents=True)
    for case in sorted(incoming.iterdir()):
        volume = read_series(list(image_files(case / "ct")))
        sitk.WriteImage(volume.image, str(target / f"c{case.name}_0000.nii.gz"))


def object_rows(work: Path, shape: Shape) -> Iterator[Row]:
    """A SEG and an RTSTRUCT of one image with three structures, without the start of Python."""
    write_series(work / "ct", shape=shape, grid=grid_for(shape, spacing_mm=(0.8, 0.8, 1.0)))
    middle, least = [size / 2 for size in shape], min(shape)
    masks = {f"S{n}": ball(shape, tuple(middle), least * part) for n, part in enumerate((0.2, 0.3, 0.4))}
    masks["S1"] &= ~masks["S0"]  # shells, which have holes
    masks["S2"] &= ~(masks["S0"] | masks["S1"])
    np.savez_compressed(work / "masks.npz", **masks)
    size = " × ".join(map(str, shape[::-1]))
    objects = {
        "SEG": ("write_seg", "highdicom alone", "highdicom_alone", "under 2 s", "ours.seg.dcm"),
        "RTSTRUCT": ("write_rtstruct", "contours alone", "contours_alone", "under 5 s", "ours.rt.dcm"),
    }
    for kind, (way, other, their_way, target, written) in objects.items():
        contours = "" if kind == "SEG" else ", the contours of what is drawn"
        bound = f"the images' headers read{contours} and the object's elements written"
        yield compare(
            f"{kind} of a large CT",
            side("IterSeg", way, str(work)),
            side(other, their_way, str(work)),
            what=f"{size}, three structures, read from the headers to the file on the disk",
            target=target,
            bound=bound,
            alone=side("pydicom alone", "object_alone", str(work), written),
        )


def report_note(home: Path, cases: int) -> str:
    """The page of a dataset of which every image was predicted, a picture for each."""
    new_home(home)
    (home / "config" / "roi_D.yaml").write_text("GTV: GTV\n")
    (home / "config" / "dataset_D.yaml").write_text("arrival_quiet_s: 0\n")
    paths = DatasetPaths(home, "D")
    small_cases(home / "in", range(cases), THUMBNAILS)
    for segmentation in (home / "in").glob("*/rt"):
        shutil.rmtree(segmentation)
    with at_home(home):
        take_delivery.fn("D", home / "in", date(2026, 11, 20))
        model = a_model(paths, ["GTV"])
        (paths.home / model.folder).mkdir(parents=True)
        replace_symlink(paths.latest, paths.home / model.folder)
        drawn = ball(THUMBNAILS, tuple(size / 2 for size in THUMBNAILS), THUMBNAILS[1] / 5)
        for case in state_at(paths, load_dataset_settings(paths.config, "D"))[0].images:
            predict(paths, model, {"GTV": drawn}, case)
        began = time.perf_counter()
        page = write_report.fn("D")
        wall = time.perf_counter() - began
    return (
        f"The report of {cases} predicted cases: {wall:.1f} s (target: under 60 s) and "
        f"{page.stat().st_size / MB:.1f} MB (target: under 50 MB), with a picture of each."
    )
