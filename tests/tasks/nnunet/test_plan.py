"""Overrides change what they name, and pooling follows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from tasks.errors import ConfigError
from tasks.labels import Labels
from tasks.nnunet.dataset import dataset_json, preparation_digest
from tasks.nnunet.plan import apply_overrides, set_ignored_aside


def planned() -> dict[str, Any]:
    return {
        "batch_size": 2,
        "patch_size": [128, 128, 128],
        "spacing": [1.0, 1.0, 1.0],
        "architecture": {
            "arch_kwargs": {
                "n_stages": 6,
                "features_per_stage": [32, 64, 128, 256, 320, 320],
                "strides": [[1, 1, 1]] + [[2, 2, 2]] * 5,
                "kernel_sizes": [[3, 3, 3]] * 6,
                "n_conv_per_stage": [2] * 6,
                "n_conv_per_stage_decoder": [2] * 5,
            }
        },
    }


def test_nothing_chosen_changes_nothing() -> None:
    configuration = planned()
    apply_overrides(configuration, {"patch_size": None, "batch_size": None})
    assert configuration == planned()


def test_a_batch_size_changes_only_the_batch() -> None:
    configuration = planned()
    apply_overrides(configuration, {"batch_size": 4})
    assert configuration == {**planned(), "batch_size": 4}


def test_a_small_network_has_pooling_that_fits_its_patch() -> None:
    configuration = planned()
    chosen = {"patch_size": [24, 48, 48], "features_per_stage": [8, 16, 32], "convolutions_per_stage": 1}
    apply_overrides(configuration, chosen)
    kwargs = configuration["architecture"]["arch_kwargs"]
    assert configuration["patch_size"] == [24, 48, 48]
    assert kwargs["n_stages"] == 3
    assert kwargs["strides"] == [[1, 1, 1], [2, 2, 2], [2, 2, 2]]
    assert (kwargs["n_conv_per_stage"], kwargs["n_conv_per_stage_decoder"]) == ([1, 1, 1], [1, 1])


def test_slices_far_apart_do_not_make_the_network_deeper_than_was_chosen() -> None:
    configuration = {**planned(), "spacing": [2.5, 0.9, 0.9]}
    apply_overrides(configuration, {"patch_size": [32, 64, 64], "features_per_stage": [8, 16, 32]})
    kwargs = configuration["architecture"]["arch_kwargs"]
    assert kwargs["n_stages"] == 3
    assert [len(kwargs[key]) for key in ("strides", "kernel_sizes", "features_per_stage")] == [3, 3, 3]


def test_more_stages_than_were_planned_have_as_many_convolutions_as_the_last() -> None:
    configuration = planned()
    arch = configuration["architecture"]["arch_kwargs"]
    arch |= {"n_stages": 3, "n_conv_per_stage": [2, 2, 3], "n_conv_per_stage_decoder": [2, 2]}
    apply_overrides(configuration, {"patch_size": [64, 64, 64], "features_per_stage": [8, 16, 32, 64]})
    assert (arch["n_stages"], arch["n_conv_per_stage"], arch["n_conv_per_stage_decoder"]) == (
        4, [2, 2, 3, 3], [2, 2, 2],
    )  # fmt: skip


def test_more_stages_than_the_patch_has_room_for_are_refused() -> None:
    with pytest.raises(ConfigError, match="features_per_stage names 6"):
        apply_overrides(planned(), {"patch_size": [8, 8, 8], "features_per_stage": [8] * 6})


def test_plans_are_frozen_by_a_digest_that_names_and_counts_do_not_change() -> None:
    plans = {"dataset_name": "Dataset001_a", "plans_name": "p", "configurations": {"3d_fullres": planned()}}
    few, many = (dataset_json("CT", Labels(["GTV"], "label_image"), count) for count in (5, 50))
    digest = preparation_digest(plans, "3d_fullres", few)
    assert preparation_digest({**plans, "dataset_name": "Dataset001_b"}, "3d_fullres", many) == digest
    assert (
        preparation_digest(plans, "3d_fullres", dataset_json("CT", Labels(["PTV"], "label_image"), 5))
        != digest
    )
    changed = {**plans, "configurations": {"3d_fullres": {**planned(), "spacing": [2.0, 1.0, 1.0]}}}
    assert preparation_digest(changed, "3d_fullres", few) != digest


def test_what_nobody_has_looked_at_is_no_foreground_of_the_fingerprint(tmp_path: Path) -> None:
    """Else air and table decide how CT is clipped and scaled, for the whole lineage."""
    cases: dict[str, dict[str, Any]] = {}
    for name, values in {"partial": [0, 1, 2, 2], "complete": [0, 1, 1, 0]}.items():
        image = sitk.GetImageFromArray(np.array(values, np.uint8).reshape(1, 2, 2))
        image.SetSpacing((0.5, 0.7, 3.0))
        file = tmp_path / f"{name}.nii.gz"
        sitk.WriteImage(image, str(file))
        cases[name] = {"images": [f"{name}_0000.nii.gz"], "label": str(file)}
    before = {name: dict(case) for name, case in cases.items()}
    (tmp_path / "scratch").mkdir()
    set_ignored_aside(cases, {"background": 0, "GTV": 1}, tmp_path / "scratch")
    assert cases == before
    set_ignored_aside(cases, {"background": 0, "GTV": 1, "ignore": 2}, tmp_path / "scratch")
    assert cases["complete"] == before["complete"]
    known = sitk.ReadImage(cases["partial"]["label"])
    assert sitk.GetArrayFromImage(known).ravel().tolist() == [0, 1, 0, 0]
    assert known.GetSpacing() == pytest.approx((0.5, 0.7, 3.0))
    assert sitk.GetArrayFromImage(sitk.ReadImage(before["partial"]["label"])).ravel().tolist() == [0, 1, 2, 2]
