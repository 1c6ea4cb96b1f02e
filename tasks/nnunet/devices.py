"""Which device computes."""

from __future__ import annotations

import os

from tasks.errors import ConfigError


def torch_device(chosen: str) -> str:
    """``auto`` takes the GPU where there is one.

    Raises
    ------
    ConfigError
        Where it is none of ``auto``, ``cpu`` and ``cuda``; where ``cuda`` is asked for and there is none, or
        a job was given a GPU that torch cannot use: it would compute for weeks on the CPU beside it.
    """
    if chosen not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device {chosen!r}: auto, cpu or cuda; CUDA_VISIBLE_DEVICES says which GPU")
    import torch

    available = torch.cuda.is_available()
    if chosen == "cuda" and not available:
        raise ConfigError(
            "`device: cuda` is set and torch sees no GPU here. Check the driver with nvidia-smi and "
            "that a CUDA build of torch is installed (`make install TORCH=cuda`), or set `device: auto`"
        )
    given = os.environ.get("CUDA_VISIBLE_DEVICES", "").strip()
    if chosen == "auto" and not available and given not in ("", "-1"):
        raise ConfigError(
            f"GPU {given} was given to this program, and torch {torch.__version__} cannot use it. Install "
            "the build for its driver (`make install TORCH=cuda`, docs/cluster.md), or set `device: cpu`"
        )
    return "cuda" if available and chosen != "cpu" else "cpu"


def device_to_train_on(chosen: str) -> str:
    """The device, with torch set up for it as `nnUNetv2_train` does.

    nnU-Net's trainer does not do it: on a GPU cuDNN would guess an algorithm for each convolution instead of
    timing them, and as many CPU threads as there are cores would get in the way of the augmentation.
    """
    import torch

    device = torch_device(chosen)
    if device == "cuda":
        torch.set_num_threads(1)
        torch.set_num_interop_threads(1)
        torch.backends.cudnn.deterministic = False
        torch.backends.cudnn.benchmark = True
    return device
