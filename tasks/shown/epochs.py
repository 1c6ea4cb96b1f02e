"""How far a training is: in the UI, and for whoever waits on a terminal."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tasks.ledger.iterations import Contender, Iteration
from tasks.ledger.paths import DatasetPaths
from tasks.processes.program import Message
from tasks.shown.artifacts import artifact_key, progress_artifact
from tasks.shown.progress import note_epoch


def epochs_file(paths: DatasetPaths, iteration: Iteration, contender: Contender, fold: int) -> Path:
    """Where a training notes its epoch for whoever waits on a terminal."""
    return paths.logs / f"{iteration.name}.{contender}-{fold}.epoch"


def shown_epochs(dataset_id: str, name: str, epochs: Path) -> Callable[[Message], None]:
    """Show each epoch in the UI, and note it."""
    show = progress_artifact(artifact_key(name, dataset_id))

    def hear(message: Message) -> None:
        if "epoch" in message:
            with suppress(OSError):  # nothing but a bar reads it
                note_epoch(epochs, message["epoch"], message["of"])
            show(100.0 * message["epoch"] / message["of"], _epoch_line(message))

    return hear


def _epoch_line(message: Message) -> str:
    left_s = (message["of"] - message["epoch"]) * message["seconds"]
    return (
        f"epoch {message['epoch']} of {message['of']}, loss {message['train_loss']:.3f}, "
        f"pseudo Dice {message['pseudo_dice']:.3f}, about {left_s / 60:.0f} min left"
    )
