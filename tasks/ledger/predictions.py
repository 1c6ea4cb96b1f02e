"""What was predicted and sent: where it lies, and what is on record of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.ledger.files import json_files, read_json
from tasks.ledger.paths import DatasetPaths
from tasks.settings.output import Output

ENDINGS: Mapping[Output, str] = {"SEG": "seg", "RTSTRUCT": "rtstruct"}


def predictions_of(paths: DatasetPaths, model_id: str) -> list[dict[str, Any]]:
    """The records of what a model predicted, in the order of case ids."""
    folder = paths.predictions(model_id)
    return [read_json(file) for file in json_files(folder)]


def sent_by_case(paths: DatasetPaths) -> dict[str, list[dict[str, Any]]]:
    """What was ever written to be corrected, case by case: each object with UIDs and digests.

    From the ledger, since predictions themselves may be deleted, and are written anew. What was predicted of
    a scan in the clear stands under the name of the de-identified one, too: what comes back is of that.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for file in json_files(paths.sent):
        sent = read_json(file)
        for case_id in {sent["case_id"], sent.get("twin", sent["case_id"])}:  # older ones have no twin
            found.setdefault(case_id, []).append(sent)
    return found


def object_file(folder: Path, case_id: str, kind: Output) -> Path:
    """The DICOM object of a prediction."""
    return folder / f"{case_id}.{ENDINGS[kind]}.dcm"


def case_of(file: Path) -> str:
    """The case of an object that :func:`object_file` names."""
    return file.name.split(".")[0]


def main_object(folder: Path, case_id: str, outputs: Sequence[Output]) -> Path:
    """The object that tables point at: the SEG, where there is one."""
    return object_file(folder, case_id, "SEG" if "SEG" in outputs else outputs[0])


def label_file(folder: Path, case_id: str) -> Path:
    """The label map of a prediction, NIfTI."""
    return folder / f"{case_id}.nii.gz"


def picture_file(folder: Path, case_id: str) -> Path:
    """Slices with the prediction outlined, WebP."""
    return folder / f"{case_id}.webp"


def record_file(folder: Path, case_id: str) -> Path:
    """What is written last."""
    return folder / f"{case_id}.json"


def triage_file(folder: Path, case_id: str) -> Path:
    """What a triage found of a case."""
    return folder / "triage" / f"{case_id}.json"
