"""``simulation_<dataset_id>.yaml``: the labs that `iterseg simulate` plays through."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, PositiveFloat, PositiveInt, ValidationError, field_validator

from tasks.errors import ConfigError
from tasks.settings.dataset import DatasetSettings, check_choices, dataset_file
from tasks.settings.yaml_model import DATASET_ID, Settings, complaints, load_yaml

NOT_ANNOTATED = "not annotated"


class Reader(Settings):
    """Who corrects the predictions."""

    kind: Literal["truth", "worst_slices", "errors"] = "truth"
    """``truth``: every slice, without a fault. ``worst_slices``: without a fault, but only those with the
    most wrong voxels; the others are marked as not annotated. ``errors``: every slice, with outlines that
    are off."""
    slices: PositiveInt = 5
    """How many ``worst_slices`` corrects in a case."""
    error_mm: PositiveFloat = 1.0
    """Standard deviation of how far an outline lies from the true one, of ``errors``."""


class Arm(Settings):
    """A way of working that is held against the others."""

    reader: Reader = Reader()
    """Who corrects."""
    start: Literal["warm", "scratch"] = "warm"
    """Whether each round goes on from the model before, or begins a lineage of its own."""
    settings: dict[str, Any] = Field(default={})
    """What differs from ``dataset_<dataset_id>.yaml``, with its keys."""


class Simulation(Settings):
    """How much is labelled when, and by whom."""

    first_batch: PositiveInt = 10
    """Patients that are drawn by hand before the first round, besides the test set."""
    budget: PositiveInt = 10
    """Cases that the reader corrects after each round."""
    rounds: PositiveInt = 5
    """Iterations, the first on the first batch alone."""
    places_key: str | None = Field(default=None, min_length=1)
    """What places follow from, besides the seed: whoever has the same one plays with the same test sets.
    Without one they follow from the dataset's own key, and nobody can tell patients by counting."""
    seeds: list[int] = Field(default=[1, 2, 3], min_length=1)
    """Each has a test set, folds and a first batch of its own, which all arms share."""
    arms: dict[str, Arm] = Field(min_length=1)
    """Name → a way of working; the first is what the others are held against."""

    @field_validator("seeds")
    @classmethod
    def _each_once(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) != len(seeds):
            raise ValueError("each seed stands once")
        return seeds

    @field_validator("arms")
    @classmethod
    def _named(cls, arms: dict[str, Arm]) -> dict[str, Arm]:
        for name in arms:
            if not DATASET_ID.fullmatch(name):
                raise ValueError(f"{name!r} cannot be the name of an arm: letters, digits, - and _ only")
        return arms


def load_simulation(config_dir: Path, dataset_id: str) -> Simulation:
    """Read the file, and see that the settings of every arm are some.

    Raises
    ------
    ConfigError
        Where the file is missing or wrong.
    """
    path = config_dir / f"simulation_{dataset_id}.yaml"
    if not path.is_file():
        raise ConfigError(
            f"{path} does not exist. Write it: `arms: {{plain: {{}}}}` is a lab with the dataset's own "
            "settings, and config/simulation_hippocampus.yaml has more"
        )
    check_choices(config_dir, dataset_id)
    simulation = load_yaml(path, Simulation)
    for name, arm in simulation.arms.items():
        try:
            DatasetSettings.model_validate(settings_of(config_dir, dataset_id, arm))
        except ValidationError as error:
            where = f"{path}: arms.{name}.settings"
            raise ConfigError(complaints(where, DatasetSettings, error)) from None
    return simulation


def settings_of(config_dir: Path, dataset_id: str, arm: Arm) -> dict[str, Any]:
    """The dataset's settings as a lab of this arm has them."""
    path = dataset_file(config_dir, dataset_id)
    own: dict[str, Any] = (yaml.safe_load(path.read_text(encoding="utf-8")) or {}) if path.is_file() else {}
    image = DatasetSettings.model_validate(own).image_modality
    # Its deliveries are whole, and nothing leaves a simulation.
    fixed: dict[str, Any] = {"modalities": [image, "SEG"], "arrival_quiet_s": 0, "send_to": [], "night": None}
    if own.get("deidentify_folders"):
        fixed["deidentify_folders"] = False  # they lie in folders, of a dataset that has been
    if arm.reader.kind == "worst_slices" or own.get("not_annotated"):
        fixed["not_annotated"] = [NOT_ANNOTATED]
    return _merged(_merged(own, fixed), arm.settings)


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """The second over the first, key by key."""
    found = dict(one)
    for key, value in other.items():
        before = found.get(key)
        both = isinstance(before, Mapping) and isinstance(value, Mapping)
        found[key] = _merged(before, value) if both else value  # type: ignore[arg-type]
    return found
