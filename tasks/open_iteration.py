"""Open an iteration: every case gets its place, and the same inputs find the same iteration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefect import task

from tasks.conversion import CaseToConvert
from tasks.errors import ConfigError, UserDataError
from tasks.labels import Labels
from tasks.ledger.files import digest_of
from tasks.ledger.iterations import Iteration, load_iteration
from tasks.ledger.models import ModelRecord, latest_model
from tasks.ledger.paths import DatasetPaths, DatedName, IterationPaths, dated_folders
from tasks.ledger.patients import TEST, PatientTable, extend_patients
from tasks.ledger.store import Store
from tasks.ledger.withdrawals import load_withdrawals
from tasks.nnunet.plan import PLANS_OF_PLANNER
from tasks.retries import RETRIED
from tasks.settings import DatasetSettings, RoiPatterns

WITHOUT_EFFECT_ON_WHAT_IS_LEARNED: Any = {
    "prediction": True,
    "promotion": True,
    "surface_tolerance_mm": True,
    "training": {"device", "checkpoint_every_s", "augmentation_workers"},
}


@task(task_run_name="open-iteration", **RETRIED)
def open_iteration(
    dataset_id: str,
    snapshot: DatedName,
    done: Sequence[tuple[CaseToConvert, str]],
    settings: DatasetSettings,
    rois: RoiPatterns,
) -> tuple[Iteration, bool]:
    """Give every case its place, and find or begin the iteration of exactly these inputs.

    Parameters
    ----------
    done
        Each converted case with its patient (keyed hash).

    Returns
    -------
    The iteration, and whether it was prepared before.
    """
    paths = DatasetPaths.of(dataset_id)
    parent = latest_model(paths)
    _same_lineage(parent, settings, rois)
    patients = extend_patients(
        paths.patients,
        [patient for _, patient in done],
        settings.folds,
        settings.test_share,
        load_withdrawals(paths.withdrawals).patients,
    )
    cases = _placed(done, patients)
    _every_fold_validates(cases, settings.folds)
    partial = "unlabelled" in settings.missing_structures.values()
    if partial:
        _every_fold_knows_background(
            Store(paths.store), cases, Labels(rois.structures, settings.mask_strategy)
        )
    digest = digest_of(
        {
            "cases": cases,
            "structures": rois.structures,
            "settings": settings.model_dump(mode="json", exclude=WITHOUT_EFFECT_ON_WHAT_IS_LEARNED),
        }
    )
    for folder in dated_folders(paths.procdata, dataset_id).values():
        existing = load_iteration(IterationPaths(folder))
        if existing is not None and existing.digest == digest:
            return existing, True
    iteration = Iteration(
        name=str(_free_name(paths, snapshot)),
        digest=digest,
        parent=parent.model_id if parent else None,
        modality=settings.image_modality,
        structures=rois.structures,
        configuration=settings.configuration,
        plans_name=PLANS_OF_PLANNER[settings.planner],
        preparation="",
        folds=settings.folds,
        cases=cases,
        mask_strategy=settings.mask_strategy,
        partial=partial,
    )
    return iteration, False


def _placed(done: Sequence[tuple[CaseToConvert, str]], patients: PatientTable) -> list[dict[str, Any]]:
    return sorted(
        (
            {
                "case_id": case.case_id,
                "patient": patient,
                "place": patients.place[patient],
                "image_key": case.image_key,
                "label_key": case.label_key,
            }
            for case, patient in done
        ),
        key=lambda row: str(row["case_id"]),
    )


def _every_fold_validates(cases: Sequence[dict[str, Any]], folds: int) -> None:
    empty = sorted(set(range(folds)) - {case["place"] for case in cases})
    if empty:
        raise UserDataError(
            f"fold {empty[0]} has no labelled case left to validate on: its patients' cases are "
            "rejected or withdrawn. `iterseg prepare --convert-only` tells why"
        )


def _every_fold_knows_background(store: Store, cases: Sequence[dict[str, Any]], labels: Labels) -> None:
    """Where a structure is unlabelled nothing is background; learnt from such cases alone it is nowhere."""
    whole = {
        case["place"]
        for case in cases
        if case["place"] != TEST
        and labels.ignore not in store.read_voxel_counts(case["case_id"], case["label_key"])
    }
    if len(whole) < 2:
        raise UserDataError(
            "`unlabelled` structures need cases of several patients where every structure is drawn, in two "
            "folds or more: without them some fold would never see background"
        )


def _same_lineage(parent: ModelRecord | None, settings: DatasetSettings, rois: RoiPatterns) -> None:
    """Labels are frozen within a lineage: the same integer means the same structure for ever."""
    if parent is not None and parent.labels.overlapping != (settings.mask_strategy == "regions"):
        raise ConfigError(
            f"the model in use was trained with mask_strategy {parent.mask_strategy}; regions and exclusive "
            "labels are different networks. Set it back, or begin a dataset of its own"
        )
    if parent is not None and parent.structures != rois.structures:
        raise ConfigError(
            f"the model in use knows the structures {parent.structures}, the ROI file names "
            f"{rois.structures}. Set the file back, or begin a dataset of its own for the new ones"
        )


def _free_name(paths: DatasetPaths, snapshot: DatedName) -> DatedName:
    """The snapshot's own name, or the next of its day; a folder that was never finished is free."""
    name = snapshot
    while paths.iteration(name).record.is_file():
        name = name.next()
    return name
