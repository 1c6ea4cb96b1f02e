"""Converted and preprocessed cases, addressed by the digest of what they were made from.

Nothing is computed or stored twice, and nothing half-written is ever found under its name.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.ledger.files import digest_of, read_json

KEY_DIGITS = 24
"""96 bits: no two keys of a case are the same by chance."""
LINKS_AT_A_TIME, LINKS_TOGETHER = 8, 500
"""Threads, and the links of each: enough for a network disk to answer several at once."""


@dataclass(frozen=True)
class Store:
    """The store of a dataset: a folder for each case, so that a withdrawn one can be deleted whole."""

    root: Path

    def image(self, case_id: str, key: str) -> Path:
        """The converted image (NIfTI) of a key."""
        return self.root.joinpath(case_id, f"image-{key}.nii.gz")

    def cases(self) -> list[str]:
        """Every case of which anything was made."""
        return sorted(folder.name for folder in self.root.glob("*/"))

    def images(self, case_id: str) -> list[Path]:
        """All images that were made of a case, by whatever converter."""
        return sorted((self.root / case_id).glob("image-*.nii.gz"))

    def label(self, case_id: str, key: str) -> Path:
        """The converted label map (NIfTI) of a key."""
        return self.root.joinpath(case_id, f"label-{key}.nii.gz")

    def voxel_counts(self, case_id: str, key: str) -> Path:
        """How many voxels of a label map have which integer (JSON)."""
        return self.root.joinpath(case_id, f"label-{key}.json")

    def read_voxel_counts(self, case_id: str, key: str) -> dict[int, int]:
        """Integer → voxels of a label map; as :meth:`voxel_counts` has it."""
        counts: dict[str, int] = read_json(self.voxel_counts(case_id, key))
        return {int(value): count for value, count in counts.items()}

    def preprocessed(self, case_id: str, key: str) -> Path:
        """The folder with nnU-Net's preprocessed case of a key."""
        return self.root.joinpath(case_id, f"preprocessed-{key}")


def image_key(sha256_of_files: Sequence[str], converter: str) -> str:
    """The key of a converted image: its files, whatever their order, and what converted them."""
    return _key({"files": sorted(sha256_of_files), "converter": converter})


def label_key(image: str, sha256_of_segmentation: str, choices: Mapping[str, Any]) -> str:
    """The key of a label map: image, segmentation, and what the user chose (patterns, strategy)."""
    return _key({"image": image, "segmentation": sha256_of_segmentation, "choices": _ordered(choices)})


def preprocessed_key(image: str, label: str, preparation: str, code: str) -> str:
    """The key of a preprocessed case: image, label map, the digest of plans and labels, and the code."""
    return _key({"image": image, "label": label, "preparation": preparation, "code": code})


def link_all(folders: Mapping[Path, Sequence[tuple[str, Path]]]) -> None:
    """Make relative symlinks in folders, by name, so that the data folder can be moved as a whole.

    Many at a time: a disk, above all one across a network, takes longer for each than we do.
    """
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    pieces = [
        (folder, targets[first : first + LINKS_TOGETHER])
        for folder, targets in folders.items()
        for first in range(0, len(targets), LINKS_TOGETHER)
    ]
    with ThreadPoolExecutor(LINKS_AT_A_TIME) as pool:
        list(pool.map(lambda piece: _link(*piece), pieces))


def _link(folder: Path, targets: Sequence[tuple[str, Path]]) -> None:
    shared = way_there = None
    for name, target in targets:
        if shared is None or not os.fspath(target).startswith(shared):
            # Once for all: `relpath` of each took as long as the links.
            shared = f"{os.path.commonpath([folder, target])}{os.sep}"
            way_there = os.path.relpath(shared, folder)
        link, relative = f"{folder}/{name}", f"{way_there}/{os.fspath(target).removeprefix(shared)}"
        try:
            os.symlink(relative, link)  # noqa: PTH211 - so did a `Path` of each
        except FileExistsError:  # a retried step finds the links of its first try
            Path(link).unlink()
            Path(link).symlink_to(relative)


def _key(content: Any) -> str:
    return digest_of(content)[:KEY_DIGITS]


def _ordered(choices: Mapping[str, Any]) -> list[Any]:
    """Keep the order of mappings: the order of structures gives their labels."""
    return [[key, _ordered(value) if isinstance(value, Mapping) else value] for key, value in choices.items()]
