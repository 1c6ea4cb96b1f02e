"""Which device computes."""

from __future__ import annotations

from tasks.errors import ConfigError


def torch_device(chosen: str) -> str:
    """``auto`` takes the GPU where there is one.

    Raises
    ------
    ConfigError
        Where ``cuda`` is asked for and there is none.
    """
    import torch

    available = torch.cuda.is_available()
    if chosen == "cuda" and not available:
        raise ConfigError(
            "`device: cuda` is set and torch sees no GPU here. Check the driver with nvidia-smi and "
            "that a CUDA build of torch is installed (`make install TORCH=cuda`), or set `device: auto`"
        )
    return "cuda" if available and chosen != "cpu" else "cpu"
