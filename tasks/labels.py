"""Which integers of a label map stand for which structure, and which names.

``label_image`` and ``priority`` give each structure one integer, in the order of the ROI file.
``regions`` gives each structure one bit, so that every overlap has an integer of its own; a structure
is then all integers with its bit. 0 is background; the integer after the last one is nnU-Net's ignore
label, for voxels of which nothing is known.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tasks.errors import ConfigError

MaskStrategy = Literal["label_image", "priority", "regions"]
SeveralRois = Literal["error", "merge"]
MissingStructure = Literal["error", "absent", "unlabelled"]
Masks = Mapping[str, NDArray[np.bool_]]
"""Structure → (slices, rows, columns)."""
MAX_REGIONS = 8
"""nnU-Net lists every integer of a region, 2 ** (n - 1) of them; more bits would not fit a byte."""
MAX_LABELS = 254
"""So that labels and the ignore label fit a byte."""


class Labels:
    """The integers of a dataset's structures.

    Parameters
    ----------
    structures
        In the order of the ROI file.
    strategy
        How overlaps are kept, see the module.

    Raises
    ------
    ConfigError
        Where there are more structures than the strategy can hold.
    """

    def __init__(self, structures: Sequence[str], strategy: MaskStrategy) -> None:
        most = MAX_REGIONS if strategy == "regions" else MAX_LABELS
        if len(structures) > most:
            raise ConfigError(
                f"mask_strategy {strategy} holds {most} structures, and the ROI file names {len(structures)}"
            )
        self.structures = list(structures)
        self.overlapping = strategy == "regions"

    @property
    def values(self) -> dict[str, list[int]]:
        """Structure → its integers."""
        if not self.overlapping:
            return {name: [n] for n, name in enumerate(self.structures, start=1)}
        every = range(1, 2 ** len(self.structures))
        return {
            name: [value for value in every if value >> bit & 1] for bit, name in enumerate(self.structures)
        }

    @property
    def ignore(self) -> int:
        """The integer of voxels of which nothing is known."""
        return 2 ** len(self.structures) if self.overlapping else len(self.structures) + 1

    def masks(self, label_map: NDArray[np.integer]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
        """Each structure with its mask, one at a time; the shape is that of the label map."""
        for name in self.structures:
            yield name, self.mask(label_map, name)

    def mask(self, label_map: NDArray[np.integer], structure: str) -> NDArray[np.bool_]:
        """The mask of one structure."""
        position = self.structures.index(structure)
        # The ignore label has none of the bits.
        mask: NDArray[np.bool_] = (
            label_map & (1 << position) > 0 if self.overlapping else label_map == position + 1
        )
        return mask


def matching(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """Those names that one of the patterns matches whole, whatever the case."""
    return [name for name in names if any(re.fullmatch(p, name, re.IGNORECASE) for p in patterns)]


def count_voxels(label_map: NDArray[np.integer]) -> dict[int, int]:
    """Integer → number of voxels, of an array (slices, rows, columns); slice by slice, to save memory."""
    total = np.zeros(int(label_map.max(initial=0)) + 1, dtype=np.int64)
    for plane in label_map:
        total += np.bincount(plane.ravel(), minlength=len(total))
    return {int(value): int(total[value]) for value in np.flatnonzero(total)}


def is_blind(label_map: NDArray[np.integer], ignore: int) -> bool:
    """Whether a label map says of no voxel that nothing is there, as where a structure is `unlabelled`.

    Whatever is predicted beside what is drawn cannot be seen in it, and no score of it means anything.
    """
    return bool((label_map == ignore).any()) and not bool((label_map == 0).any())


def what_is_drawn(masks: Masks) -> dict[str, str]:
    """Structure → digest of its mask, (slices, rows, columns), of those that have a voxel."""
    return {
        name: sha256(f"{mask.shape}".encode() + np.packbits(mask).tobytes()).hexdigest()
        for name, mask in masks.items()
        if mask.any()
    }


def is_same_drawing(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether two of :func:`what_is_drawn` are the same masks, though a structure may be called otherwise.

    Two that have changed names are not: a person who puts left and right in order has worked.
    """
    alike = all(other[name] == digest for name, digest in one.items() if name in other)
    return alike and sorted(one.values()) == sorted(other.values())
