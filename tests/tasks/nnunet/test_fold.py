"""A fold that is finished is not done again, as long as it would come out the same."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.errors import UserDataError
from tasks.ledger.files import sha256_of_file, write_json
from tasks.ledger.iteration_paths import VALIDATION_SUMMARY
from tasks.nnunet import fold
from tasks.nnunet.fold import ASKED, LATE, RESULT, STOPPED, VALIDATED, FoldJob, read_result
from tasks.processes.program import MARK, on_threads


@pytest.fixture
def job() -> FoldJob:
    choices = {"epochs": 3, "mirroring": False, "checkpoint_every_s": 60}
    return FoldJob("D", "p", "3d_fullres", 0, "cpu", choices, "d")


@pytest.mark.parametrize("where", ["training", "validation"])
def test_a_full_disk_where_a_fold_ends_is_told_as_one(
    job: FoldJob,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    where: str,
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def train() -> None:
        (tmp_path / "checkpoint_final.pth").touch()

    trainer = SimpleNamespace(
        output_folder=str(tmp_path), run_training=full if where == "training" else train, still_ours=None
    )
    monkeypatch.setattr(fold, "_trainer", lambda _: trainer)
    monkeypatch.setattr("tasks.nnunet.validation.validate_fold", full)
    with pytest.raises(SystemExit):
        fold._work(asdict(job))
    said = capsys.readouterr()
    assert '"kind": "OSError", "message": "No space left on device"' in said.out
    assert "in full" in said.err, "the log shows where"


@pytest.mark.parametrize("damaged", ["latest", "previous", "neither"])
def test_the_only_checkpoint_that_is_whole_is_not_written_over(
    job: FoldJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: str
) -> None:
    """Each save puts the latest in the place of the one before, and may be killed while it writes."""
    loaded: list[str] = []
    trainer: Any = SimpleNamespace(
        current_epoch=3,
        run_training=lambda: None,
        load_checkpoint=lambda file: loaded.append(Path(file).stem),
    )
    for name in ("latest", "previous"):
        (tmp_path / f"checkpoint_{name}.pth").write_text(name)
    broken = f"checkpoint_{damaged}.pth"
    monkeypatch.setattr(
        "tasks.nnunet.checkpoints.resumable", lambda file, _: file.is_file() and file.name != broken
    )
    assert fold._trained(trainer, job, tmp_path / "checkpoint_final.pth")
    assert loaded == ["checkpoint_previous" if damaged == "latest" else "checkpoint_latest"]
    left = sorted(file.stem for file in tmp_path.iterdir())
    assert (
        left == ["checkpoint_previous"]
        if damaged == "latest"
        else left
        == [
            "checkpoint_latest",
            "checkpoint_previous",
        ]
    )


@pytest.mark.parametrize("asked", [False, True])
def test_a_fold_that_stops_tells_how_far_it_got(
    job: FoldJob,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    asked: bool,
) -> None:
    from tasks.nnunet.trainer import TrainingStopped

    def stop(_trainer: Any, _sha256: str, *, trained_here: bool) -> None:
        raise TrainingStopped(4)

    (tmp_path / "checkpoint_final.pth").touch()
    trainer = SimpleNamespace(output_folder=str(tmp_path), current_epoch=9, still_ours=None)
    monkeypatch.setattr(fold, "_trainer", lambda _: trainer)
    monkeypatch.setattr(fold, "_trained", lambda *_: True)
    monkeypatch.setattr(fold, "asked_to_stop", lambda: asked)
    monkeypatch.setattr("tasks.nnunet.validation.validate_fold", stop)
    monkeypatch.setattr(fold, "_same_job_or_anew", lambda *_: None)
    fold._work(asdict(job))
    told = json.loads(capsys.readouterr().out.removeprefix(MARK))
    assert told == {STOPPED: 9, VALIDATED: 4, ASKED: asked}
    assert not (tmp_path / RESULT).exists()


@pytest.mark.parametrize(
    ("change", "kept"), [({}, True), ({"data": "another label"}, False), ({"device": "cuda"}, True)]
)
def test_scores_of_another_job_are_not_gone_on_with(
    job: FoldJob, tmp_path: Path, change: dict[str, Any], kept: bool
) -> None:
    """Weights may be the same where only a label of the validation has changed."""
    fold._same_job_or_anew(tmp_path, asdict(job))
    write_json(tmp_path / VALIDATION_SUMMARY, {"cases": {}})
    fold._same_job_or_anew(tmp_path, asdict(replace(job, **change)))
    assert (tmp_path / VALIDATION_SUMMARY).exists() is kept


@pytest.mark.parametrize("content", ["other weights", None])
def test_a_warm_start_takes_the_weights_that_were_recorded_and_no_others(
    tmp_path: Path, content: str | None
) -> None:
    checkpoint = tmp_path / "checkpoint_final.pth"
    checkpoint.write_text("weights")
    digest = sha256_of_file(checkpoint)
    assert fold._checked(checkpoint, digest) == checkpoint
    checkpoint.unlink() if content is None else checkpoint.write_text(content)
    with pytest.raises(UserDataError, match="is not the checkpoint that was recorded"):
        fold._checked(checkpoint, digest)


@pytest.mark.parametrize(
    ("changed", "kept"),
    [
        ({}, True),
        ({"checkpoint_every_s": 1}, True),
        ({"epochs": 4}, False),
        ({"mirroring": True}, False),  # it is validated again, the other way
    ],
)
def test_what_would_come_out_otherwise_is_done_again(
    job: FoldJob, tmp_path: Path, changed: dict[str, object], kept: bool
) -> None:
    write_json(tmp_path / "fold.json", {"job": asdict(job), "validation_dice": {}})
    now = replace(job, choices={**job.choices, **changed})
    assert (read_result(tmp_path / "fold.json", now) is not None) is kept


def test_it_computes_on_the_threads_it_is_given_whatever_its_worker_was_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Dask's workers are told to use one; torch takes the least that any of the variables says."""
    for name, count in (("OMP_NUM_THREADS", "2"), ("MKL_NUM_THREADS", "1"), ("OPENBLAS_NUM_THREADS", "1")):
        monkeypatch.setenv(name, count)
    code = "import torch; print(torch.get_num_threads())"
    found = [
        subprocess.check_output([sys.executable, "-c", code], env={**os.environ, **more}, text=True).strip()
        for more in ({}, on_threads(2))
    ]
    assert found == ["1", "2"]


@pytest.mark.parametrize(("chosen", "policy"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_wait_asleep_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, chosen: str | None, policy: str
) -> None:
    """`run.py --only busy` says what spinning costs beside one other process."""
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if chosen:
        monkeypatch.setenv("OMP_WAIT_POLICY", chosen)
    assert on_threads(2)["OMP_WAIT_POLICY"] == policy


def test_what_is_imported_early_reads_none_of_the_variables_that_come_late() -> None:
    """nnU-Net reads its folders as it is imported, and would train with those of nobody."""
    code = """
import os, sys
asked = set()
class Listening(type(os.environ)):
    def __getitem__(self, key):
        asked.add(key)
        return super().__getitem__(key)
os.environ.__class__ = Listening
from tasks.nnunet.fold import LATE, _warm_up
_warm_up()
assert "OMP_NUM_THREADS" not in LATE and "torch._dynamo" in sys.modules
print(*[m for m in sys.modules if m.split(".")[0] == "nnunetv2"], *(asked & set(LATE)))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not done.stdout.split()
    assert {"nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"} <= set(LATE)
