"""When new plans are worth a training from scratch."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from tasks.nnunet.drift import compare_plans

ARCHITECTURE = {"n_stages": 3, "features_per_stage": [8, 16, 32], "strides": [[1, 1, 1]] * 3}
PLANS: dict[str, Any] = {
    "configurations": {
        "3d_fullres": {
            "spacing": [3.0, 1.0, 1.0],
            "patch_size": [32, 64, 64],
            "batch_size": 2,
            "normalization_schemes": ["CTNormalization"],
            "architecture": {"arch_kwargs": ARCHITECTURE},
        }
    },
    "foreground_intensity_properties_per_channel": {
        "0": {"mean": 40.0, "std": 20.0, "percentile_00_5": -30.0, "percentile_99_5": 110.0}
    },
}


def changed(change: Callable[[dict[str, Any], dict[str, Any]], Any]) -> dict[str, Any]:
    plans = deepcopy(PLANS)
    change(plans["configurations"]["3d_fullres"], plans["foreground_intensity_properties_per_channel"]["0"])
    return plans


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda c, i: None, None),
        (lambda c, i: c.update(spacing=[3.3, 1.0, 1.0]), None),
        (lambda c, i: c.update(spacing=[3.6, 1.0, 1.0]), "target spacing"),
        (lambda c, i: c.update(spacing=[3.0, 0.8, 0.8]), "target spacing"),
        (lambda c, i: c.update(patch_size=[32, 72, 64]), None),
        (lambda c, i: c.update(patch_size=[48, 64, 64]), "patch, voxels"),
        (lambda c, i: c.update(batch_size=3), None),
        (lambda c, i: c.update(batch_size=4), "batch"),
        (lambda c, i: c["architecture"]["arch_kwargs"].update(n_stages=4), "network"),
        (lambda c, i: i.update(mean=43.0), None),
        (lambda c, i: i.update(mean=46.0), "mean"),
        (lambda c, i: i.update(percentile_99_5=120.0), "upper clip"),
        (lambda c, i: (c.update(normalization_schemes=["ZScoreNormalization"]), i.update(mean=0.0)), "mean"),
    ],
)
def test_what_matters_is_beyond_its_limit(change: Callable[..., Any], what: str | None) -> None:
    rows = compare_plans(PLANS, changed(change), "3d_fullres")
    assert [row["what"] for row in rows if row["matters"]] == [
        row["what"] for row in rows if what is not None and what in row["what"]
    ]


def test_without_windowing_intensities_are_no_reason() -> None:
    mr = changed(lambda c, i: c.update(normalization_schemes=["ZScoreNormalization"]))
    rows = compare_plans(mr, mr, "3d_fullres")
    assert [row["what"].split(",")[0] for row in rows] == ["target spacing", "patch", "batch", "network"]


def test_a_batch_is_a_number() -> None:
    rows = compare_plans(PLANS, changed(lambda c, i: c.update(batch_size=4)), "3d_fullres")
    (row,) = (row for row in rows if row["what"].startswith("batch"))
    assert (row["frozen"], row["today"], row["change"]) == (2, 4, 1.0)
