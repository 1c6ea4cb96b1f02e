"""What decides what a training learns: an iteration is known again by it, and nothing else trains anew."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, reduce
from operator import getitem
from typing import Any

from tasks.ledger.files import digest_of
from tasks.ledger.iterations import Iteration
from tasks.settings.dataset import DatasetSettings, RoiPatterns

WITHOUT_EFFECT_ON_WHAT_IS_LEARNED: Any = {
    "prediction": True,
    "promotion": True,
    "planner": True,
    "plan_overrides": True,  # both count when a lineage is planned
    "surface_tolerance_mm": True,
    # What these decide shows in the cases themselves.
    "arrival_quiet_s": True,
    "deidentify_folders": True,
    "segmentation_precedence": True,
    "same_date": True,
    "released_code_only": True,
    "night": True,
    # What becomes of predictions.
    "review": True,
    "send_to": True,
    "codes": True,
    "training": {"device", "checkpoint_every_s", "augmentation_workers", "control_every"},
}
YOUNGER_THAN_ITERATIONS: dict[str, Any] = {"training.mirrored": True}
"""Key, with the sections it lies in, → its default."""


@dataclass(frozen=True)
class Inputs:
    """Everything that decides what is learned, as it is now."""

    lineage: int
    cases: list[dict[str, Any]]
    settings: DatasetSettings
    rois: RoiPatterns

    def digest(self, *, warm: bool) -> str:
        """Of a training from scratch, or of a warm one, which has epochs and a learning rate of its own."""
        return self._warm if warm else self._from_scratch

    def are_of(self, iteration: Iteration) -> bool:
        """Whether an iteration was opened with just these."""
        return iteration.digest in (self.digest(warm=iteration.parent is not None), self._all)

    @cached_property
    def _from_scratch(self) -> str:
        return self._without("epochs_fine_tune", "learning_rate_fine_tune")

    @cached_property
    def _warm(self) -> str:
        # Of a training from scratch that may race it, too: what a race is held with makes no other iteration.
        return self._without("epochs_first", "learning_rate_first")

    @cached_property
    def _all(self) -> str:
        """As iterations of version 1 have it, also of what their training did not use."""
        return digest_of({**self._cases, "settings": self._chosen()})

    def _without(self, *unused: str) -> str:
        chosen = self._chosen()
        for name in unused:
            del chosen["training"][name]
        # Which segmentations count shows in the cases themselves.
        chosen["modalities"] = self.settings.image_modality
        return digest_of({**self._cases, "settings": chosen})

    @property
    def _cases(self) -> dict[str, Any]:
        return {"lineage": self.lineage, "cases": self.cases, "structures": self.rois.structures}

    def _chosen(self) -> dict[str, Any]:
        chosen = self.settings.model_dump(mode="json", exclude=WITHOUT_EFFECT_ON_WHAT_IS_LEARNED)
        # What was opened before a setting was there was made as its default says.
        for key, default in YOUNGER_THAN_ITERATIONS.items():
            *sections, name = key.split(".")
            place = reduce(getitem, sections, chosen)
            if place[name] == default:
                del place[name]
        return chosen
