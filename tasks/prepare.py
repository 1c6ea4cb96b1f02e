"""Prepare: from snapshots to an nnU-Net dataset, computing only what is new."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from prefect import task

from tasks.cluster.attempts import a_broken_node_takes_no_more
from tasks.cluster.retries import RETRIED
from tasks.conversion import CaseToConvert
from tasks.labels import Labels
from tasks.ledger.dated import DatedName
from tasks.ledger.files import digest_of, read_json, write_json
from tasks.ledger.iterations import Iteration
from tasks.ledger.journal import Journal
from tasks.ledger.lineages import keep_plans, load_lineages, plans_of
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.store import Store, preprocessed_key
from tasks.nnunet.dataset import (
    DESCRIPTION,
    FINGERPRINT,
    TrainingCase,
    dataset_json,
    preparation_digest,
    write_preprocessed,
    write_raw,
)
from tasks.nnunet.plan import carry_plans, plan_dataset
from tasks.nnunet.preprocess import preprocess_cases
from tasks.settings.dataset import DatasetSettings, RoiPatterns


@task(task_run_name="plan", **RETRIED)
def plan_iteration(dataset_id: str, iteration: Iteration, settings: DatasetSettings) -> Iteration:
    """Write nnU-Net's raw dataset and its plans: new ones, or those of the lineage, unchanged."""
    paths = DatasetPaths.of(dataset_id)
    at = paths.iteration_named(iteration.name)
    for folder in (at.raw, at.preprocessed, at.results):
        # What an interrupted run left; the store keeps the work itself.
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    lineage = load_lineages(paths)[0][iteration.lineage]
    frozen = None if lineage.plans is None else plans_of(paths, lineage)
    description = _description(paths, iteration, None if frozen is None else read_json(frozen / DESCRIPTION))
    store = Store(paths.store)
    write_raw(at.raw, [_training_case(store, case) for case in iteration.training_cases()], description)
    plans_file = f"{iteration.plans_name}.json"
    if frozen is None:
        with a_broken_node_takes_no_more(uses_device=False):
            plan_dataset(
                environment=at.environment(),
                dataset=at.nnunet_dataset,
                planner=settings.planner,
                configuration=settings.configuration,
                overrides=settings.plan_overrides.model_dump(),
                log=paths.log(f"{iteration.name}.plan"),
            )
        names = (plans_file, DESCRIPTION, FINGERPRINT)
        keep_plans(paths, lineage, {name: read_json(at.preprocessed / name) for name in names})
    else:
        carry_plans(frozen, at.preprocessed, at.nnunet_dataset, iteration.plans_name)
        write_json(at.preprocessed / DESCRIPTION, description)
    plans, description = (read_json(at.preprocessed / name) for name in (plans_file, DESCRIPTION))
    return replace(iteration, preparation=preparation_digest(plans, iteration.configuration, description))


def _description(paths: DatasetPaths, iteration: Iteration, frozen: dict[str, Any] | None) -> dict[str, Any]:
    """``dataset.json`` of an iteration; labels and regions are those of the lineage once it has them."""
    cases = iteration.training_cases()
    keys = [] if frozen else [(case["case_id"], case["label_key"]) for case in cases]
    return dataset_json(
        iteration.modality,
        iteration.labels,
        len(cases),
        partial=iteration.partial,
        found=_integers(Store(paths.store), iteration.labels, keys),
        parent=frozen,
    )


def _integers(store: Store, labels: Labels, keys: Iterable[tuple[str, str]]) -> list[int]:
    """Which integers occur in some label maps, each of a case and a key; only regions ask for them."""
    if not labels.overlapping:  # it is a file for each case
        return []
    return sorted({value for case_id, key in keys for value in store.read_voxel_counts(case_id, key)})


def _training_case(store: Store, case: dict[str, Any]) -> TrainingCase:
    case_id = case["case_id"]
    return TrainingCase(
        case_id, store.image(case_id, case["image_key"]), store.label(case_id, case["label_key"])
    )


