"""Open an iteration: every case gets its place, and the same inputs find the same iteration."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from prefect import task

from tasks.cluster.retries import RETRIED
from tasks.conversion import CaseToConvert
from tasks.errors import ConfigError, UserDataError
from tasks.inputs import Inputs
from tasks.ledger.case_book import BookedCase, book_cases
from tasks.ledger.dated import DatedName
from tasks.ledger.files import remove_scratch, remove_temporaries
from tasks.ledger.images import fingerprint
from tasks.ledger.iterations import Iteration, load_iterations
from tasks.ledger.journal import Journal
from tasks.ledger.lineages import Lineage, current_lineage, open_lineage
from tasks.ledger.models import load_models, parent_in
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.patients import TEST, PatientTable, extend_patients
from tasks.ledger.scans import load_scans, note_scans
from tasks.ledger.snapshots import note_snapshots
from tasks.ledger.store import Store
from tasks.ledger.whole import require_nothing_lost
from tasks.ledger.withdrawals import load_withdrawals
from tasks.nnunet.plan import PLANNED_ASIDE, PLANS_OF_PLANNER
from tasks.settings.dataset import DatasetSettings, RoiPatterns

FIRST = "the first iteration"
WRITTEN_IN_S = 60.0
"""What is younger may be on its way to its name."""


@task(task_run_name="book-cases", **RETRIED)
def book(dataset_id: str, snapshot: DatedName, cases: Mapping[str, BookedCase]) -> None:
    """Write into the ledger what each case is now; what killed runs left half-written is removed."""
    paths = DatasetPaths.of(dataset_id)
    for root in (paths.procdata, paths.ledger, paths.predicted):
        # Of runs that were killed; who waits for the dataset's lock, or marks a case, writes meanwhile.
        remove_temporaries(root, WRITTEN_IN_S)
    remove_scratch(paths.procdata)
    for left in paths.procdata.glob(f"{PLANNED_ASIDE}*"):
        shutil.rmtree(left, ignore_errors=True)
    note_snapshots(paths)
    book_cases(paths.cases, str(snapshot), cases)


@task(task_run_name="open-iteration", **RETRIED)
def open_iteration(
    dataset_id: str,
    snapshot: DatedName,
    done: Sequence[tuple[CaseToConvert, str]],
    settings: DatasetSettings,
    rois: RoiPatterns,
    unlabelled: Collection[str] = (),
) -> tuple[Iteration, bool]:
    """Give every case its place, and find or begin the iteration of exactly these inputs.

    Parameters
    ----------
    done
        Each converted case with its patient (keyed hash).
    unlabelled
        Patients with images that nobody has segmented.

    Returns
    -------
    The iteration, and whether it was prepared before.
    """
    paths = DatasetPaths.of(dataset_id)
    require_nothing_lost(paths)
    lineage = current_lineage(paths)
    planned = lineage is not None and lineage.plans is not None
    if lineage is not None and planned:
        _same_lineage(lineage, settings, rois)
        _same_modality(paths, lineage, settings)
    whole = _know_background(Store(paths.store), done) if settings.partial else set()
    patients = extend_patients(
        paths.patients,
        [patient for _, patient in done],
        settings.folds,
        settings.test_share,
        load_withdrawals(paths.withdrawals).patients,
        unlabelled=unlabelled,
        snapshot=str(snapshot),
        whole=whole,
    )
    cases = _placed(done, patients)
    _every_fold_validates(cases, settings.folds)
    if settings.partial:
        _every_fold_knows_background(patients, whole)
    if lineage is None or not planned:
        lineage = _opened(paths, lineage, settings, rois)
    _note_scans(paths, snapshot, cases)
    asked = _new_iteration(paths, snapshot, lineage, cases, settings, rois)
    inputs = Inputs(lineage.number, cases, settings, rois)
    existing = _opened_before(paths, inputs, asked.parent)
    return existing or asked, existing is not None


def _note_scans(paths: DatasetPaths, snapshot: DatedName, cases: Sequence[Mapping[str, Any]]) -> None:
    """Note whose voxels are learned from and tested on, before anything is.

    The first time also what earlier iterations were made of, before such notes were kept.
    """
    used, store = load_scans(paths.scans).images, Store(paths.store)
    before = [] if paths.scans.exists() else [c for one in load_iterations(paths).values() for c in one.cases]
    new = [case for case in (*before, *cases) if (case["case_id"], case["image_key"]) not in used]
    images = {case["case_id"]: store.image(case["case_id"], case["image_key"]) for case in new}
    found = {
        case["case_id"]: (case["image_key"], fingerprint(images[case["case_id"]]), case["patient"])
        for case in new
        if images[case["case_id"]].is_file()
    }
    note_scans(paths.scans, str(snapshot), found)


def _new_iteration(
    paths: DatasetPaths,
    snapshot: DatedName,
    lineage: Lineage,
    cases: list[dict[str, Any]],
    settings: DatasetSettings,
    rois: RoiPatterns,
) -> Iteration:
    parent = parent_in(paths, lineage.number)
    return Iteration(
        # A folder that was never finished is free.
        name=str(snapshot.first_free(lambda name: paths.iteration(name).record.is_file())),
        digest=Inputs(lineage.number, cases, settings, rois).digest(warm=parent is not None),
        parent=parent.model_id if parent else None,
        modality=settings.image_modality,
        structures=rois.structures,
        configuration=lineage.configuration,
        plans_name=lineage.plans_name,
        preparation="",
        folds=settings.folds,
        cases=cases,
        mask_strategy=settings.mask_strategy,
        partial=settings.partial,
        lineage=lineage.number,
        ledger=_heads(paths),
        code=f"nnunetv2-{version('nnunetv2')}",
        choices={"rois": rois.model_dump(mode="json"), "settings": settings.model_dump(mode="json")},
    )


def _opened_before(paths: DatasetPaths, inputs: Inputs, parent_id: str | None) -> Iteration | None:
    """The iteration of exactly these inputs, if there is one."""
    models = {record.model_id for record in load_models(paths)}
    for name, existing in load_iterations(paths).items():
        # After a rollback one that was prepared and not trained would start from the wrong model.
        usable = name.short in models or existing.parent == parent_id
        if usable and inputs.are_of(existing):
            return existing
    return None


def _opened(
    paths: DatasetPaths, lineage: Lineage | None, settings: DatasetSettings, rois: RoiPatterns
) -> Lineage:
    """The lineage that is about to be planned, as the user's files have it now."""
    plans_name = PLANS_OF_PLANNER[settings.planner]
    chosen = (rois.structures, settings.mask_strategy, plans_name, settings.configuration)
    if lineage is not None and lineage.base is not None:
        raise ConfigError(f"the import of {lineage.base} was interrupted; run `iterseg import` again")
    if lineage is not None and chosen == (
        lineage.structures, lineage.mask_strategy, lineage.plans_name, lineage.configuration
    ):  # fmt: skip
        return lineage
    return open_lineage(paths, lineage.why if lineage else FIRST, *chosen)


