"""Predict: unlabelled images in, one DICOM SEG for each image out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import SimpleITK as sitk
from prefect import task

from tasks.conversion import CaseToConvert
from tasks.convert import convert_image
from tasks.delivery import files_below
from tasks.dicom.cases import Case, DicomFile, assemble
from tasks.dicom.headers import read_header
from tasks.dicom.image import read_series
from tasks.dicom.reasons import Reason
from tasks.dicom.seg import SegIdentity, write_seg
from tasks.errors import CaseRejected, UserDataError
from tasks.ledger.files import digest_of, read_json, sha256_of_file, whole_file, write_json
from tasks.ledger.models import ModelRecord
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.patients import extend_patients
from tasks.ledger.pseudonyms import Pseudonyms
from tasks.ledger.store import Store
from tasks.ledger.withdrawals import load_withdrawals
from tasks.nnunet.predict import predict_batch
from tasks.placement import gpu_of_this_worker
from tasks.retries import RETRIED
from tasks.settings import DatasetSettings

SERIES_NUMBER = 900
ALGORITHM = "IterSeg nnU-Net"


@task(task_run_name="keep-test-set", **RETRIED)
def patients_of_test_set(
    dataset_id: str, patients: Collection[str], settings: DatasetSettings, *, from_outside: bool
) -> set[str]:
    """Which patients (keyed hash) are in the test set; those that are new to the ledger get their place.

    Whoever is predicted from outside the dataset can never be in it: a correction may come back.

    A test case must be drawn by hand, and never over a prediction, or the test would ask the model
    whether it agrees with itself.
    """
    paths = DatasetPaths.of(dataset_id)
    withdrawn = load_withdrawals(paths.withdrawals).patients
    share = 0.0 if from_outside else settings.test_share
    table = extend_patients(
        paths.patients, (), settings.folds, share, withdrawn, unlabelled=patients, every_fold=False
    )
    return table.test


def images_in(
    folder: Path, settings: DatasetSettings, hash_patient: Callable[[str], str]
) -> tuple[list[Case], list[dict[str, Any]]]:
    """Every image series in a folder, all to be predicted, and a row for each damaged file.

    Files that are no images are passed over; a damaged one may be a slice that is missing elsewhere.
    """
    found: dict[tuple[str, str], DicomFile] = {}
    damaged: list[dict[str, Any]] = []
    for path in files_below(folder):
        try:
            header = read_header(path, hash_patient)
        except CaseRejected as error:
            if error.reason not in (Reason.NO_DICOM, Reason.OTHER_KIND):
                row = {"case_id": f"file{len(damaged) + 1}", "kind": "file"}
                damaged.append({**row, **_rejected(error.reason, error.detail)})
            continue
        if header.localizer:
            continue
        file = DicomFile(path, sha256_of_file(path), header, 0)
        # Copies of a file are one slice, not two at one place.
        found.setdefault((header.sop_instance_uid, file.sha256), file)
    cases = assemble(list(found.values()), settings.image_modality, []).images
    if not cases:
        raise UserDataError("the input folder holds no CT or MR series")
    return cases, damaged


@task(task_run_name="predict-{chunk}", **RETRIED)
def predict_cases(
    dataset_id: str,
    chunk: int,
    cases: Sequence[CaseToConvert],
    model: ModelRecord,
    settings: DatasetSettings,
    threads: int,
) -> list[dict[str, Any]]:
    """Predict a chunk of images with one loaded model.

    Returns
    -------
    For each case ``case_id``, ``state``, ``reason``, ``detail``, ``image`` and ``label`` (the SEG). A
    case that this model has predicted before is not predicted again.
    """
    paths = DatasetPaths.of(dataset_id)
    store, folder = Store(paths.store), paths.predictions(model.model_id)
    outcomes: dict[str, dict[str, Any]] = {}
    waiting: list[CaseToConvert] = []
    for case in cases:
        outcomes[case.case_id] = _outcome(case, store, folder)
        if read_prediction(folder, case, model) is not None:
            continue
        try:
            convert_image(case, store)
            waiting.append(case)
        except CaseRejected as error:
            outcomes[case.case_id].update(_rejected(error.reason, error.detail))
    failures = predict_batch(
        [
            {
                "case_id": case.case_id,
                "image": str(store.image(case.case_id, case.image_key)),
                "output": str(_label_file(folder, case.case_id)),
            }
            for case in waiting
        ],
        model_folder=paths.home / model.folder,
        folds=sorted(int(fold) for fold in model.checkpoints),
        device=settings.prediction.device,
        mirroring=settings.prediction.mirroring,
        log=paths.logs / f"predict-{model.model_id}-{chunk}.log",
        threads=threads,
        placement=gpu_of_this_worker(),
    )
    for case in waiting:
        if case.case_id in failures:
            detail = failures[case.case_id]
            outcomes[case.case_id].update(_rejected(Reason.UNEXPECTED.value, detail))
            continue
        try:
            write_prediction(paths, case, model)
        except OSError:
            raise  # the disk, not the case
        except Exception as error:  # an image whose header makes no SEG must not stop the others
            detail = f"no SEG can be made of its headers ({type(error).__name__})"
            outcomes[case.case_id].update(_rejected(Reason.UNEXPECTED.value, detail))
    return list(outcomes.values())


def write_prediction(paths: DatasetPaths, case: CaseToConvert, model: ModelRecord) -> Path:
    """Write a predicted label map as DICOM SEG and put it on record as sent."""
    folder = paths.predictions(model.model_id)
    volume = read_series([Path(file) for file in case.files])
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(_label_file(folder, case.case_id))))
    made_by = digest_of(model.checkpoints)
    # The same image and model give the same UIDs: writing again changes nothing for the PACS.
    # Keyed: de-identification knows them for ours when they come back, and leaves them as they are.
    pseudonyms = Pseudonyms(paths.patient_key, first=False)
    series_uid, sop_uid = (
        pseudonyms.uid(f"{case.image_key} {made_by} {part}") for part in ("series", "instance")
    )
    identity = SegIdentity(
        series_instance_uid=series_uid,
        sop_instance_uid=sop_uid,
        series_number=SERIES_NUMBER,
        description=f"{ALGORITHM} {paths.dataset_id} {model.model_id}"[:64],
        algorithm=ALGORITHM,
        version=model.model_id,
    )
    target = seg_file(folder, case.case_id)
    with whole_file(target) as temporary:
        write_seg(temporary, volume.files, dict(model.labels.masks(labels)), identity)
    sent = {
        "sop_instance_uid": sop_uid,
        "sha256": sha256_of_file(target),
        "case_id": case.case_id,
        "image_key": case.image_key,
        "model": model.model_id,
        "checkpoints": made_by,
        "structures": model.structures,
    }
    write_json(paths.sent / f"{sop_uid}.json", sent)
    write_json(folder / f"{case.case_id}.json", sent)
    return target


def read_prediction(folder: Path, case: CaseToConvert, model: ModelRecord) -> dict[str, Any] | None:
    """The record of a finished prediction of exactly this image by exactly this model."""
    record_file = folder / f"{case.case_id}.json"
    if not record_file.is_file() or not seg_file(folder, case.case_id).is_file():
        return None
    record: dict[str, Any] = read_json(record_file)
    same = (record["image_key"], record["checkpoints"]) == (case.image_key, digest_of(model.checkpoints))
    return record if same else None


def seg_file(folder: Path, case_id: str) -> Path:
    """The DICOM SEG of a case."""
    return folder / f"{case_id}.seg.dcm"


def _label_file(folder: Path, case_id: str) -> Path:
    return folder / f"{case_id}.nii.gz"


def _outcome(case: CaseToConvert, store: Store, folder: Path) -> dict[str, Any]:
    return {
        "case_id": case.case_id,
        "state": "done",
        "reason": None,
        "detail": "",
        "image": str(store.image(case.case_id, case.image_key)),
        "label": str(seg_file(folder, case.case_id)),
    }


def _rejected(reason: str, detail: str) -> dict[str, Any]:
    return {"state": "rejected", "reason": reason, "detail": detail, "image": None, "label": None}
