"""Train one fold and score it on its own validation cases, in a program of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from tasks.errors import IterSegError, UserDataError
from tasks.ledger.files import read_json, sha256_of_file, write_json, write_text
from tasks.ledger.iteration_paths import CHECKPOINT, VALIDATION_SUMMARY, fold_folder
from tasks.nnunet.dataset import DESCRIPTION
from tasks.processes.program import (
    JOB_ENDS_AT,
    Message,
    asked_to_stop,
    fail_for_the_disk,
    on_threads,
    run_program,
    serve,
    started_early,
    tell,
)

if TYPE_CHECKING:  # torch takes seconds to import
    from tasks.nnunet.trainer import IterSegTrainer

RESULT = "fold.json"
HOLDER = "holder"
"""The file that names the attempt a fold belongs to: the last one that began."""
STOPPED = "stopped_at_epoch"
VALIDATED = "validated_cases"
ASKED = "asked"
SEEDS_APART = 100_000
"""More than any training has epochs, so that no two folds share an epoch's random numbers."""


LATE = (
    *("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results", "nnUNet_def_n_proc", "nnUNet_n_proc_DA"),
    *("CUDA_VISIBLE_DEVICES", JOB_ENDS_AT),
)
"""Variables that the program reads only when it has its job."""


@dataclass(frozen=True)
class FoldJob:
    """Everything that decides a fold's training.

    ``warm_start`` is the parent's checkpoint with its hash, None for a training from scratch. ``choices`` are
    those of :class:`tasks.nnunet.trainer.TrainingChoices`. ``data`` is the digest of what it learns
    from, so that a finished fold is recognised.
    """

    dataset: str
    plans_name: str
    configuration: str
    fold: int
    device: str
    choices: dict[str, Any]
    data: str
    warm_start: str | None = None
    warm_start_sha256: str | None = None
    seed: int = 12345


def trained_model_folder(results: Path, plans_name: str, configuration: str) -> Path:
    """nnU-Net's folder of a trained model."""
    return results / f"IterSegTrainer__{plans_name}__{configuration}"


def train_fold(
    job: FoldJob,
    environment: Mapping[str, str],
    model_folder: Path,
    log: Path,
    on_message: Callable[[Message], None] = lambda _: None,
) -> dict[str, Any]:
    """Train a fold to its end, from wherever it stands.

    A fold that was finished by the same job is not trained again; one that was interrupted goes on
    from its last checkpoint.

    Returns
    -------
    ``checkpoint_sha256``, ``epochs`` and ``training_s`` (over all attempts), ``validation_dice``
    (structure → mean Dice or None) and ``cases`` (each validation case's Dice). Of a fold that was told
    to stop, ``stopped_at_epoch`` and ``validated_cases``, and whether it was ``asked`` to, before any limit.
    """
    result_file = fold_folder(model_folder, job.fold) / RESULT
    result = read_result(result_file, job)
    stopped: dict[str, Any] = {}

    def listen(message: Message) -> None:
        if STOPPED in message:
            stopped.update(message)
        on_message(message)

    if result is None:
        run_program(__name__, asdict(job), log, environment, listen)
        result = read_result(result_file, job) or stopped
        assert result, "the program ended well and wrote no result"
    return result


def imported_early(threads: int) -> AbstractContextManager[None]:
    """Let the program import torch before its job is known.

    See :func:`tasks.processes.program.started_early`.
    """
    return started_early(__name__, on_threads(threads), LATE)


