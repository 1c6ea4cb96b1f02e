"""Convert: single cases from DICOM into the store, as prepare and predict need them."""

from __future__ import annotations

import os
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import SimpleITK as sitk
from prefect import task
from prefect.logging import get_run_logger

from tasks.dicom.cases import Case
from tasks.dicom.convert import CONVERTER_VERSION, label_map
from tasks.dicom.image import SeriesVolume, read_series
from tasks.dicom.reasons import Reason
from tasks.errors import CaseRejected
from tasks.ledger.files import sha256_of_file, whole_file
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.store import Store, image_key, label_key
from tasks.retries import RETRIED
from tasks.settings import DatasetSettings, RoiPatterns


@dataclass(frozen=True)
class CaseToConvert:
    """The files of a case and the keys of what they become."""

    case_id: str
    files: list[str]
    image_key: str
    segmentation: str | None = None
    segmentation_kind: str | None = None
    segmentation_sha256: str | None = None
    label_key: str | None = None


def to_convert(case: Case, settings: DatasetSettings, rois: RoiPatterns) -> CaseToConvert:
    """What a case's conversion depends on: its files, and what the user chose."""
    key = image_key([file.sha256 for file in case.files], CONVERTER_VERSION)
    files = [str(file.path) for file in case.files]
    if case.segmentation is None:
        return CaseToConvert(case.case_id, files, key)
    choices = {
        "patterns": rois.root,
        "strategy": settings.mask_strategy,
        "several_rois": settings.several_rois,
    }
    return CaseToConvert(
        case.case_id,
        files,
        key,
        str(case.segmentation.path),
        case.segmentation.header.kind,
        case.segmentation.sha256,
        label_key(key, case.segmentation.sha256, choices),
    )


@task(task_run_name="convert-{chunk}", **RETRIED)
def convert_cases(
    dataset_id: str,
    chunk: int,
    cases: Sequence[CaseToConvert],
    settings: DatasetSettings,
    rois: RoiPatterns,
) -> list[dict[str, Any]]:
    """Convert a chunk of cases into the store.

    Returns
    -------
    For each case ``case_id``, ``state`` (``done`` or ``rejected``), ``reason`` and ``detail``. A case
    that fails in whatever way is rejected with a code, and the others go on.
    """
    store = Store(DatasetPaths.of(dataset_id).store)
    outcomes = []
    for case in cases:
        outcome: dict[str, Any] = {"case_id": case.case_id, "state": "done", "reason": None, "detail": ""}
        try:
            convert_case(case, store, settings, rois)
        except CaseRejected as error:
            outcome.update(state="rejected", reason=error.reason, detail=error.detail)
        except OSError:
            raise  # the disk, not the case
        except Exception as error:  # a case that breaks the converter must not stop the others
            # Its message may quote a patient's name, and the log goes to Prefect's database.
            place = traceback.extract_tb(error.__traceback__)[-1]
            get_run_logger().error(
                "case %s broke the converter: %s in %s:%s",
                case.case_id,
                type(error).__name__,
                place.name,
                place.lineno,
            )
            outcome.update(state="rejected", reason=Reason.UNEXPECTED.value, detail=type(error).__name__)
        outcomes.append(outcome)
    return outcomes


def convert_case(case: CaseToConvert, store: Store, settings: DatasetSettings, rois: RoiPatterns) -> None:
    """Convert the image and the segmentation of one case, or nothing where the store has both.

    Raises
    ------
    CaseRejected
        With the code of what is wrong with image or segmentation.
    """
    assert case.segmentation and case.segmentation_kind and case.label_key
    label = store.label(case.label_key)
    if label.is_file() and store.image(case.image_key).is_file():
        return
    volume = _read(case)
    if sha256_of_file(Path(case.segmentation)) != case.segmentation_sha256:
        raise CaseRejected(Reason.CHANGED, f"the {case.segmentation_kind} is not what was ingested")
    labels = label_map(
        volume,
        Path(case.segmentation),
        case.segmentation_kind,
        rois.root,
        settings.mask_strategy,
        settings.several_rois,
    )
    _write_image(labels, label)
    _store_image(volume, case, store)


def convert_image(case: CaseToConvert, store: Store) -> None:
    """Convert the image of one case, or nothing where the store has it; raises as above."""
    if not store.image(case.image_key).is_file():
        _store_image(_read(case), case, store)


def _read(case: CaseToConvert) -> SeriesVolume:
    """Read an image whose content is still what its key says."""
    files = [Path(file) for file in case.files]
    if image_key([sha256_of_file(file) for file in files], CONVERTER_VERSION) != case.image_key:
        raise CaseRejected(Reason.CHANGED, "the image's files are not what was ingested")
    return read_series(files)


def _store_image(volume: SeriesVolume, case: CaseToConvert, store: Store) -> None:
    if not store.image(case.image_key).is_file():
        _write_image(volume.image, store.image(case.image_key))


def _write_image(image: sitk.Image, path: Path) -> None:
    with whole_file(path) as temporary:
        sitk.WriteImage(image, os.fspath(temporary), useCompression=True, compressionLevel=1)
