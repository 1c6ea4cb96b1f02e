"""When a fold stops, and that each epoch can be repeated."""

from __future__ import annotations

import errno
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from tasks.errors import IterSegError
from tasks.nnunet.fold import _taken_over
from tasks.nnunet.trainer import IterSegTrainer, TrainingChoices, is_flat, seeded


@pytest.mark.parametrize(
    ("curve", "flat"),
    [
        ([], False),
        ([0.5], False),
        ([0.5, 0.5, 0.5], False),  # as long as the patience: there is nothing before it
        ([0.5, 0.5, 0.5, 0.5], True),
        ([0.5, 0.501, 0.502, 0.503], True),
        ([0.5, 0.4, 0.52, 0.4], False),
        ([0.5, 0.6, 0.5, 0.5, 0.5], True),
        ([0.1, 0.2, 0.3, 0.4, 0.5], False),
    ],
)
def test_a_curve_is_flat_where_patience_brought_no_gain(curve: list[float], flat: bool) -> None:
    assert is_flat(curve, patience_epochs=3, min_gain=0.01) is flat


def test_an_epoch_that_is_run_again_draws_the_same_numbers() -> None:
    def drawn() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(1))

    seeded(7)
    first = drawn()
    drawn()
    seeded(7)
    assert drawn() == first
    seeded(8)
    assert drawn() != first


def test_a_fold_belongs_to_the_attempt_that_began_last(tmp_path: Path) -> None:
    """A machine that was cut off trains on, and must not write over what goes on elsewhere."""
    first = _taken_over(tmp_path)
    first()
    second = _taken_over(tmp_path)
    second()
    with pytest.raises(IterSegError, match="another attempt has taken this fold over"):
        first()


class Trainer(IterSegTrainer):
    """Of the trainer what saves, without a network."""

    def __init__(self, folder: Path) -> None:
        self.output_folder, self.current_epoch, self.full = str(folder), 0, False

    def save_checkpoint(self, filename: str) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        Path(filename).write_text(str(self.current_epoch))


def test_a_checkpoint_takes_the_place_of_the_one_before_and_a_full_disk_of_none(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path)
    latest, previous = (tmp_path / f"checkpoint_{which}.pth" for which in ("latest", "previous"))
    for epoch in (1, 2):
        trainer.current_epoch = epoch
        trainer._save_on_the_way(must=False)
    assert (latest.read_text(), previous.read_text()) == ("2", "1")
    trainer.full = True
    trainer._save_on_the_way(must=False)
    assert previous.read_text() == "2"
    trainer.full, trainer.current_epoch = False, 4
    trainer._save_on_the_way(must=False)
    assert (latest.read_text(), previous.read_text()) == ("4", "2")


def test_a_full_disk_where_a_training_stops_is_an_error(tmp_path: Path) -> None:
    """Else the night ends well, and the next one begins where this one did."""
    trainer = Trainer(tmp_path)
    trainer._save_on_the_way(must=True)
    trainer.full = True
    with pytest.raises(OSError, match="No space left"):
        trainer._save_on_the_way(must=True)
    assert (tmp_path / "checkpoint_previous.pth").read_text() == "0"


def test_an_attempt_that_lost_its_fold_moves_no_checkpoint_of_the_one_that_has_it(tmp_path: Path) -> None:
    def taken_over() -> None:
        raise IterSegError("another attempt has this fold")

    trainer: Any = IterSegTrainer.__new__(IterSegTrainer)
    trainer.output_folder, trainer.still_ours = str(tmp_path), taken_over
    (tmp_path / "checkpoint_latest.pth").write_bytes(b"the holder's")
    with pytest.raises(IterSegError, match="another attempt"):
        trainer._save_on_the_way(must=False)
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint_latest.pth"]


def untrained(*, mirrored: bool = True) -> Any:
    """Of the trainer what is chosen, without a network."""
    trainer: Any = IterSegTrainer.__new__(IterSegTrainer)
    trainer.configuration_manager = SimpleNamespace(patch_size=[32, 32, 32])
    trainer.print_to_log_file = lambda *_, **__: None
    trainer.choose(TrainingChoices(1, 1, 1, "sgd", 0.01, 300.0, mirroring=True, mirrored=mirrored))
    return trainer


@pytest.mark.parametrize(
    ("mirrored", "parent", "axes"),
    [
        (True, "none", (0, 1, 2)),
        (True, (0, 1, 2), (0, 1, 2)),
        (True, (0, 1), (0, 1)),  # nnUNetTrainer_onlyMirror01
        (True, None, None),  # nnUNetTrainerNoMirroring, which knows left from right
        (False, "none", None),
        (False, (0, 1, 2), None),
    ],
)
def test_patches_are_mirrored_as_chosen_and_no_more_than_those_of_the_parent(
    mirrored: bool, parent: Any, axes: Any
) -> None:
    trainer = untrained(mirrored=mirrored)
    if parent != "none":
        trainer._mirror_as({"inference_allowed_mirroring_axes": parent})
    *_, chosen = trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    assert (chosen, trainer.inference_allowed_mirroring_axes) == (axes, axes)


def test_a_training_that_goes_on_is_mirrored_no_more_than_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(self: Any, _: str) -> None:
        self.inference_allowed_mirroring_axes = None

    monkeypatch.setattr(nnUNetTrainer, "load_checkpoint", load)
    trainer = untrained()
    trainer.load_checkpoint("checkpoint_latest.pth")
    *_, chosen = trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    assert chosen is None


@pytest.mark.parametrize(("batch_size", "by_chance"), [(1, True), (2, False)])
def test_in_batches_of_one_a_share_of_the_patches_holds_foreground(
    monkeypatch: pytest.MonkeyPatch, batch_size: int, by_chance: bool
) -> None:
    """nnU-Net's rounding would leave it out."""

    def initialize(self: Any) -> None:
        self.batch_size, self.probabilistic_oversampling = batch_size, False

    monkeypatch.setattr(nnUNetTrainer, "initialize", initialize)
    trainer = untrained()
    trainer.initialize()
    assert trainer.probabilistic_oversampling is by_chance


def test_workers_begin_with_other_numbers_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nnUNetTrainer, "get_dataloaders", lambda _: float(torch.rand(1)))
    drawn = set()
    for _ in range(2):
        seeded(7)
        drawn.add(untrained().get_dataloaders())
    assert len(drawn) == 2
