"""Fingerprint and plan a dataset once; later iterations carry the plans on unchanged."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tasks.errors import ConfigError
from tasks.ledger.files import read_json, whole_file, write_json
from tasks.nnunet.dataset import DESCRIPTION, FINGERPRINT
from tasks.processes.program import run_program, serve

PLANS_OF_PLANNER = {
    "ExperimentPlanner": "nnUNetPlans",
    "nnUNetPlannerResEncM": "nnUNetResEncUNetMPlans",
    "nnUNetPlannerResEncL": "nnUNetResEncUNetLPlans",
    "nnUNetPlannerResEncXL": "nnUNetResEncUNetXLPlans",
}
PLANNED_ASIDE = "iterseg-plan-"
"""What folders are called in which plans are made only to be looked at."""
FINGERPRINT_VOXELS_PER_CASE = 10**6
"""Foreground voxels drawn from a case for the intensity statistics. nnU-Net draws 1e8 for the whole
dataset with replacement, which is 9 s of drawing on a small one; a million a case fixes the 0.5 and
99.5 percentiles as well."""


def plan_dataset(
    *,
    environment: Mapping[str, str],
    dataset: str,
    planner: str,
    configuration: str,
    overrides: Mapping[str, Any],
    log: Path,
) -> None:
    """Extract the fingerprint and plan, in a program of its own.

    Writes ``dataset_fingerprint.json``, ``dataset.json`` and ``<plans>.json`` into nnU-Net's
    preprocessed folder of the dataset.

    Parameters
    ----------
    environment
        nnU-Net's three folders.
    dataset
        nnU-Net's name of the dataset.
    planner
        The name of nnU-Net's planner class.
    configuration
        The configuration that will be trained.
    overrides
        ``patch_size``, ``batch_size``, ``features_per_stage``, ``convolutions_per_stage``; those
        that are None stay as planned.
    """
    job = {
        "dataset": dataset,
        "planner": planner,
        "configuration": configuration,
        "overrides": dict(overrides),
    }
    run_program(__name__, job, log, {**environment, "nnUNet_def_n_proc": "1"})


def carry_plans(parent: Path, child: Path, dataset: str, plans_name: str) -> None:
    """Copy the plans and the fingerprint of a lineage; only the dataset's name changes."""
    plans = read_json(parent / f"{plans_name}.json")
    write_json(child / f"{plans_name}.json", {**plans, "dataset_name": dataset})
    write_json(child / FINGERPRINT, read_json(parent / FINGERPRINT))


def _work(job: dict[str, Any]) -> None:
    from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import (
        DatasetFingerprintExtractor,
    )
    from nnunetv2.experiment_planning.plan_and_preprocess_api import plan_experiments

    dataset, overrides = job["dataset"], job["overrides"]
    raw = Path(os.environ["nnUNet_raw"]) / dataset
    preprocessed = Path(os.environ["nnUNet_preprocessed"]) / dataset
    extractor = DatasetFingerprintExtractor(dataset, num_processes=1)
    cases = len(extractor.dataset)
    extractor.num_foreground_voxels_for_intensitystats = min(1e8, FINGERPRINT_VOXELS_PER_CASE * cases)
    with TemporaryDirectory(prefix=PLANNED_ASIDE) as scratch:
        set_ignored_aside(extractor.dataset, read_json(raw / DESCRIPTION)["labels"], Path(scratch))
        extractor.run(overwrite_existing=True)
    plans_name = plan_experiments([1], job["planner"])
    file = preprocessed / f"{plans_name}.json"
    plans = read_json(file)
    if job["configuration"] not in plans["configurations"]:
        raise ConfigError(
            f"nnU-Net planned no {job['configuration']} for these images, only "
            f"{', '.join(plans['configurations'])}"
        )
    apply_overrides(plans["configurations"][job["configuration"]], overrides)
    write_json(file, plans)
    with whole_file(preprocessed / DESCRIPTION) as temporary:
        temporary.write_bytes((raw / DESCRIPTION).read_bytes())


def set_ignored_aside(cases: dict[str, dict[str, Any]], labels: Mapping[str, Any], scratch: Path) -> None:
    """Point cases to label maps in which what nobody has looked at is background.

    nnU-Net counts all that is above 0 as foreground, its own ignore label too (MIC-DKFZ/nnUNet#3055): of a
    case of which half is not annotated, air and table would decide how CT is clipped and scaled.

    Parameters
    ----------
    cases
        nnU-Net's: case → ``images`` and ``label``; changed in place.
    labels
        Those of ``dataset.json``; without ``ignore`` nothing is done.
    """
    import numpy as np
    import SimpleITK as sitk

    ignore = labels.get("ignore")
    if ignore is None:
        return
    for name, case in cases.items():
        image = sitk.ReadImage(case["label"])
        voxels = sitk.GetArrayFromImage(image)
        ignored = voxels == ignore
        if not ignored.any():
            continue
        known = sitk.GetImageFromArray(np.where(ignored, 0, voxels).astype(voxels.dtype))
        known.CopyInformation(image)
        case["label"] = str(scratch / f"{name}{Path(case['label']).name.removeprefix(name)}")
        sitk.WriteImage(known, case["label"])


def apply_overrides(configuration: dict[str, Any], overrides: Mapping[str, Any]) -> None:
    """Change a planned configuration in place; pooling and kernels follow patch and depth."""
    from nnunetv2.experiment_planning.experiment_planners.network_topology import (
        get_pool_and_conv_props,
    )

    chosen = {key: value for key, value in overrides.items() if value is not None}
    if "batch_size" in chosen:
        configuration["batch_size"] = chosen["batch_size"]
    if not chosen.keys() & {"patch_size", "features_per_stage", "convolutions_per_stage"}:
        return
    architecture = configuration["architecture"]["arch_kwargs"]
    features = chosen.get("features_per_stage", architecture["features_per_stage"])
    patch = chosen.get("patch_size", configuration["patch_size"])
    spacing = configuration["spacing"]
    _, strides, kernels, patch, _ = get_pool_and_conv_props(spacing, patch, 4, len(features) - 1)
    stages = len(strides)
    if stages < len(features) and "features_per_stage" in chosen:
        raise ConfigError(
            f"plan_overrides: a patch of {list(patch)} can be halved {stages - 1} times and has "
            f"room for {stages} stages; features_per_stage names {len(features)}"
        )
    # Axes of uneven spacing are halved at different depths, which makes more stages than were chosen.
    stages = min(stages, len(features))
    configuration["patch_size"] = [int(size) for size in patch]
    architecture["n_stages"] = stages
    architecture["features_per_stage"] = [int(count) for count in features[:stages]]
    architecture["strides"] = [[int(s) for s in stride] for stride in strides[:stages]]
    architecture["kernel_sizes"] = [[int(k) for k in kernel] for kernel in kernels[:stages]]
    for key, length in (
        ("n_conv_per_stage", stages),
        ("n_blocks_per_stage", stages),
        ("n_conv_per_stage_decoder", stages - 1),
    ):
        if key in architecture:
            count = chosen.get("convolutions_per_stage")
            planned = list(architecture[key])
            planned += planned[-1:] * (length - len(planned))  # more stages than were planned
            architecture[key] = [count] * length if count else planned[:length]


if __name__ == "__main__":
    serve(_work)
