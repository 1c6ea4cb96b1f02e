"""Read checkpoints without executing anything in them."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tasks.errors import UserDataError, may_pass
from tasks.ledger.files import sha256_of_file

NUMPY_IN_CHECKPOINTS = [
    np.float64(0).__reduce__()[0],  # NumPy's constructor of scalars, which has no public name
    np.dtype,
    *(type(np.dtype(name)) for name in ("float32", "float64", "int64")),
]
"""What nnU-Net's checkpoints hold besides tensors and plain Python; anything else is refused."""


DAMAGE = (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint without executing anything in it.

    Raises
    ------
    UserDataError
        Where it is cut short, damaged, or holds more than a checkpoint of nnU-Net does.
    OSError
        Where the disk failed to give it: it may be whole, and must not be passed over.
    """
    try:
        content = _load(path)
    except DAMAGE:
        _raise_what_may_pass(path)
        try:
            content = _load(path)  # the disk has given all of it by now, and torch does not say what failed
        except DAMAGE as again:
            reason = (str(again).strip() or "it ends too early").splitlines()[0]
            raise UserDataError(f"the checkpoint {path} cannot be used: {reason}") from None
    if not isinstance(content, dict) or "network_weights" not in content:
        raise UserDataError(f"{path} is no checkpoint of nnU-Net")
    return content


def _load(path: Path) -> Any:
    with torch.serialization.safe_globals(NUMPY_IN_CHECKPOINTS):
        return torch.load(path, map_location="cpu", weights_only=True)


def _raise_what_may_pass(path: Path) -> None:
    """Raise where it is the disk: torch makes a RuntimeError of what that says, so the file is read once."""
    try:
        sha256_of_file(path)
    except OSError as again:
        if may_pass(again):
            raise


def resumable(path: Path, on_damage: Callable[[str], None]) -> bool:
    """Whether a checkpoint exists and can be read; a damaged one is said and passed over."""
    if not path.is_file():
        return False
    try:
        read_checkpoint(path)
    except UserDataError as error:
        on_damage(str(error))
        return False
    return True
