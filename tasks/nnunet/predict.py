"""Predict a batch of images with one loaded model, in a program of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.ledger.images import write_image
from tasks.processes.program import Message, fail_for_the_disk, on_threads, run_program, serve, tell

if TYPE_CHECKING:  # torch takes seconds to import
    import SimpleITK as sitk

    from tasks.nnunet.ensemble import Ensemble, Preprocessed
    from tasks.nnunet.predictor import Predictor

MOST_HELD_BYTES = 2_000_000_000
"""Logits that are still to be written while the next image is predicted."""


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
        ``case_id``, ``image`` and ``output`` (both NIfTI) of each; without ``output`` only the folds'
        disagreement is asked for.
    model_folder, folds, device, mirroring
        See :class:`tasks.nnunet.predictor.Predictor`.
    threads
        CPU threads for torch.
    placement
        Environment that chooses the GPU.
    on_message
        Hears of each case that has its output: ``written`` (its id) and ``doubt``, how much the folds
        disagree (:func:`tasks.nnunet.doubt.doubt_of`).

    Returns
    -------
    Case id → what went wrong, for the cases that failed.
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
    environment = {**(placement or {}), **on_threads(threads), "nnUNet_def_n_proc": str(threads)}
    if cases:
        run_program(__name__, job, log, environment, listen)
    return failures


def _work(job: dict[str, Any]) -> None:
    from tasks.nnunet.predictor import Predictor

    predictor = Predictor(job["model_folder"], job["folds"], device=job["device"], mirroring=job["mirroring"])
    _predict_all(predictor, job["cases"])


def _predict_all(predictor: Predictor, cases: Sequence[Mapping[str, str]]) -> None:
    """Predict one image while the next is read and the last is written; never more than one of each.

    Of large ones not even that: the logits of five folds and twenty structures are gigabytes.
    """
    ensemble = predictor.ensemble
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        ahead = reader.submit(_read, ensemble, cases[0])
        behind: tuple[Mapping[str, str], Future[dict[str, Any]]] | None = None
        held_bytes = 0
        for number, case in enumerate(cases, start=1):
            now = ahead
            if number < len(cases):
                ahead = reader.submit(_read, ensemble, cases[number])
            if held_bytes > MOST_HELD_BYTES:
                _settle(behind, ensemble)
                behind = None
            try:
                image, prepared = now.result()
                folds = ensemble.fold_logits(prepared)
            except Exception as error:  # one case that fails must not take the batch with it
                _settle(behind, ensemble)
                behind = None
                ensemble.require_device()
                tell(failed=case["case_id"], detail=f"{type(error).__name__}: {error}")
            else:
                _settle(behind, ensemble)
                behind = case, writer.submit(_write, predictor, case, image, prepared, folds)
                held_bytes = sum(fold.nbytes for fold in folds)
                del image, prepared, folds  # whoever writes them lets them go
            tell(predicted=number, of=len(cases))
        _settle(behind, ensemble)


def _read(ensemble: Ensemble, case: Mapping[str, str]) -> tuple[sitk.Image, Preprocessed]:
    import SimpleITK as sitk

    image = sitk.ReadImage(case["image"])
    return image, ensemble.preprocess(image)


def _write(
    predictor: Predictor, case: Mapping[str, str], image: sitk.Image, prepared: Preprocessed, folds: list[Any]
) -> dict[str, Any]:
    """Write the label map, where one is wanted; how much the folds disagree."""
    import SimpleITK as sitk

    from tasks.nnunet.doubt import doubt_of

    doubt = doubt_of(predictor.ensemble, folds, prepared, predictor.labels)
    if "output" not in case:
        return doubt
    prediction = sitk.GetImageFromArray(predictor.ensemble.label_map(folds, prepared))
    prediction.CopyInformation(image)
    write_image(prediction, Path(case["output"]))
    return doubt


def _settle(written: tuple[Mapping[str, str], Future[dict[str, Any]]] | None, ensemble: Ensemble) -> None:
    """Wait for a case to be written, and tell what became of it."""
    if written is None:
        return
    case, outcome = written
    try:
        tell(written=case["case_id"], doubt=outcome.result())
    except OSError as error:  # the disk, not the case
        fail_for_the_disk(error)
    except Exception as error:  # as above
        ensemble.require_device()
        tell(failed=case["case_id"], detail=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    serve(_work)