def read_result(file: Path, job: FoldJob) -> dict[str, Any] | None:
    """The result of a finished fold, None where this very job has none."""
    if not file.is_file():
        return None
    content: dict[str, Any] = read_json(file)
    before, now = content["job"], asdict(job)
    # Mirroring changes nothing of what was learned, but the scores: the fold is validated again.
    scored_alike = before["choices"].get("mirroring") == now["choices"].get("mirroring")
    return content if scored_alike and _same(before, now) else None


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two jobs learn the same; where they run, save how often and score how does not count."""

    def kept(job: dict[str, Any]) -> dict[str, Any]:
        choices = {k: v for k, v in job["choices"].items() if k not in ("checkpoint_every_s", "mirroring")}
        return {k: v for k, v in job.items() if k not in ("device", "warm_start")} | {"choices": choices}

    return kept(one) == kept(other)


def _work(content: dict[str, Any]) -> None:
    from tasks.nnunet.trainer import TrainingStopped
    from tasks.nnunet.validation import validate_fold

    job = FoldJob(**content)
    trainer = _trainer(job)
    folder = Path(trainer.output_folder)
    trainer.still_ours = _taken_over(folder)
    _same_job_or_anew(folder, content)
    try:
        trained_here = _trained(trainer, job, folder / CHECKPOINT)
        checkpoint_sha256 = sha256_of_file(folder / CHECKPOINT)
        scores = validate_fold(trainer, checkpoint_sha256, trained_here=trained_here)
    except OSError as error:
        fail_for_the_disk(error)
    except TrainingStopped as stopped:
        epoch, cases = trainer.current_epoch, stopped.validated_cases
        tell(**{STOPPED: epoch, VALIDATED: cases, ASKED: asked_to_stop()})
        return
    trainer.still_ours()
    write_json(
        folder / RESULT,
        {
            "job": content,
            "checkpoint_sha256": checkpoint_sha256,
            "epochs": trainer.current_epoch,
            "training_s": round(trainer.seconds_in_epochs, 1),
            **scores,
        },
    )


def _trainer(job: FoldJob) -> IterSegTrainer:
    import torch
    from nnunetv2.paths import nnUNet_preprocessed

    from tasks.nnunet.devices import device_to_train_on
    from tasks.nnunet.trainer import IterSegTrainer, TrainingChoices, seeded

    seed = SEEDS_APART * (job.seed + job.fold)
    seeded(seed)
    preprocessed = Path(str(nnUNet_preprocessed)) / job.dataset
    plans = {**read_json(preprocessed / f"{job.plans_name}.json"), "continue_training": False}
    trainer = IterSegTrainer(
        plans,
        job.configuration,
        job.fold,
        read_json(preprocessed / DESCRIPTION),
        torch.device(device_to_train_on(job.device)),
    )
    trainer.choose(TrainingChoices(**job.choices))
    trainer.seed = seed
    trainer.initialize()
    return trainer


def _trained(trainer: IterSegTrainer, job: FoldJob, final: Path) -> bool:
    """Train from where the fold stands to its end; False where it was there already."""
    from tasks.nnunet.checkpoints import resumable

    if resumable(final, print):
        trainer.load_checkpoint(str(final))
        return False
    latest, previous = (final.with_name(f"checkpoint_{which}.pth") for which in ("latest", "previous"))
    saved = _last_saved(latest, previous)
    if saved == previous:
        # A damaged one: the next save would put it in the place of the only one that is whole.
        latest.unlink(missing_ok=True)
    if saved is not None:
        trainer.load_checkpoint(str(saved))
        tell(resumed_at=trainer.current_epoch)
    elif job.warm_start is not None:
        trainer.warm_start(_checked(Path(job.warm_start), job.warm_start_sha256))
    trainer.run_training()
    return True


def _last_saved(latest: Path, previous: Path) -> Path | None:
    """The newest checkpoint that can be read."""
    from tasks.nnunet.checkpoints import resumable

    try:
        if resumable(latest, print):
            return latest
    except OSError as error:
        if not resumable(previous, print):
            raise
        print(f"{latest} cannot be read ({error.strerror}); the one before it can")  # a bad sector stays
        return previous
    return previous if resumable(previous, print) else None


def _taken_over(folder: Path) -> Callable[[], None]:
    """Take a fold over from whoever had it; returns the question whether it is still ours.

    A machine that is cut off from the others may train on while the fold goes on elsewhere. It can no
    longer write a checkpoint then.
    """
    me = uuid4().hex
    write_text(folder / HOLDER, me)

    def still_ours() -> None:
        if (folder / HOLDER).read_text(encoding="utf-8") != me:
            raise IterSegError("another attempt has taken this fold over; this one ends")

    return still_ours


def _checked(checkpoint: Path, sha256: str | None) -> Path:
    if not checkpoint.is_file() or sha256_of_file(checkpoint) != sha256:
        raise UserDataError(
            f"{checkpoint} is not the checkpoint that was recorded; restore the parent model from the backup"
        )
    return checkpoint


def _same_job_or_anew(folder: Path, content: dict[str, Any]) -> None:
    """Checkpoints of another job (other data, other choices) are no place to resume from."""
    marker = folder / "job.json"
    if not marker.is_file() or not _same(read_json(marker), content):
        for checkpoint in folder.glob("checkpoint_*.pth"):
            checkpoint.unlink()
        for scores in (RESULT, VALIDATION_SUMMARY):
            (folder / scores).unlink(missing_ok=True)
        write_json(marker, content)


def _warm_up() -> None:
    """Import what nnU-Net's trainer does, but not nnU-Net: it reads its variables as it is imported."""
    for name in (
        "torch._dynamo",
        "dynamic_network_architectures",
        "nibabel",
        "seaborn",
        "skimage.morphology",
    ):
        import_module(name)


if __name__ == "__main__":
    serve(_work, _warm_up)
