"""Plan: how far the data have moved from the frozen plans, and the decision to plan anew."""

from __future__ import annotations

import tempfile
from datetime import date
from pathlib import Path
from typing import Any

from prefect import task

from tasks.cluster.retries import RETRIED
from tasks.errors import UserDataError
from tasks.ledger.files import read_json, write_json
from tasks.ledger.iterations import Iteration, newest_iteration
from tasks.ledger.lineages import Lineage, current_lineage, open_lineage, plans_of
from tasks.ledger.paths import DatasetPaths
from tasks.nnunet.drift import compare_plans
from tasks.nnunet.plan import PLANNED_ASIDE, PLANS_OF_PLANNER, plan_dataset
from tasks.settings.dataset import DatasetSettings, RoiPatterns


@task(task_run_name="measure-drift", **RETRIED)
def measure_drift(dataset_id: str, settings: DatasetSettings) -> dict[str, Any]:
    """Plan the newest iteration's cases as if for the first time, and compare with the frozen plans.

    Returns
    -------
    ``lineage``, ``iteration``, ``cases`` (how many there are today), ``rows``
    (:func:`tasks.nnunet.drift.compare_plans`), ``worth_it``, and ``measured`` (when).
    """
    paths = DatasetPaths.of(dataset_id)
    lineage = current_lineage(paths)
    if lineage is None or lineage.plans is None:
        raise UserDataError(f"{dataset_id} has no plans yet. Run `iterseg prepare {dataset_id}`")
    iteration = newest_iteration(paths, lineage=lineage.number)
    frozen = read_json(plans_of(paths, lineage) / f"{lineage.plans_name}.json")
    today = _planned_today(paths, iteration, settings)
    rows = compare_plans(frozen, today, lineage.configuration)
    report = {
        "lineage": lineage.number,
        "iteration": iteration.name,
        "measured": str(date.today()),
        "cases": len(iteration.training_cases()),
        "rows": rows,
        "worth_it": any(row["matters"] for row in rows),
    }
    write_json(paths.drift, {"version": 1, **report})
    return report


def _planned_today(paths: DatasetPaths, iteration: Iteration, settings: DatasetSettings) -> dict[str, Any]:
    """Plans of exactly these cases, made in a folder that is thrown away."""
    at = paths.iteration_named(iteration.name)
    with tempfile.TemporaryDirectory(prefix=PLANNED_ASIDE, dir=paths.procdata) as folder:
        (Path(folder) / at.nnunet_dataset).mkdir()
        environment = {**at.environment(), "nnUNet_preprocessed": folder}
        plan_dataset(
            environment=environment,
            dataset=at.nnunet_dataset,
            planner=settings.planner,
            configuration=settings.configuration,
            overrides=settings.plan_overrides.model_dump(),
            log=paths.log(f"{iteration.name}.drift"),
        )
        name = PLANS_OF_PLANNER[settings.planner]
        plans: dict[str, Any] = read_json(Path(folder) / at.nnunet_dataset / f"{name}.json")
    return plans


@task(task_run_name="open-lineage", **RETRIED)
def open_new_lineage(dataset_id: str, settings: DatasetSettings, rois: RoiPatterns, why: str) -> Lineage:
    """Decide that the next iteration plans anew and trains from scratch; the model in use stays."""
    return open_lineage(
        DatasetPaths.of(dataset_id),
        why,
        rois.structures,
        settings.mask_strategy,
        PLANS_OF_PLANNER[settings.planner],
        settings.configuration,
    )
