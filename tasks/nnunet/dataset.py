"""nnU-Net's folders of one iteration: links into the store, never copies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.labels import Labels
from tasks.ledger.files import digest_of, write_json
from tasks.ledger.store import link_all

FILE_ENDING = ".nii.gz"
DESCRIPTION, FINGERPRINT = "dataset.json", "dataset_fingerprint.json"
"""nnU-Net's names of what describes a dataset, and of what its planner has measured."""
TRUTH = "gt_segmentations"
"""nnU-Net's name of the folder of the labels that a validation is scored with."""
READER = "SimpleITKIO"
PREPROCESSED_SUFFIXES = (".b2nd", "_seg.b2nd", ".pkl")
STORED_CASE = "case"
"""The name of a preprocessed case inside the store, where the folder says which it is."""


@dataclass(frozen=True)
class TrainingCase:
    """A converted case: its id and its two NIfTI files."""

    case_id: str
    image: Path
    label: Path


def integers_of(description: Mapping[str, Any]) -> dict[str, list[int]]:
    """Structure → its integers, as a ``dataset.json`` has them; without background and ignore label.

    More than one are a region's.
    """
    return {
        name: [int(one) for one in (value if isinstance(value, list | tuple) else [value])]
        for name, value in description["labels"].items()
        if name not in ("background", "ignore")
    }


def dataset_json(
    modality: str,
    labels: Labels,
    case_count: int,
    *,
    partial: bool = False,
    found: Sequence[int] = (),
    parent: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Content of nnU-Net's ``dataset.json``.

    The channel's name chooses the normalisation: CT is clipped and scaled by the dataset's
    intensities, anything else by its own image.

    Parameters
    ----------
    partial
        Whether the label maps may hold the ignore label.
    found
        The integers that occur in the label maps: they tell which regions enclose which.
    parent
        The content of the lineage's first iteration, whose order of regions is that of the network's
        channels and stays.
    """
    order = outside_in(labels, found) if labels.overlapping else labels.structures
    values = {name: labels.values[name] for name in order}
    described: dict[str, Any] = {
        "background": 0,
        **{name: integers[0] if len(integers) == 1 else integers for name, integers in values.items()},
    }
    regions = {"regions_class_order": class_order(labels, found)} if labels.overlapping else {}
    if parent is not None:
        described = {name: value for name, value in parent["labels"].items() if name != "ignore"}
        regions = {key: parent[key] for key in regions}
    if partial:
        described["ignore"] = labels.ignore
    return {
        "channel_names": {"0": modality},
        "labels": described,
        **regions,
        "numTraining": case_count,
        "file_ending": FILE_ENDING,
        "overwrite_image_reader_writer": READER,
    }


def write_raw(raw: Path, cases: Sequence[TrainingCase], description: Mapping[str, Any]) -> None:
    """Fill ``imagesTr`` and ``labelsTr`` with links and write ``dataset.json`` last."""
    images = [(f"{case.case_id}_0000{FILE_ENDING}", case.image) for case in cases]
    labels = [(f"{case.case_id}{FILE_ENDING}", case.label) for case in cases]
    link_all({raw / "imagesTr": images, raw / "labelsTr": labels})
    write_json(raw / DESCRIPTION, description)


def write_preprocessed(
    preprocessed: Path,
    data_identifier: str,
    cases: Sequence[tuple[TrainingCase, Path]],
    splits: Sequence[Mapping[str, Sequence[str]]],
) -> None:
    """Link preprocessed cases and ground truth where nnU-Net's trainer looks for them.

    Parameters
    ----------
    preprocessed
        nnU-Net's preprocessed dataset, with plans and ``dataset.json`` already there.
    data_identifier
        The sub-folder that the plans name.
    cases
        Each case with its folder in the store.
    splits
        One ``{"train": [...], "val": [...]}`` for each fold.
    """
    data = [
        (f"{case.case_id}{suffix}", stored / f"{STORED_CASE}{suffix}")
        for suffix in PREPROCESSED_SUFFIXES
        for case, stored in cases
    ]
    truth = [(f"{case.case_id}{FILE_ENDING}", case.label) for case, _ in cases]
    link_all({preprocessed / data_identifier: data, preprocessed / TRUTH: truth})
    write_json(preprocessed / "splits_final.json", list(splits))


def preparation_digest(plans: Mapping[str, Any], configuration: str, description: Mapping[str, Any]) -> str:
    """The digest of all that decides a preprocessed case besides image and label.

    The dataset's name changes with each iteration and the number of cases grows; neither counts.
    """
    kept = {key: value for key, value in plans.items() if key not in ("dataset_name", "configurations")}
    return digest_of(
        {
            "plans": kept,
            "configuration": plans["configurations"][configuration],
            "labels": description["labels"],
            "channels": description["channel_names"],
        }
    )


def class_order(labels: Labels, found: Sequence[int]) -> list[int]:
    """nnU-Net's ``regions_class_order``: what plain nnU-Net writes for each region, in its order.

    Plain nnU-Net writes one region over another and so can tell nested regions only. Each region
    gets the integer of itself and all regions that enclose it; with regions ordered from the outside
    in (:func:`outside_in`), nested ones are then decoded right by plain nnU-Net too.

    Parameters
    ----------
    found
        The integers that occur in the label maps.
    """
    around = _enclosing(labels, found)
    return [sum(1 << bit for bit in around[name]) for name in outside_in(labels, found)]


def outside_in(labels: Labels, found: Sequence[int]) -> list[str]:
    """The structures so that each stands after those that enclose it."""
    around = _enclosing(labels, found)
    return sorted(labels.structures, key=lambda name: (len(around[name]), labels.structures.index(name)))


def _enclosing(labels: Labels, found: Sequence[int]) -> Mapping[str, list[int]]:
    """Structure → the bits that are set in every integer that has its own."""
    bits = range(len(labels.structures))
    values = [value for value in found if 0 < value < labels.ignore]
    enclosing = {}
    for own, name in enumerate(labels.structures):
        with_own = [value for value in values if value >> own & 1]
        enclosing[name] = [bit for bit in bits if all(v >> bit & 1 for v in with_own)] if with_own else [own]
    return enclosing
