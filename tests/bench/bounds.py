"""What a row is bound by, and nothing else of it, each in a process of its own, on every core."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from measure import said, timed


def gzip(cases: str) -> None:
    """The images and label maps of all cases compressed and written; they are read before, unmeasured."""
    said(_on_every_core(_compressed, [(str(case),) for case in sorted(Path(cases).iterdir())]))


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


WAYS = (gzip, forward_passes, manifests)
