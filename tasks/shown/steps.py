"""How far a task is that takes hours: in the UI, and for whoever waits on a terminal."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tasks.ledger.iterations import Iteration
from tasks.ledger.paths import DatasetPaths
from tasks.processes.program import Message
from tasks.shown.artifacts import artifact_key, progress_artifact
from tasks.shown.progress import Step, note_step


def steps_file(paths: DatasetPaths, iteration: Iteration, name: str) -> Path:
    """Where a task notes how far it is for whoever waits on a terminal; ``name`` is the task's."""
    return paths.logs / f"{iteration.name}.{name}.steps"


def shown_steps(dataset_id: str, name: str, file: Path) -> Callable[[Message], None]:
    """What hears of each step, and shows it; what an earlier attempt noted is gone.

    A message of a step has ``epoch``, ``validated`` or ``scored``, the number of those that are done, ``of``,
    how many there will be, and ``seconds``, what the last one took. Other messages are passed over.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    show = progress_artifact(artifact_key(name, dataset_id))

    def hear(message: Message) -> None:
        step: Step | None = next((step for step in _LINES if step in message), None)
        if step is None:
            return
        done, of = message[step], message["of"]
        with suppress(OSError):  # a full disk must not end what is only told
            note_step(file, step, done, of)
        left_s = (of - done) * message["seconds"]
        show(100.0 * done / of, f"{_LINES[step](message)}, about {left_s / 60:.0f} min left")

    return hear


def _epoch_line(message: Message) -> str:
    return (
        f"epoch {message['epoch']} of {message['of']}, loss {message['train_loss']:.3f}, "
        f"pseudo Dice {message['pseudo_dice']:.3f}"
    )


_LINES: dict[Step, Callable[[Message], str]] = {
    "epoch": _epoch_line,
    "validated": lambda message: f"trained; validated on {message['validated']} of {message['of']} cases",
    "scored": lambda message: f"scored on {message['scored']} of {message['of']} cases",
}
