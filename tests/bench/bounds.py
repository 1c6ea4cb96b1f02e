"""What a row is bound by, and nothing else of it, each in a process of its own, on every core."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import numpy as np
from measure import said, timed

STEPS, VALIDATION_STEPS = 250, 50
"""Of an epoch, as nnU-Net has it."""


def gzip(cases: str) -> None:
    """The images and label maps of all cases compressed and written; they are read before, unmeasured."""
    said(_gzip_s(cases))


def copy_and_gzip(cases: str, target: str) -> None:
    """The files read, copied and flushed to the disk, and then as above."""
    Path(target).mkdir(parents=True)
    began = time.perf_counter()
    for number, file in enumerate(path for path in Path(cases).rglob("*") if path.is_file()):
        with (Path(target) / str(number)).open("wb") as stream:
            stream.write(file.read_bytes())
            stream.flush()
            os.fsync(stream.fileno())
    said(time.perf_counter() - began + _gzip_s(cases))


def _gzip_s(cases: str) -> float:
    return _on_every_core(_compressed, [(str(case),) for case in sorted(Path(cases).iterdir())])


def _compressed(case: str) -> float:
    from tasks.dicom.convert import LabelRules, label_map
    from tasks.dicom.image import image_files, read_series
    from tasks.ledger.images import write_image

    volume = read_series(list(image_files(Path(case) / "ct")))
    labels = label_map(volume, Path(case) / "rt" / "rt.dcm", "RTSTRUCT", LabelRules({"GTV": ["GTV.*"]}))
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        write_image(volume.image, Path(folder) / "image.nii.gz")
        write_image(labels, Path(folder) / "label.nii.gz")
        return time.perf_counter() - began


def forward_passes(model: str, images: str, device: str) -> None:
    """Both folds over all images, by nnU-Net's own sliding window; loaded and preprocessed before."""
    files = sorted(Path(images).iterdir())
    processes = 1 if device != "cpu" else min(os.cpu_count() or 1, len(files))
    parts = [(model, tuple(map(str, files[start::processes])), device) for start in range(processes)]
    said(_on_every_core(_passed, parts, processes))


def _passed(model: str, images: Sequence[str], device: str) -> float:
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    torch.set_num_threads(1)
    predictor = nnUNetPredictor(
        use_mirroring=False,
        device=torch.device(device),
        perform_everything_on_device=device != "cpu",
        allow_tqdm=False,
    )
    predictor.initialize_from_trained_model_folder(model, (0, 1), "checkpoint_final.pth")
    preprocessor = predictor.configuration_manager.preprocessor_class(verbose=False)
    took_s = 0.0
    for image in images:
        data, _, _ = preprocessor.run_case(
            [image], None, predictor.plans_manager, predictor.configuration_manager, predictor.dataset_json
        )
        began = time.perf_counter()
        for weights in predictor.list_of_parameters:
            predictor.network.load_state_dict(weights)
            logits = predictor.predict_sliding_window_return_logits(torch.as_tensor(data))
        logits.to("cpu")  # a GPU computes on while Python goes on
        took_s += time.perf_counter() - began
    return took_s


def training_passes(preprocessed: str, device: str, epochs: str) -> None:
    """nnU-Net's own steps on one batch of noise, which is in memory before: no reading, no augmentation."""
    said(of_epochs(_epochs_of_passes(Path(preprocessed), device, int(epochs)), device))


def training_passes_beside_another(preprocessed: str) -> None:
    """An epoch of the same while one other process computes."""
    with another_process():
        training_passes(preprocessed, "cpu", "1")


@contextmanager
def another_process() -> Iterator[None]:
    """One that keeps a core busy."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        try:
            yield
        finally:
            other.kill()


def of_epochs(seconds: Sequence[float], device: str) -> float:
    """All of them; on a GPU the median of those after the first, in which torch compiles the network."""
    return sum(seconds) if device == "cpu" else median(seconds[1:])


def _epochs_of_passes(preprocessed: Path, device: str, epochs: int) -> list[float]:
    with tempfile.TemporaryDirectory() as results:
        os.environ |= {"nnUNet_raw": results, "nnUNet_results": results}
        os.environ |= {"nnUNet_preprocessed": str(preprocessed)}
        os.environ |= {"OMP_NUM_THREADS": str(os.cpu_count()), "OMP_WAIT_POLICY": "PASSIVE"}
        import torch
        from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

        from tasks.ledger.files import read_json

        (dataset,) = preprocessed.glob("Dataset*")
        (file,) = dataset.glob("*lans*.json")
        plans, described = read_json(file) | {"continue_training": False}, read_json(dataset / "dataset.json")
        trainer = nnUNetTrainer(plans, "3d_fullres", 0, described, torch.device(device))
        trainer.initialize()
        patch = trainer.configuration_manager.patch_size
        data = torch.randn(trainer.batch_size, trainer.num_input_channels, *patch)
        sizes = [np.round(np.multiply(scale, patch)) for scale in trainer._get_deep_supervision_scales()]
        target = [torch.randint(0, 2, (trainer.batch_size, 1, *map(int, size))).short() for size in sizes]
        took_s = []
        for _ in range(epochs):
            began = time.perf_counter()
            trainer.network.train()
            for _ in range(STEPS):
                trainer.train_step({"data": data, "target": target})
            trainer.network.eval()
            with torch.no_grad():
                for _ in range(VALIDATION_STEPS):
                    trainer.validation_step({"data": data, "target": target})
            took_s.append(time.perf_counter() - began)
        return took_s


def object_alone(work: str, name: str) -> None:
    """The images' headers read and a finished object written, by pydicom; of an RTSTRUCT also the contours.

    Those are scikit-image's, of what is drawn and not of whole slices.
    """
    import pydicom
    from skimage.measure import find_contours

    files = sorted((Path(work) / "ct").iterdir())
    finished = pydicom.dcmread(Path(work) / name)
    for _ in finished.iterall():  # else what was read goes back as it is
        pass
    with np.load(Path(work) / "masks.npz") as stored:
        planes = [plane for mask in stored.values() for plane in mask if plane.any()]
    with timed():
        for file in files:
            pydicom.dcmread(file, stop_before_pixels=True)
        for plane in planes if name.endswith(".rt.dcm") else []:
            rows, columns = (np.flatnonzero(plane.any(axis=axis)) for axis in (1, 0))
            drawn = plane[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            find_contours(np.pad(drawn, 1).astype(float), 0.75)
        finished.save_as(Path(work) / f"alone-{name}")


def manifests(home: str) -> None:
    """The digests of all manifests of a dataset."""
    from tasks.ledger.files import sha256_of_file

    files = sorted(Path(home).glob("data/rawdata/bench/*/manifest.json"))
    with timed():
        for file in files:
            sha256_of_file(file)


def _on_every_core(
    work: Callable[..., float], parts: Sequence[tuple[object, ...]], processes: int | None = None
) -> float:
    """Seconds for all parts, if no core waits for another."""
    processes = processes or min(os.cpu_count() or 1, len(parts))
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        return sum(pool.map(work, *zip(*parts, strict=True))) / processes


WAYS = (
    gzip,
    copy_and_gzip,
    forward_passes,
    training_passes,
    training_passes_beside_another,
    object_alone,
    manifests,
)
