"""How far a training is: in the UI, and for whoever waits on a terminal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.logging import get_run_logger

from tasks.ledger.iterations import Contender, Iteration
from tasks.ledger.paths import DatasetPaths
from tasks.program import Message
from tasks.progress import note_epoch
from tasks.shown import artifact_key


def epochs_file(paths: DatasetPaths, iteration: Iteration, contender: Contender, fold: int) -> Path:
    """Where a training notes its epoch for whoever waits on a terminal."""
    return paths.logs / f"{iteration.name}.{contender}-{fold}.epoch"


def shown_epochs(dataset_id: str, name: str, epochs: Path) -> Callable[[Message], None]:
    """Show each epoch in the UI, and note it. A server that is away for a while does not end a training."""
    key = artifact_key(name, dataset_id)
    artifacts: list[UUID] = []

    def show(message: Message) -> None:
        if "epoch" not in message:
            return
        done = 100.0 * message["epoch"] / message["of"]
        try:
            note_epoch(epochs, message["epoch"], message["of"])
            if artifacts:
                update_progress_artifact(artifacts[0], progress=done, description=_epoch_line(message))
            else:
                made = create_progress_artifact(done, key=key, description=_epoch_line(message))
                artifacts.append(cast(UUID, made))
        except Exception as error:  # whatever the client raises, the fold goes on
            get_run_logger().warning("progress could not be shown: %s", type(error).__name__)

    return show


def _epoch_line(message: Message) -> str:
    left_s = (message["of"] - message["epoch"]) * message["seconds"]
    return (
        f"epoch {message['epoch']} of {message['of']}, loss {message['train_loss']:.3f}, "
        f"pseudo Dice {message['pseudo_dice']:.3f}, about {left_s / 60:.0f} min left"
    )
