"""Predict: unlabelled images in, DICOM SEG and RTSTRUCT for each image out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from prefect import task

from tasks.cluster.attempts import a_broken_node_takes_no_more
from tasks.cluster.placement import gpu_of_this_worker
from tasks.cluster.retries import RETRIED
from tasks.conversion import CaseToConvert
from tasks.convert import convert_image, told_without_names
from tasks.copies import is_one_of
from tasks.delivery import content_of, files_below, was_deleted
from tasks.dicom.case import Case, DicomFile, case_ids_of
from tasks.dicom.cases import assemble
from tasks.dicom.headers import Header, header_of
from tasks.dicom.reasons import Reason
from tasks.errors import CaseRejected, TransientError, UserDataError
from tasks.hand_over import read_prediction, read_triage, write_prediction, write_triage
from tasks.ledger.models import ModelRecord
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.predictions import label_file, main_object, record_file
from tasks.ledger.pseudonyms import Pseudonyms
from tasks.ledger.store import Store
from tasks.ledger.withdrawals import Withdrawals, load_withdrawals
from tasks.nnunet.predict import predict_batch
from tasks.processes.program import Message
from tasks.settings.dataset import DatasetSettings
from tasks.shown.artifacts import log_broken
from tasks.state import totals


def images_in(
    folder: Path, settings: DatasetSettings, pseudonyms: Pseudonyms, withdrawn: Withdrawals
) -> tuple[list[Case], list[dict[str, Any]]]:
    """Every image series in a folder, to be predicted unless withdrawn, and a row for each damaged file.

    Files that are no images are passed over; a damaged one may be a slice that is missing elsewhere.
    """
    found: dict[tuple[str, str], DicomFile] = {}
    damaged: list[dict[str, Any]] = []
    for path in files_below(folder):
        if was_deleted(path, folder):
            continue
        try:
            header, digest = _read(path, pseudonyms.patient)
        except CaseRejected as error:
            if error.reason not in (Reason.NO_DICOM, Reason.OTHER_KIND):
                row = {"case_id": f"file{len(damaged) + 1}", "kind": "file"}
                damaged.append({**row, **_rejected(error.reason, error.detail)})
            continue
        if header.localizer:
            continue
        file = DicomFile(path, digest, header, 0)
        # Copies of a file are one slice, not two at one place.
        found.setdefault((header.sop_instance_uid, file.sha256), file)
    cases = assemble(list(found.values()), settings.image_modality, []).images
    if not cases:
        unreadable = f" that can be read: {len(damaged)} files are damaged" if damaged else ""
        report = {"stage": "predict", "cases": damaged, "totals": totals(damaged)}
        raise UserDataError(f"the input folder holds no CT or MR series{unreadable}").with_report(report)
    for case in cases:
        case_ids = case_ids_of(case.series_instance_uid, pseudonyms.uid)
        if any(withdrawn.hold(case.patient, case_id) for case_id in case_ids):
            case.settle("ignored", Reason.WITHDRAWN.value, "")
    return cases, damaged


def _read(path: Path, hash_patient: Callable[[str], str]) -> tuple[Header, str]:
    """The header of a file and the digest of its content, read once; CaseRejected with its code."""
    try:
        content = content_of(path)
    except OSError as error:
        raise CaseRejected(Reason.UNREADABLE, str(error.strerror)) from None
    return header_of(content, path.suffix, hash_patient), sha256(content).hexdigest()


@task(task_run_name="predict-{chunk}", **RETRIED)
def predict_cases(
    dataset_id: str,
    chunk: int,
    cases: Sequence[CaseToConvert],
    model: ModelRecord,
    settings: DatasetSettings,
    threads: int,
    triage: bool = False,
) -> list[dict[str, Any]]:
    """Predict a chunk of images with one loaded model.

    Parameters
    ----------
    triage
        Only ask how much the folds disagree, for the worklist: nothing is written that anybody could
        take for a result.

    Returns
    -------
    For each case ``case_id``, ``series_instance_uid``, ``state``, ``reason``, ``detail``, ``image`` and
    ``label`` (the SEG, or the RTSTRUCT where no SEG is written; None after a triage). A case that this model
    has predicted before is not predicted again; each is handed out while the next one is predicted, so that
    a killed job loses the cases it was at.
    """
    paths = DatasetPaths.of(dataset_id)
    store, folder = Store(paths.store), paths.predictions(model.model_id)
    outcomes, waiting = _to_predict(paths, cases, model, settings, triage)

    heard: set[str] = set()

    def hand_out(message: Message) -> None:
        if "written" not in message:
            return
        case = waiting[message["written"]]
        heard.add(case.case_id)
        outcomes[case.case_id].update(_handed_out(paths, case, model, settings, message["doubt"], triage))

    def asked(case: CaseToConvert) -> dict[str, str]:
        output = {} if triage else {"output": str(label_file(folder, case.case_id))}
        image = str(store.image(case.case_id, case.image_key))
        return {"case_id": case.case_id, "image": image, **output}

    with a_broken_node_takes_no_more():
        failures = predict_batch(
            [asked(case) for case in waiting.values()],
            model_folder=paths.home / model.folder,
            folds=sorted(int(fold) for fold in model.checkpoints),
            device=settings.prediction.device,
            mirroring=settings.prediction.triage_mirroring if triage else settings.prediction.mirroring,
            log=paths.log(f"predict-{model.model_id}-{chunk}"),
            threads=threads,
            placement=gpu_of_this_worker(),
            on_message=hand_out,
        )
    if untold := sorted(waiting.keys() - heard - failures.keys()):
        # A message was lost, between lines of another thread.
        raise TransientError(f"nothing was heard of the prediction of {', '.join(untold)}; run it again")
    for case_id, detail in failures.items():
        outcomes[case_id].update(_rejected(Reason.UNEXPECTED.value, detail))
    return list(outcomes.values())


def _to_predict(
    paths: DatasetPaths,
    cases: Sequence[CaseToConvert],
    model: ModelRecord,
    settings: DatasetSettings,
    triage: bool,
) -> tuple[dict[str, dict[str, Any]], dict[str, CaseToConvert]]:
    """Case id → its outcome so far, and those whose image is converted and waits to be predicted."""
    store, folder = Store(paths.store), paths.predictions(model.model_id)
    withdrawn = load_withdrawals(paths.withdrawals).scans
    outcomes: dict[str, dict[str, Any]] = {}
    waiting: dict[str, CaseToConvert] = {}
    for case in cases:
        written = None if triage else main_object(folder, case.case_id, settings.prediction.outputs)
        outcomes[case.case_id] = _outcome(case, store, written)
        if _is_known(folder, case, model, settings, triage):
            continue
        try:
            convert_image(case, store)
            if is_one_of(withdrawn, store.image(case.case_id, case.image_key)):
                raise CaseRejected(Reason.WITHDRAWN_ELSEWHERE, "")
            waiting[case.case_id] = case
        except CaseRejected as error:
            outcomes[case.case_id].update(_rejected(error.reason, error.detail))
    return outcomes, waiting


def _is_known(
    folder: Path, case: CaseToConvert, model: ModelRecord, settings: DatasetSettings, triage: bool
) -> bool:
    """Whether the model has predicted an image before or, where no more is asked, has said its doubt."""
    if read_prediction(folder, case, model, settings) is not None:
        return True
    return triage and read_triage(folder, case, model) is not None


def _handed_out(
    paths: DatasetPaths,
    case: CaseToConvert,
    model: ModelRecord,
    settings: DatasetSettings,
    doubt: dict[str, Any],
    triage: bool,
) -> dict[str, Any]:
    """Write the objects of a case, or what was found of it; what becomes of its outcome by that."""
    try:
        with told_without_names(case):
            if triage:
                write_triage(paths.predictions(model.model_id), case, model, doubt)
            else:
                write_prediction(paths, case, model, settings, doubt)
    except CaseRejected as error:
        return _rejected(error.reason, error.detail)
    except OSError:
        raise  # the disk, not the case
    except Exception as error:  # an image whose header makes no SEG must not stop the others
        wanted = settings.prediction.outputs[0]
        kind = log_broken(case.case_id, f"the making of its {wanted}", error)
        return _rejected(Reason.UNEXPECTED.value, f"no {wanted} can be made of its headers ({kind})")
    return {}


def stale_predictions(paths: DatasetPaths, model: ModelRecord, cases: Collection[str]) -> dict[str, int]:
    """Other models and how many of these cases they predicted: a correction is better drawn over this one's.

    What was sent stays where it is, and a correction of it is still known for one of that model.
    """
    counts = {
        folder.name: sum(record_file(folder, case).is_file() for case in cases)
        for folder in sorted(paths.predicted.glob("*"))
        if folder.name != model.model_id
    }
    return {name: count for name, count in counts.items() if count}


def _outcome(case: CaseToConvert, store: Store, written: Path | None) -> dict[str, Any]:
    return {
        "case_id": case.case_id,
        "series_instance_uid": case.series_instance_uid,
        "state": "done",
        "reason": None,
        "detail": "",
        "image": str(store.image(case.case_id, case.image_key)),
        "label": None if written is None else str(written),
    }


def _rejected(reason: str, detail: str) -> dict[str, Any]:
    return {"state": "rejected", "reason": reason, "detail": detail, "image": None, "label": None}
