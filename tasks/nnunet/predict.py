"""Predict a batch of images with one loaded model, in a program of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.ledger.files import whole_file
from tasks.program import Message, run_program, serve, tell


def predict_batch(
    cases: Sequence[Mapping[str, str]],
    *,
    model_folder: Path,
    folds: Sequence[int] | None,
    device: str,
    mirroring: bool,
    log: Path,
    threads: int,
    placement: Mapping[str, str] | None = None,
    on_message: Callable[[Message], None] = lambda _: None,
) -> dict[str, str]:
    """Predict images into label maps.

    Parameters
    ----------
    cases
        ``case_id``, ``image`` and ``output`` (both NIfTI) of each.
    model_folder, folds, device, mirroring
        See :class:`tasks.nnunet.predictor.Predictor`.
    threads
        CPU threads for torch.
    placement
        Environment that chooses the GPU.

    Returns
    -------
    Case id → what went wrong, for the cases that failed; the others have their output.
    """
    failures: dict[str, str] = {}

    def listen(message: Message) -> None:
        if "failed" in message:
            failures[message["failed"]] = message["detail"]
        on_message(message)

    job = {
        "cases": [dict(case) for case in cases],
        "model_folder": str(model_folder),
        "folds": None if folds is None else list(folds),
        "device": device,
        "mirroring": mirroring,
    }
    # nnU-Net caps torch's threads at nnUNet_def_n_proc while it predicts.
    environment = {**(placement or {}), "OMP_NUM_THREADS": str(threads), "nnUNet_def_n_proc": str(threads)}
    if cases:
        run_program(__name__, job, log, environment, listen)
    return failures


def _work(job: dict[str, Any]) -> None:
    import SimpleITK as sitk

    from tasks.nnunet.predictor import Predictor

    predictor = Predictor(job["model_folder"], job["folds"], device=job["device"], mirroring=job["mirroring"])
    for number, case in enumerate(job["cases"], start=1):
        try:
            prediction = predictor.predict_label_map(sitk.ReadImage(case["image"]))
            with whole_file(Path(case["output"])) as temporary:
                sitk.WriteImage(prediction, os.fspath(temporary), useCompression=True)
        except Exception as error:  # one case that fails must not take the batch with it
            tell(failed=case["case_id"], detail=f"{type(error).__name__}: {error}")
        tell(predicted=number, of=len(job["cases"]))


if __name__ == "__main__":
    serve(_work)
