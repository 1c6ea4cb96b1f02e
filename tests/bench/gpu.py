"""Rows that need a GPU: nnU-Net's own default plan, trained and predicted with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from homes import PLAIN, new_home
from iterations import Shape, iterseg, small_cases, training_row
from measure import Found
from prediction import batch_rows

from tasks.cluster.placement import gpus

CT: Shape = (64, 128, 128)
CASES, TO_PREDICT, EPOCHS = 8, 40, 2
FEW = "epochs_first: 1, iterations_per_epoch: 40, validation_iterations: 2, optimizer: adamw"
"""Enough to find a ball, not noise."""
NOT_MEASURED = (
    "On a GPU, seconds an epoch of the default plan against nnUNetTrainer: not measured, no GPU was at hand.",
    "On a GPU, cases a minute against nnUNetv2_predict: not measured, no GPU was at hand.",
)


def rows(work: Path, server: Mapping[str, str], device: str = "cuda", more: str = "") -> Iterator[Found]:
    """All rows of this file; ``more`` are settings that make them small enough for another device."""
    if device == "cuda" and not gpus():
        yield from NOT_MEASURED
        return
    yield from training(work, server, device, more)
    yield from prediction(work, server, device, more)


def training(work: Path, server: Mapping[str, str], device: str = "cuda", more: str = "") -> Iterator[Found]:
    """A fold of the default plan."""
    settings = _settings(device, more)
    home, size = work / "home", " × ".join(map(str, CT[::-1]))
    new_home(home, f"{settings}training: {{epochs_first: {EPOCHS}, device: {device}}}\n")
    iterseg(home, server, "ingest", "bench", "--from", str(small_cases(work / "cases", range(CASES), CT)))
    what = f"nnU-Net's default plan for CTs of {size}"
    yield training_row(work, home, server, 2, EPOCHS, name="training on a GPU", what=what, device=device)


def prediction(
    work: Path, server: Mapping[str, str], device: str = "cuda", more: str = ""
) -> Iterator[Found]:
    """A batch of images by its network."""
    settings = f"{_settings(device, more)}training: {{{FEW}, device: {device}}}\n"
    name, target = "prediction on a GPU", "ratio of 1 or more"
    yield from batch_rows(work / "predict", server, name, CT, TO_PREDICT, target, settings, device, 2)


def _settings(device: str, more: str) -> str:
    return f"{PLAIN}{more}prediction: {{mirroring: false, device: {device}}}\n"