@task(task_run_name="preprocess-{chunk}", **RETRIED)
def preprocess(dataset_id: str, chunk: int, iteration: Iteration, cases: Sequence[dict[str, Any]]) -> None:
    """Preprocess a chunk of training cases into the store; those it has are left alone."""
    paths = DatasetPaths.of(dataset_id)
    at = paths.iteration_named(iteration.name)
    store = Store(paths.store)
    jobs = [
        {
            "image": str(_training_case(store, case).image),
            "label": str(_training_case(store, case).label),
            "folder": str(_stored(store, iteration, case)),
        }
        for case in cases
    ]
    with a_broken_node_takes_no_more(uses_device=False):
        preprocess_cases(
            jobs,
            plans=at.preprocessed / f"{iteration.plans_name}.json",
            description=at.preprocessed / DESCRIPTION,
            configuration=iteration.configuration,
            log=paths.log(f"{iteration.name}.preprocess-{chunk}"),
        )


def to_preprocess(paths: DatasetPaths, iteration: Iteration) -> tuple[list[dict[str, Any]], list[Path]]:
    """The training cases that the store has not preprocessed under these plans, and their images."""
    store = Store(paths.store)
    missing = [case for case in iteration.training_cases() if not _stored(store, iteration, case).is_dir()]
    return missing, [_training_case(store, case).image for case in missing]


def is_stored(paths: DatasetPaths, iteration: Iteration) -> bool:
    """Whether the store holds all that an iteration is made of; a backup need not hold the store."""
    store = Store(paths.store)
    converted = [
        file
        for case in iteration.cases
        for file in (
            store.image(case["case_id"], case["image_key"]),
            store.label(case["case_id"], case["label_key"]),
        )
    ]
    return all(file.is_file() for file in converted) and not to_preprocess(paths, iteration)[0]


def _stored(store: Store, iteration: Iteration, case: dict[str, Any]) -> Path:
    key = preprocessed_key(case["image_key"], case["label_key"], iteration.preparation, iteration.code)
    return store.preprocessed(case["case_id"], key)


@task(task_run_name="close-iteration", **RETRIED)
def close_iteration(dataset_id: str, iteration: Iteration) -> None:
    """Link everything where nnU-Net looks for it, and write the record last."""
    paths = DatasetPaths.of(dataset_id)
    at = paths.iteration_named(iteration.name)
    store, cases = Store(paths.store), iteration.training_cases()
    plans = read_json(at.preprocessed / f"{iteration.plans_name}.json")
    splits = [
        {
            "train": [case["case_id"] for case in cases if case["place"] != fold],
            "val": [case["case_id"] for case in cases if case["place"] == fold],
        }
        for fold in range(iteration.folds)
    ]
    write_preprocessed(
        at.preprocessed,
        plans["configurations"][iteration.configuration]["data_identifier"],
        [(_training_case(store, case), _stored(store, iteration, case)) for case in cases],
        splits,
    )
    record = {"version": 1, **asdict(iteration)}
    journal = Journal(paths.iterations)
    if not any(
        e["iteration"] == iteration.name and e["digest"] == digest_of(record) for e in journal.entries()
    ):
        journal.append({"iteration": iteration.name, "digest": digest_of(record)})
    write_json(at.record, record)


@task(task_run_name="write-converted", **RETRIED)
def write_converted(
    dataset_id: str,
    snapshot: DatedName,
    done: Sequence[CaseToConvert],
    settings: DatasetSettings,
    rois: RoiPatterns,
) -> Path:
    """``--convert-only``: nnU-Net's raw dataset of all labelled cases and nothing else.

    It lies in ``<iteration>/converted``, so that it is never taken for a prepared iteration.
    """
    paths = DatasetPaths.of(dataset_id)
    folder = paths.iteration(snapshot).root / "converted"
    shutil.rmtree(folder, ignore_errors=True)
    store = Store(paths.store)
    cases = [
        TrainingCase(
            case.case_id,
            store.image(case.case_id, case.image_key),
            store.label(case.case_id, case.label_key or ""),
        )
        for case in done
    ]
    labels = Labels(rois.structures, settings.mask_strategy)
    found = _integers(store, labels, [(case.case_id, case.label_key or "") for case in done])
    description = dataset_json(
        settings.image_modality, labels, len(cases), partial=settings.partial, found=found
    )
    write_raw(folder, cases, description)
    return folder
