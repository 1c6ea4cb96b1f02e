"""A GPU that is too small for an image and its logits predicts it all the same, and keeps nothing of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tasks.nnunet.logits import logits_of

GB = 1_000_000_000
PATCH = [96, 160, 160]


def predictor(device: str, classes: int, patch: list[int]) -> Any:
    made = SimpleNamespace(
        device=torch.device(device),
        label_manager=SimpleNamespace(num_segmentation_heads=classes),
        configuration_manager=SimpleNamespace(patch_size=patch),
        perform_everything_on_device=None,
    )
    made.predict_sliding_window_return_logits = lambda data: data
    return made


@pytest.mark.parametrize(
    ("what", "shape", "patch", "classes", "free_gb", "kept_gb", "all_of_it"),
    [
        ("a chest on a large GPU", (1, 400, 512, 512), PATCH, 3, 40, 0, True),
        ("a chest on a small one", (1, 400, 512, 512), PATCH, 3, 4, 0, False),
        ("with what torch keeps of the image before", (1, 400, 512, 512), PATCH, 3, 1, 4, True),
        ("as much with many structures", (1, 400, 512, 512), PATCH, 30, 20, 0, False),
        ("slice by slice", (1, 400, 512, 512), [512, 512], 3, 40, 0, True),
        ("slice by slice, on a small one", (1, 400, 512, 512), [512, 512], 3, 4, 0, False),
        ("smaller than a patch, to which it is padded", (1, 2, 2, 2), PATCH, 30, 0.7, 0, False),
    ],
)
def test_a_gpu_adds_up_what_it_has_room_for(
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    shape: tuple[int, ...],
    patch: list[int],
    classes: int,
    free_gb: float,
    kept_gb: float,
    all_of_it: bool,
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (int(free_gb * GB), 80 * GB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: int(kept_gb * GB) + 1)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 1)
    on_gpu = predictor("cuda", classes, patch)
    logits_of(on_gpu, torch.zeros(1).expand(shape))
    assert on_gpu.perform_everything_on_device is all_of_it, what


def test_a_cpu_is_asked_nothing_of_it() -> None:
    on_cpu = predictor("cpu", 3, PATCH)
    logits_of(on_cpu, torch.zeros(1, 2, 2, 2))
    assert on_cpu.perform_everything_on_device is False
