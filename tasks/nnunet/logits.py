"""A network's logits of an image, which a GPU adds up only where it has room for them."""

from __future__ import annotations

from math import prod

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

IMAGE_BYTES, COUNT_BYTES = 4, 2
"""Of a voxel: single precision, and how often it was predicted in half."""
CLASS_BYTES = 2 + 2 + 1
"""Of a voxel and class: the logit in half precision; its magnitude and a mark as infinite ones are sought."""
SHARE = 0.5
"""Of the memory that is free; the rest is for what the network computes on its way."""


@torch.inference_mode()  # type: ignore[untyped-decorator]
def logits_of(predictor: nnUNetPredictor, data: torch.Tensor) -> torch.Tensor:
    """Predict a preprocessed image with the weights that the network has.

    Where the GPU's memory is too small for image and result, each patch is taken from it as it is done.
    nnU-Net would find out by running out of memory, and what its first attempt had put there then stays for
    the life of the program: the thread that cuts patches waits for ever with the image in its hands.

    Parameters
    ----------
    data
        (channels, z, y, x) in the network's axes.

    Returns
    -------
    (classes, z, y, x), half precision, on the CPU.
    """
    predictor.perform_everything_on_device = _has_room(predictor, data)
    return predictor.predict_sliding_window_return_logits(data).to("cpu")


def _has_room(predictor: nnUNetPredictor, data: torch.Tensor) -> bool:
    if predictor.device.type != "cuda":
        return False
    shape, patch = data.shape[1:], predictor.configuration_manager.patch_size
    least = [1] * (len(shape) - len(patch)) + list(patch)  # what is smaller is padded; a plane has no depth
    voxels = prod(map(max, shape, least))
    classes = int(predictor.label_manager.num_segmentation_heads)
    needed: int = voxels * (IMAGE_BYTES * len(data) + COUNT_BYTES + CLASS_BYTES * classes)
    return needed <= SHARE * _free_bytes(predictor.device)


def _free_bytes(device: torch.device) -> int:
    """What nobody has, and what torch keeps from before and would use again."""
    free, _ = torch.cuda.mem_get_info(device)
    return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
