"""What is measured, each in a process of its own: `python sides.py NAME ARGUMENTS`.

Work whose own start would drown it prints its time; the rest is timed from outside.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path

import bounds
import numpy as np
from measure import said, timed
from numpy.typing import NDArray


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


def convert_one(source: str, *structures: str) -> None:
    """One case, read, labelled and written."""
    from tasks.dicom.convert import LabelRules, label_map
    from tasks.dicom.image import read_series
    from tasks.ledger.images import write_image

    files = sorted((Path(source) / "ct").iterdir())
    with tempfile.TemporaryDirectory() as folder, timed():
        volume = read_series(files)
        write_image(volume.image, Path(folder) / "image.nii.gz")
        rules = LabelRules({name: [re.escape(name)] for name in structures} or {"GTV": ["GTV.*"]})
        labels = label_map(volume, Path(source) / "rt" / "rt.dcm", "RTSTRUCT", rules)
        write_image(labels, Path(folder) / "label.nii.gz")


def nothing_new() -> None:
    """A run that has nothing to do."""
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    from flows.iterate import iterate

    # As a command sets it.
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}), timed():
        report = iterate("bench")
    assert isinstance(report, dict) and report["state"] == "nothing new", report


def of_scale(way: str) -> None:
    """Something that is asked of a large dataset."""
    from flows.status import status_of
    from tasks.ledger.paths import DatasetPaths
    from tasks.report import write_report
    from tasks.worklist import worklist_of

    ways: dict[str, Callable[[], object]] = {
        "status": lambda: status_of("bench"),
        "worklist": lambda: worklist_of(DatasetPaths.of("bench")),
        "report": lambda: write_report.fn("bench"),
    }
    with timed():
        ways[way]()


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


def train_ours(device: str = "cpu") -> None:
    """A fold through the flow."""
    command = [sys.executable, "-m", "flows.cli", "train", "bench", "--folds", "0"]
    subprocess.run(command, check=True, capture_output=True, text=True)
    said(_epochs_s(Path(os.environ["ITERSEG_HOME"]) / "data" / "procdata", device))


def _epochs_s(results: Path, device: str) -> float:
    """Seconds in the epochs of the only fold below a folder, from the log in its checkpoint."""
    import torch

    (checkpoint,) = results.rglob("fold_0/checkpoint_final.pth")
    log = torch.load(checkpoint, map_location="cpu", weights_only=False)["logging"]
    both = zip(log["epoch_start_timestamps"], log["epoch_end_timestamps"], strict=True)
    return bounds.of_epochs([end - start for start, end in both], device)


def train_beside_another() -> None:
    """The same while one other process computes."""
    with bounds.another_process():
        train_ours()


FEW_EPOCHS = """
import functools
import sys
from nnunetv2.run.run_training import run_training_entry
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
begin = nnUNetTrainer.__init__
@functools.wraps(begin)
def begin_short(self, *arguments, **options):
    begin(self, *arguments, **options)
    self.num_epochs = epochs
nnUNetTrainer.__init__ = begin_short
epochs = int(sys.argv.pop())
run_training_entry()
"""
"""`nnUNetv2_train` with fewer epochs. nnU-Net has trainers for that, but to find it imports all others, of
which one needs a package that nnU-Net does not ask for."""


def train_theirs(preprocessed: str, results: str, device: str, epochs: str) -> None:
    """The same fold by nnU-Net's own command, on as many threads, which wait in the same way."""
    folders = {"nnUNet_raw": results, "nnUNet_preprocessed": preprocessed, "nnUNet_results": results}
    cores = str(os.cpu_count())
    threads = {"OMP_NUM_THREADS": cores, "nnUNet_n_proc_DA": "0", "nnUNet_def_n_proc": cores}
    threads |= {"OMP_WAIT_POLICY": "PASSIVE"}  # as ours; what that is worth is another row
    if device != "cpu":  # as it chooses by itself
        threads = {}
    command = [sys.executable, "-c", FEW_EPOCHS, "1", "3d_fullres", "0", "-device", device, epochs]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env={**os.environ, **folders, **threads}
    )
    if done.returncode:
        sys.exit(done.stdout[-2000:] + done.stderr[-2000:])
    said(_epochs_s(Path(results), device))


