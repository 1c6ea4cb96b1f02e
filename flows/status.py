"""The account of a dataset, read from its files; no flow runs and nothing is changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tasks.dicom.case import Assembly, Case
from tasks.dicom.reasons import Reason
from tasks.inputs import Inputs
from tasks.ledger.dated import dated_folders
from tasks.ledger.inbox import Inbox
from tasks.ledger.iteration_paths import IterationPaths
from tasks.ledger.iterations import load_iteration
from tasks.ledger.lineages import Lineage, current_lineage, load_lineages
from tasks.ledger.lock import working_on
from tasks.ledger.models import ModelRecord, latest_model, load_models, load_promotions, parent_in
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.patients import TEST, places_of_patients
from tasks.ledger.predictions import record_file
from tasks.ledger.snapshots import load_snapshots, unsealed_folders
from tasks.review.fate import fate_of
from tasks.settings.dataset import DatasetSettings, RoiPatterns, check_choices
from tasks.state import require_dataset, require_known, rows_of_series, state_at, totals
from tasks.verify import verify_dataset


def status_of(dataset_id: str, *, verify: bool = False) -> dict[str, Any]:
    """What the dataset holds, what is new since the model in use, and what the next run would do.

    Parameters
    ----------
    verify
        Read every file that counts again, and compare it with what the ledger says of it.
    """
    paths = DatasetPaths.of(dataset_id)
    require_dataset(paths)
    waiting, received = [str(name) for name in unsealed_folders(paths)], len(Inbox(paths.inbox).ready())
    if received:
        waiting.append(f"{received} received file{'s' * (received > 1)}")
    model, lineage = latest_model(paths), current_lineage(paths)
    rows: list[dict[str, Any]] = []
    account: dict[str, int] = {}
    training, to_predict = None, list[Case]()
    if load_snapshots(paths):
        from tasks.conversion import conversions  # late: it takes half a second
        from tasks.outcomes import settle_as_remembered

        rois, settings = check_choices(paths.config, dataset_id)
        assembly, _ = state_at(paths, settings)
        settle_as_remembered(paths, assembly, settings, rois)
        to_convert = conversions(settings, rois)
        jobs = {c.case_id: to_convert(c).label_key for c in assembly.images if c.state == "pending"}
        account = _account(jobs, _learned(paths, model), assembly)
        rows = rows_of_series(assembly)
        training = _training(paths, settings, rois)
        to_predict = _to_predict(paths, assembly.images, model)
    return {
        "stage": "status",
        "dataset": dataset_id,
        "snapshots": [str(snapshot.name) for snapshot in load_snapshots(paths)],
        "not_ingested": waiting,
        "working": working_on(paths.lock_folder),
        "model": model.model_id if model else None,
        "parent": model.parent if model else None,
        "test_dice": model.test_dice if model else {},
        "account": account,
        "lineage": lineage.number if lineage else None,
        "next": _next(
            account,
            waiting,
            _start(paths, lineage),
            training,
            to_predict=len(to_predict),
            plans_anew=lineage is not None and lineage.plans is None,
        ),
        "verified": verify_dataset(paths) if verify else None,
        "report": str(paths.report) if paths.report.is_file() else None,
        "cases": rows,
        "totals": totals(rows),
    }


def _learned(paths: DatasetPaths, model: ModelRecord | None) -> dict[str, str]:
    """Case → key of the label that the model in use was made or judged with."""
    if model is None:
        return {}
    iteration = load_iteration(model.iteration(paths))
    return {case["case_id"]: case["label_key"] for case in iteration.cases} if iteration else {}


def _account(jobs: dict[str, str | None], learned: dict[str, str], assembly: Assembly) -> dict[str, int]:
    withdrawn = {case.case_id for case in assembly.images if case.reason == Reason.WITHDRAWN}
    return {
        "new": len(jobs.keys() - learned.keys()),
        "relabelled": sum(case in learned and key != learned[case] for case, key in jobs.items()),
        "reused": sum(key == learned.get(case) for case, key in jobs.items()),
        "withdrawn": len(withdrawn & learned.keys()),
        "gone": len(learned.keys() - jobs.keys() - withdrawn),
    }


def _start(paths: DatasetPaths, lineage: Lineage | None) -> str:
    """How the next model would begin."""
    parent = parent_in(paths, lineage.number) if lineage else None
    if lineage is not None and lineage.plans is None:
        return f"plans lineage {lineage.number} anew and trains from scratch"
    return f"trains warm from {parent.model_id}" if parent else "trains from scratch"


def _training(paths: DatasetPaths, settings: DatasetSettings, rois: RoiPatterns) -> str | None:
    """What the next run does of the newest iteration, besides what came in; None: nothing."""
    folders = dated_folders(paths.procdata, paths.dataset_id)
    prepared = [name for name, folder in folders.items() if IterationPaths(folder).record.is_file()]
    newest = load_iteration(paths.iteration(prepared[-1])) if prepared else None
    if newest is None or newest.lineage != load_lineages(paths)[1]:
        return None
    as_chosen = Inputs(newest.lineage, newest.cases, settings, rois).are_of(newest)
    if any(model.model_id == prepared[-1].short for model in load_models(paths)):
        return None if as_chosen else "settings that decide what is learned have changed"
    at = paths.iteration(prepared[-1])
    if not any(any(folder.rglob("checkpoint_*.pth")) for folder in (at.results, at.results_of_control)):
        return None
    from tasks.unfinished import unfinished_iteration  # late: it takes a second

    return f"goes on with the training of {newest.name} first" if unfinished_iteration(paths) else None


def _to_predict(paths: DatasetPaths, images: Sequence[Case], model: ModelRecord | None) -> list[Case]:
    """The images that nobody has segmented and the model in use has not predicted in any way.

    Of a patient who has no place yet it is not said here that they will be in the test set.
    """
    from tasks.outcomes import is_unpredictable  # late, as above

    if model is None:
        return []
    places, folder = places_of_patients(paths.patients), paths.predictions(model.model_id)
    return [
        case
        for case in images
        if case.reason == Reason.UNLABELLED
        and places.get(case.patient) != TEST
        and not is_unpredictable(case)
        and not record_file(folder, case.case_id).is_file()
    ]


def _next(
    account: dict[str, int],
    waiting: list[str],
    start: str,
    training: str | None,
    *,
    to_predict: int = 0,
    plans_anew: bool = False,
) -> str:
    changes = [f"{n} {what}" for what, n in account.items() if n and what != "reused"]
    if training:
        changes.insert(0, training)
    if waiting:
        changes.insert(0, f"ingests {', '.join(waiting)}")
    if not changes and not plans_anew:
        if to_predict:
            return f"trains nothing and predicts {to_predict} image{'s' * (to_predict > 1)}"
        labelled = account.get("reused")
        return (
            "nothing new, unless a candidate is waiting" if labelled else "nothing: no image is labelled yet"
        )
    return "; ".join([", ".join(changes), start] if changes else [start])


def models_of(dataset_id: str) -> dict[str, Any]:
    """The lineage: every model, where it comes from, how it was judged, and when it was used."""
    paths = DatasetPaths.of(dataset_id)
    require_known(paths)
    current = latest_model(paths)
    models = [
        {
            "model": record.model_id,
            "parent": record.parent,
            "lineage": record.lineage,
            "imported": record.imported_from is not None,
            "control": record.control,
            "created": record.created,
            "cases": record.cases,
            "test_dice": record.test_dice,
            "compared_with": record.compared_with,
            "basis": record.basis,
            "verdicts": record.verdicts,
            "accepted": record.accepted,
            "promoted": record.promoted,
            "in_use": current is not None and record.model_id == current.model_id,
            "fate": fate_of(asdict(record), current.model_id if current else None),
            "folder": record.folder,
        }
        for record in load_models(paths)
    ]
    lineages = [asdict(lineage) for lineage in load_lineages(paths)[0].values()]
    return {
        "stage": "models",
        "dataset": dataset_id,
        "models": models,
        "lineages": lineages,
        "history": load_promotions(paths),
    }


def worklist_report(dataset_id: str, marks: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What to correct next, after what people say of single images has been noted."""
    from tasks.worklist import mark_cases, worklist_of, write_rows  # late: it takes a second

    paths = DatasetPaths.of(dataset_id)
    require_dataset(paths)
    if marks:
        mark_cases(paths, marks)
    rows = worklist_of(paths)
    write_rows(paths, rows)
    return {"stage": "worklist", "dataset": dataset_id, "worklist": rows, "file": str(paths.worklist)}
