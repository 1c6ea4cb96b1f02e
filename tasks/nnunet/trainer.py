"""nnU-Net's trainer with the loop's needs: whole checkpoints, warm start with heads, progress."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch._dynamo import OptimizedModule

from tasks.errors import UserDataError
from tasks.ledger.files import whole_file
from tasks.nnunet import PLAIN_TRAINER
from tasks.nnunet.checkpoints import read_checkpoint
from tasks.processes.program import JOB_ENDS_AT, asked_to_stop, tell


@dataclass(frozen=True)
class TrainingChoices:
    """The hyper-parameters of one fold."""

    epochs: int
    iterations_per_epoch: int
    validation_iterations: int
    optimizer: str
    learning_rate: float
    checkpoint_every_s: float
    mirroring: bool
    """Whether the final validation averages over mirrored images, as predictions do."""
    patience_epochs: int | None = None
    min_gain: float = 0.0
    """Stop where the curve has gained less than this for so many epochs; None: never."""
    mirrored: bool = True
    """Whether patches are mirrored at random while it learns."""


SPARE_S = 20.0
"""For a checkpoint to reach a slow disk, and for clocks that differ."""
LONGER = 1.2
"""The next epoch or case may take so much longer than the longest of the last."""


class _CurveIsFlatError(Exception):
    """Ends nnU-Net's loop over the epochs."""


class TrainingStopped(Exception):
    """What was done is saved, after an epoch or after a validated case, to be continued elsewhere."""

    def __init__(self, validated_cases: int = 0) -> None:
        super().__init__(validated_cases)
        self.validated_cases = validated_cases


def fits(longest_s: float) -> bool:
    """Whether one step more, as long as the longest of the last, can be saved before the job is killed."""
    ends_at = os.environ.get(JOB_ENDS_AT)
    return ends_at is None or time.time() + LONGER * longest_s + SPARE_S < float(ends_at)


