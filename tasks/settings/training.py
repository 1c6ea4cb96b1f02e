"""What a user chooses about training: the network, how long it learns, and when it is put into use."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from tasks.settings.yaml_model import Settings

Device = Literal["auto", "cpu", "cuda"]


class PlanOverrides(Settings):
    """What replaces nnU-Net's own plan when a lineage is planned. Leave it out unless you know why."""

    patch_size: tuple[PositiveInt, PositiveInt, PositiveInt] | None = None
    """Voxels of the preprocessed image along nnU-Net's axes, slices first."""
    batch_size: PositiveInt | None = None
    """Patches in a step."""
    features_per_stage: list[PositiveInt] | None = Field(default=None, min_length=3)
    """Channels of each resolution of the U-Net, the finest first; their number is that of the stages."""
    convolutions_per_stage: PositiveInt | None = None
    """In the encoder and in the decoder."""


class EarlyStop(Settings):
    """When a fold has learned what it can: its curve on the validation fold is flat."""

    patience_epochs: PositiveInt = 30
    """For so many epochs …"""
    min_gain: float = Field(default=0.005, ge=0, lt=1)
    """… the moving average of the pseudo Dice has gained less than this."""


class TrainingSettings(Settings):
    """How long and how fast a fold learns, and on what."""

    epochs_first: PositiveInt = 1000
    """From scratch."""
    epochs_fine_tune: PositiveInt = 250
    """Warm, from the same fold of the model in use; docs/simulation.md says why."""
    iterations_per_epoch: PositiveInt = 250
    """Steps in an epoch."""
    validation_iterations: PositiveInt = 50
    """Batches on which an epoch's pseudo Dice is measured."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """``sgd`` is nnU-Net's own, with Nesterov's momentum of 0.99."""
    learning_rate_first: PositiveFloat = 1e-2
    """At the first epoch from scratch; it falls to nothing by nnU-Net's polynomial."""
    learning_rate_fine_tune: PositiveFloat = 3e-3
    """At the first epoch of a warm start; docs/simulation.md says why."""
    mirrored: bool = True
    """Whether patches are mirrored at random, as nnU-Net does; false where structures differ by their side
    alone, such as left and right kidney. What goes on from a model without it never is."""
    device: Device = "auto"
    """``auto``: the GPU where there is one."""
    checkpoint_every_s: PositiveFloat = 300.0
    """What a killed training loses at most, at an epoch's end."""
    augmentation_workers: int | None = Field(default=None, ge=0)
    """Processes for each fold; left out: as many as the allocation has cores for; 0: none."""
    early_stop: EarlyStop | None = None
    """Ends a fold whose curve is flat; left out: never. The cross-validation is then a little optimistic."""
    control_every: PositiveInt | None = 10
    """Every so many iterations a training from scratch races the warm start; null: never."""


class PromotionSettings(Settings):
    """When a candidate takes the place of the model in use."""

    margin: float = Field(default=0.02, ge=0, lt=1)
    """How much mean Dice of a structure a candidate may lose."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Of the one-sided bound of a difference, which must lie above minus its margin."""
    false_alarm_margin: float = Field(default=0.1, ge=0, le=1)
    """In which share of the cases without a structure a candidate may find it, and the model in use not."""