def _heads(paths: DatasetPaths) -> dict[str, str | None]:
    """Where each journal of the ledger stands: from here on it may only grow."""
    return {name: Journal(path).head() for name, path in paths.what_an_iteration_is_of.items()}


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


def _know_background(store: Store, done: Sequence[tuple[CaseToConvert, str]]) -> set[str]:
    """The patients with a label in which background is known."""
    return {
        patient
        for case, patient in done
        if case.label_key and 0 in store.read_voxel_counts(case.case_id, case.label_key)
    }


def _every_fold_knows_background(patients: PatientTable, whole: set[str]) -> None:
    """Where a structure is unlabelled nothing is background; learnt from such cases alone it is nowhere."""
    if len({patients.place[patient] for patient in whole} - {TEST}) < 2:
        raise UserDataError(
            "background is known in fewer than two folds: where a structure is `unlabelled` nothing is "
            "background. Add cases of several patients in which every structure is drawn"
        )


def _same_lineage(lineage: Lineage, settings: DatasetSettings, rois: RoiPatterns) -> None:
    """Labels and plans are frozen within a lineage: the same integer means the same for ever."""
    way_out = "Set it back, or begin a new lineage, trained from scratch: `iterseg plan --new-lineage`"
    if lineage.labels.overlapping != (settings.mask_strategy == "regions"):
        raise ConfigError(
            f"lineage {lineage.number} was begun with mask_strategy {lineage.mask_strategy}; regions and "
            f"exclusive labels are different networks. {way_out}"
        )
    if lineage.structures != rois.structures:
        raise ConfigError(
            f"lineage {lineage.number} knows the structures {lineage.structures}, the ROI file names "
            f"{rois.structures}. {way_out}"
        )
    if lineage.base is None and lineage.plans_name != PLANS_OF_PLANNER[settings.planner]:
        raise ConfigError(
            f"lineage {lineage.number} was planned by another planner ({lineage.plans_name}). {way_out}"
        )


def _same_modality(paths: DatasetPaths, lineage: Lineage, settings: DatasetSettings) -> None:
    """Plans hold how intensities are normalised: those of a CT are no MR's."""
    known = load_iterations(paths).values()
    others = {it.modality for it in known if it.lineage == lineage.number} - {settings.image_modality}
    if others:
        raise ConfigError(
            f"lineage {lineage.number} learns on {others.pop()}, and `modalities` names "
            f"{settings.image_modality}: those are two datasets. Set it back, and begin another one with "
            "`iterseg init`"
        )