ONE_CASE = """
import sys
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
device = torch.device(sys.argv[4])
on_gpu = device.type == "cuda"
predictor = nnUNetPredictor(use_mirroring=False, device=device, perform_everything_on_device=on_gpu)
predictor.initialize_from_trained_model_folder(sys.argv[1], (0, 1), "checkpoint_final.pth")
predictor.predict_from_files_sequential([[sys.argv[2]]], [sys.argv[3]], overwrite=True)
"""


def predict_one_by_one(model: str, images: str, target: str, device: str) -> None:
    """As the seed's wrapper is called: a process and a loaded model for each case."""
    Path(target).mkdir(exist_ok=True)
    for image in sorted(Path(images).iterdir()):
        command = [
            sys.executable,
            "-c",
            ONE_CASE,
            model,
            str(image),
            str(Path(target) / image.name[:-12]),
            device,
        ]
        subprocess.run(command, check=True)


def _masks(work: str) -> dict[str, NDArray[np.bool_]]:
    with np.load(Path(work) / "masks.npz") as file:
        return dict(file)


def write_seg(work: str) -> None:
    """A SEG of an image's masks."""
    from tasks.dicom import seg_writer

    masks, files = _masks(work), sorted((Path(work) / "ct").iterdir())
    identity = seg_writer.SegIdentity("1.2.3", "1.2.4", 900, "bench", "IterSeg", "1")
    with timed():
        seg_writer.write_seg(Path(work) / "ours.seg.dcm", files, masks, identity)


def highdicom_alone(work: str) -> None:
    """The same as highdicom's own guide does it: the images whole, and every frame."""
    import highdicom
    import pydicom
    from pydicom.sr.codedict import codes
    from pydicom.uid import ExplicitVRLittleEndian

    masks, files = _masks(work), sorted((Path(work) / "ct").iterdir())
    with timed():
        sources = sorted(map(pydicom.dcmread, files), key=lambda ds: float(ds.ImagePositionPatient[2]))
        described = [
            highdicom.seg.SegmentDescription(
                number, name, codes.SCT.AnatomicalStructure, codes.SCT.AnatomicalStructure, "MANUAL"
            )
            for number, name in enumerate(masks, start=1)
        ]
        made = highdicom.seg.Segmentation(
            sources,
            np.stack([mask.astype(np.uint8) for mask in masks.values()], axis=-1),
            "BINARY",
            described,
            "1.2.3",
            900,
            "1.2.4",
            1,
            "bench",
            "bench",
            "1",
            "1",
            transfer_syntax_uid=ExplicitVRLittleEndian,
        )
        made.save_as(Path(work) / "theirs.seg.dcm")


def write_rtstruct(work: str) -> None:
    """An RTSTRUCT of an image's masks."""
    from tasks.dicom import rtstruct_writer

    masks, files = _masks(work), sorted((Path(work) / "ct").iterdir())
    identity = rtstruct_writer.StructureSetIdentity("1.2.3", "1.2.4", "bench", datetime(2026, 1, 1))
    with timed():
        rtstruct_writer.write_rtstruct(Path(work) / "ours.rt.dcm", files, masks, identity)


def contours_alone(work: str) -> None:
    """scikit-image's contours of every whole slice, without a file."""
    from skimage.measure import find_contours

    masks = _masks(work)
    with timed():
        for mask in masks.values():
            for plane in mask:
                find_contours(np.pad(plane, 1).astype(float), 0.75)


WAYS = (
    of_scale,
    highdicom_alone,
    write_seg,
    write_rtstruct,
    contours_alone,
    predict_one_by_one,
    ingest,
    copy,
    convert_one,
    nothing_new,
    told_nothing_new,
    seed_prepare,
    train_ours,
    train_beside_another,
    train_theirs,
    *bounds.WAYS,
)
SIDES: dict[str, Callable[..., None]] = {way.__name__: way for way in WAYS}

if __name__ == "__main__":
    SIDES[sys.argv[1]](*sys.argv[2:])
