"""Which device computes."""

from __future__ import annotations

import os

from tasks.errors import ConfigError


def torch_device(chosen: str) -> str:
    """``auto`` takes the GPU where there is one.

    Raises
    ------
    ConfigError
        Where ``cuda`` is asked for and there is none, or a job was given a GPU that torch cannot use: it
        would compute for weeks on the CPU beside it.
    """
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
