"""Labels to look at again, with pictures: of the model in use, kept until label or model is another."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from tasks.dicom.case import Case
from tasks.dicom.image import slice_numbers
from tasks.errors import CaseRejected
from tasks.ledger.case_book import load_cases
from tasks.ledger.files import digest_of, json_files, read_json, write_json
from tasks.ledger.iteration_paths import fold_folder, validation_prediction
from tasks.ledger.iterations import load_iteration
from tasks.ledger.models import ModelRecord
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.store import Store
from tasks.ledger.withdrawals import load_withdrawals
from tasks.nnunet.fold import RESULT
from tasks.review.montage import montage
from tasks.review.report import SuspectCase
from tasks.review.suspects import Suspect, slices_that_differ, suspect_labels

MOST_SLICES = 5
"""Of a suspect label that are named, as of a prediction."""


def suspects_of(paths: DatasetPaths, model: ModelRecord) -> list[Suspect]:
    """Labels with which the out-of-fold predictions of a model strongly disagree."""
    folder = paths.home / model.folder
    files = [fold_folder(folder, fold) / RESULT for fold in model.checkpoints]
    results = [read_json(file) for file in files if file.is_file()]
    cases = {case_id: dice for result in results for case_id, dice in result["cases"].items()}
    own, today = load_iteration(model.iteration(paths)), load_cases(paths.cases)
    labels = {case["case_id"]: case["label_key"] for case in own.cases} if own else {}
    withdrawn = load_withdrawals(paths.withdrawals)

    def to_be_seen(case_id: str) -> bool:
        """One that was withdrawn, or corrected since, is no longer to be looked at."""
        booked = today[case_id][-1] if case_id in today else {}
        same = booked.get("label") == labels.get(case_id)
        return same and not withdrawn.hold(booked.get("patient", ""), case_id)

    return [suspect for suspect in suspect_labels(cases, model.structures) if to_be_seen(suspect.case_id)]


def pictured_suspects(
    paths: DatasetPaths, model: ModelRecord | None, labelled: Mapping[str, Case], most: int
) -> list[SuspectCase]:
    """The worst suspects with pictures: the label in colour, what the network drew in black and white.

    They show the slices on which these differ most, by the numbers that a viewer gives them.
    """
    own = load_iteration(model.iteration(paths)) if model is not None else None
    if model is None or own is None:
        return []
    cases = {case["case_id"]: case for case in own.cases}
    found: list[SuspectCase] = []
    used = set()
    for suspect in suspects_of(paths, model):
        if len(found) == most or suspect.case_id not in labelled:
            continue
        case, today = cases[suspect.case_id], labelled[suspect.case_id]
        digest = digest_of([model.digest, case["image_key"], case["label_key"], suspect.structure])
        kept = paths.suspects / f"{suspect.case_id}-{digest[:12]}.json"
        if not kept.is_file() and (picture := _picture(paths, model, suspect, case, today)):
            write_json(kept, picture)
        if kept.is_file():
            content = read_json(kept)
            found.append(SuspectCase(suspect, b64decode(content["webp"]), content["slices"]))
            used.add(kept)
    for file in json_files(paths.suspects):
        if file not in used:  # of a former model, or corrected since
            file.unlink()
    return found


def _picture(
    paths: DatasetPaths, model: ModelRecord, suspect: Suspect, case: Mapping[str, Any], today: Case
) -> dict[str, Any] | None:
    """A picture, and the slices to look at; None where its files are gone, as of who was withdrawn."""
    store = Store(paths.store)
    image = store.image(suspect.case_id, case["image_key"])
    label = store.label(suspect.case_id, case["label_key"])
    prediction = validation_prediction(fold_folder(paths.home / model.folder, case["place"]), suspect.case_id)
    if not (image.is_file() and label.is_file() and prediction.is_file()):
        return None
    differ = slices_that_differ(label, prediction, model.labels, suspect.structure)
    numbers = _numbers(today, image)
    picture = montage(image, label, model.labels, prediction, differ, numbers)
    told = [numbers[k] for k in differ[:MOST_SLICES]] if numbers else []
    return {"version": 1, "slices": told, "webp": b64encode(picture).decode("ascii")}


def _numbers(case: Case, image: Path) -> Sequence[int]:
    """What a viewer calls the slices; none where the series is no longer what the image was made of."""
    try:
        numbers = slice_numbers([file.path for file in case.files])
    except (CaseRejected, OSError):
        return ()
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(image))
    reader.ReadImageInformation()
    return numbers if len(numbers) == reader.GetSize()[2] else ()