class IterSegTrainer(nnUNetTrainer):  # type: ignore[misc]
    """Trains one fold as nnU-Net does.

    What differs: no ``checkpoint_best``, checkpoints by time that are whole or not there, an early stop,
    AdamW and no mirroring by choice, seeds for each epoch, and an end before the job's walltime.
    """

    checkpoint_every_s = 300.0
    optimizer_name = "sgd"
    mirroring = True
    patience_epochs: int | None = None
    min_gain = 0.0
    seed = 0
    may_mirror: frozenset[int] = frozenset(range(3))
    """The axes along which patches may be mirrored: also those of the model that it goes on from."""
    still_ours: Callable[[], None] = staticmethod(lambda: None)
    """Raises where another attempt has taken this fold over; asked before each checkpoint."""
    _saved_at = 0.0

    def choose(self, choices: TrainingChoices) -> None:
        """Set the hyper-parameters, before :meth:`initialize`."""
        self.num_epochs = choices.epochs
        self.num_iterations_per_epoch = choices.iterations_per_epoch
        self.num_val_iterations_per_epoch = choices.validation_iterations
        self.initial_lr = choices.learning_rate
        self.optimizer_name = choices.optimizer
        self.checkpoint_every_s = choices.checkpoint_every_s
        self.mirroring = choices.mirroring
        self.patience_epochs = choices.patience_epochs
        self.min_gain = choices.min_gain
        if not choices.mirrored:
            self.may_mirror = frozenset()

    def initialize(self) -> None:
        """As nnU-Net; in batches of one, a third of the patches hold foreground, too.

        nnU-Net rounds the share of a batch that must, which for one patch is none.
        """
        super().initialize()
        if self.batch_size == 1:
            self.probabilistic_oversampling = True

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> tuple[Any, ...]:  # noqa: N802
        """As nnU-Net, mirrored along those axes alone that may be; None where there are none."""
        *others, axes = super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        allowed = tuple(axis for axis in axes if axis in self.may_mirror) or None
        self.inference_allowed_mirroring_axes = allowed
        return (*others, allowed)

    def get_dataloaders(self) -> tuple[Any, Any]:
        """As nnU-Net; workers begin with other random numbers each time.

        They inherit those of torch, which would be the same of each attempt and of each night.
        """
        torch.seed()
        return super().get_dataloaders()  # type: ignore[no-any-return]

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, Any]:
        """SGD as nnU-Net has it, or AdamW, which learns from few iterations."""
        if self.optimizer_name == "sgd":
            return super().configure_optimizers()  # type: ignore[no-any-return]
        optimizer = torch.optim.AdamW(
            self.network.parameters(), self.initial_lr, weight_decay=self.weight_decay
        )
        return optimizer, PolyLRScheduler(optimizer, self.initial_lr, self.num_epochs)

    def warm_start(self, checkpoint: Path) -> None:
        """Take over all weights of the parent's fold, segmentation heads included.

        nnU-Net's own ``-pretrained_weights`` drops the heads, which costs the first epochs.
        """
        parent = read_checkpoint(checkpoint)
        self._mirror_as(parent)
        try:
            _plain(self.network).load_state_dict(parent["network_weights"])
        except RuntimeError as error:
            raise UserDataError(f"{checkpoint} does not fit the plans of this iteration: {error}") from None

    def load_checkpoint(self, filename_or_checkpoint: dict[str, Any] | str) -> None:
        """As nnU-Net, and mirrored no more than it was."""
        super().load_checkpoint(filename_or_checkpoint)
        self._mirror_as({"inference_allowed_mirroring_axes": self.inference_allowed_mirroring_axes})

    def _mirror_as(self, checkpoint: Mapping[str, Any]) -> None:
        """A network that has never seen a mirrored image may know left from right, and must not forget."""
        self.may_mirror &= frozenset(checkpoint.get("inference_allowed_mirroring_axes") or ())

    @property
    def seconds_in_epochs(self) -> float:
        """The time spent in epochs, those before an interruption included."""
        begun, ended = (
            self.logger.get_value(f"epoch_{what}_timestamps", step=None) for what in ("start", "end")
        )
        return float(sum(ended)) - float(sum(begun[: len(ended)]))

    def run_training(self) -> None:
        """As nnU-Net, until the last epoch or until the curve of the validation fold is flat."""
        try:
            super().run_training()
        except _CurveIsFlatError:
            self.on_train_end()

    def on_epoch_start(self) -> None:
        """Each epoch has random numbers of its own: one that is run again is the same again.

        This holds where augmentation runs in this process; workers of their own stay random.
        """
        curve = self.logger.get_value("ema_fg_dice", step=None)
        if self.patience_epochs is not None and is_flat(curve, self.patience_epochs, self.min_gain):
            raise _CurveIsFlatError
        seeded(self.seed + self.current_epoch)
        super().on_epoch_start()

    def on_train_start(self) -> None:
        """As nnU-Net; the clock of checkpoints starts."""
        super().on_train_start()
        self._saved_at = time.monotonic()

    def plot_network_architecture(self) -> None:
        """Needs a package that no longer exists; nothing is drawn."""

    def on_epoch_end(self) -> None:
        """Tell the progress and save by the clock.

        There is no ``checkpoint_best``: it is chosen on the validation fold and must neither be
        scored there nor used (nnUNet#1205). The curve is drawn once, at the end.
        """
        self.logger.log("epoch_end_timestamps", time.time(), self.current_epoch)
        tell(
            epoch=self.current_epoch + 1,
            of=self.num_epochs,
            train_loss=self._last("train_losses"),
            validation_loss=self._last("val_losses"),
            pseudo_dice=self._last("mean_fg_dice"),
            seconds=self._last("epoch_end_timestamps") - self._last("epoch_start_timestamps"),
        )
        due = time.monotonic() - self._saved_at >= self.checkpoint_every_s
        last = self.current_epoch + 1 >= self.num_epochs
        stop = not last and (asked_to_stop() or not fits(self._longest_epoch_s()))
        if (due and not last) or stop:
            self._save_on_the_way(must=stop)
        self.current_epoch += 1
        if stop:
            raise TrainingStopped

    def _longest_epoch_s(self) -> float:
        """Of the last three."""
        begun, ended = (
            self.logger.get_value(f"epoch_{what}_timestamps", step=None)[-3:] for what in ("start", "end")
        )
        return float(max(end - start for start, end in zip(begun, ended, strict=True)))

    def _save_on_the_way(self, *, must: bool) -> None:
        """Save where the training stands; a disk that is full costs a checkpoint, not the training.

        But where it ends with this one (``must``), what was learned would be lost and nobody told.
        """
        latest, previous = (Path(self.output_folder) / f"checkpoint_{w}.pth" for w in ("latest", "previous"))
        self.still_ours()  # before anything of another attempt is renamed
        try:
            if latest.is_file():
                os.replace(latest, previous)
            self.save_checkpoint(str(latest))
        except (OSError, RuntimeError) as error:  # torch wraps what the disk says
            if must:
                raise
            print(f"no checkpoint after epoch {self.current_epoch + 1}: {error}")
        self._saved_at = time.monotonic()

    def on_train_end(self) -> None:
        """As nnU-Net, with the learning curve that its export asks for."""
        self.logger.plot_progress_png(self.output_folder)
        super().on_train_end()
        (Path(self.output_folder) / "checkpoint_previous.pth").unlink(missing_ok=True)

    def save_checkpoint(self, filename: str) -> None:
        """Write a checkpoint that is whole or not there, in nnU-Net's format."""
        self.still_ours()
        checkpoint = {
            "network_weights": _plain(self.network).state_dict(),
            "optimizer_state": self.optimizer.state_dict(),
            "grad_scaler_state": self.grad_scaler.state_dict() if self.grad_scaler else None,
            "logging": self.logger.get_checkpoint(),
            "_best_ema": self._best_ema,
            "current_epoch": self.current_epoch + 1,
            "init_args": self.my_init_kwargs,
            "trainer_name": PLAIN_TRAINER,
            "inference_allowed_mirroring_axes": self.inference_allowed_mirroring_axes,
        }
        with whole_file(Path(filename)) as temporary, temporary.open("wb") as stream:
            torch.save(checkpoint, stream)

    def _last(self, key: str) -> float:
        return float(self.logger.get_value(key, step=-1))


def _plain(network: torch.nn.Module) -> torch.nn.Module:
    inner = network._orig_mod if isinstance(network, OptimizedModule) else network
    assert isinstance(inner, torch.nn.Module)
    return inner


def seeded(seed: int) -> None:
    """Fix the random numbers of this process; workers of the augmentation stay random."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def is_flat(curve: Sequence[float], patience_epochs: int, min_gain: float) -> bool:
    """Whether the best of the last epochs is no gain on the best before them.

    Parameters
    ----------
    curve
        One value for each epoch: nnU-Net's moving average of the pseudo Dice on the validation fold.
    """
    before, recent = curve[:-patience_epochs], curve[-patience_epochs:]
    return bool(before) and max(recent) < max(before) + min_gain
