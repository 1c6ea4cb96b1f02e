"""Where everything of an iteration lies, as nnU-Net wants it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

CHECKPOINT = "checkpoint_final.pth"
"""nnU-Net's name for the weights of a fold that is finished."""
PLANS = "plans.json"
"""nnU-Net's name for the plans in a model's folder, beside the folds."""
CARD = "model_card.json"
"""Beside them: what a reader has to know of a model before they use it."""
VALIDATION_SUMMARY = Path("validation") / "summary.json"
"""In a fold's folder: the scores of the cases that are validated so far, and of which weights they are."""


def fold_folder(model_folder: Path, fold: int | str) -> Path:
    """Where nnU-Net keeps one fold of a model: checkpoints, log, and the predictions of its validation."""
    return model_folder / f"fold_{fold}"


def validation_prediction(fold: Path, case_id: str) -> Path:
    """What a fold predicted of a case that it validates on, NIfTI; in the fold's folder."""
    return fold / VALIDATION_SUMMARY.with_name(f"{case_id}.nii.gz")


@dataclass(frozen=True)
class IterationPaths:
    """The folders of one iteration, as nnU-Net wants them."""

    root: Path

    @property
    def nnunet_dataset(self) -> str:
        """nnU-Net's name for the dataset of this iteration."""
        return f"Dataset001_{self.root.name}"

    @property
    def record(self) -> Path:
        """Written last: an iteration without it is not prepared."""
        return self.root / "iteration.json"

    @property
    def raw(self) -> Path:
        """nnU-Net's raw dataset."""
        return self.root / "nnUNet_raw" / self.nnunet_dataset

    @property
    def preprocessed(self) -> Path:
        """nnU-Net's preprocessed dataset."""
        return self.root / "nnUNet_preprocessed" / self.nnunet_dataset

    @property
    def results(self) -> Path:
        """nnU-Net's results of this dataset."""
        return self.root / "nnUNet_results" / self.nnunet_dataset

    @property
    def results_of_control(self) -> Path:
        """nnU-Net's results of the training from scratch that races a warm start."""
        return self.root / "nnUNet_results_control" / self.nnunet_dataset

    def environment(self, *, control: bool = False) -> dict[str, str]:
        """The three variables by which nnU-Net finds its folders."""
        results = self.results_of_control if control else self.results
        return {
            "nnUNet_raw": str(self.raw.parent),
            "nnUNet_preprocessed": str(self.preprocessed.parent),
            "nnUNet_results": str(results.parent),
        }
