"""Whatever happens to a job, a node or the flow, the same model comes out, and the UI tells the truth."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from private_slurm import node_of
from slurm_lab import SlurmLab
from small_disk import small_disk
from tests_support import PrefectServer, wait_until

AWAY_S = 120
pytestmark = pytest.mark.slurm
Weights = dict[str, np.ndarray[Any, Any]]


def assert_equal(found: Weights, expected: Weights) -> None:
    assert found.keys() == expected.keys()
    for name, weights in expected.items():
        np.testing.assert_array_equal(found[name], weights, err_msg=name)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, prepared: SlurmLab) -> SlurmLab:
    """A training that nothing happened to."""
    lab = prepared.copy(tmp_path_factory.mktemp("undisturbed") / "home")
    done = lab.run("train")
    assert done.returncode == 0, done.stderr
    lab.assert_all_is_well(attempts=2, lost=0)
    return lab


@pytest.fixture(scope="session")
def undisturbed(trained: SlurmLab) -> Weights:
    return trained.weights()


def scancel(lab: SlurmLab) -> None:
    lab.slurm.call("scancel", lab.slurm.jobs("RUNNING")[0])


def kill_a_worker(lab: SlurmLab) -> None:
    lab.workers()[0].kill()


def kill_a_training(lab: SlurmLab) -> None:
    lab.folds_that_run()[0].kill()


def power_off_a_node(lab: SlurmLab) -> None:
    lab.slurm.kill_node("node1")


def kill_slurmd(lab: SlurmLab) -> None:
    """The node is down for Slurm, and what runs on it does not know."""
    lab.slurm.kill_daemon("node1")


def preempt(lab: SlurmLab) -> None:
    """Somebody's urgent job wants a whole node for a few seconds."""
    lab.slurm.call(
        "sbatch", "--partition=urgent", "--cpus-per-task=4", "--output=/dev/null", "--wrap=sleep 5"
    )


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "harm", [scancel, kill_a_worker, kill_a_training, power_off_a_node, kill_slurmd, preempt]
)
def test_a_fold_goes_on_elsewhere(
    lab: SlurmLab, undisturbed: Weights, harm: Callable[[SlurmLab], None]
) -> None:
    run = lab.start("train")
    lab.until_it_trains()
    harm(lab)
    assert run.wait(200) == 0, lab.said()
    if harm is kill_slurmd:
        # Only a node's own daemon can say that a job has ended there.
        lab.slurm.start_node("node1")
    lab.assert_all_is_well(attempts=3, lost=0 if harm is kill_slurmd else 1)
    assert_equal(lab.weights(), undisturbed)


@pytest.mark.timeout(900)
def test_a_broken_node_costs_an_attempt_and_not_the_night(
    lab: SlurmLab, undisturbed: Weights, tmp_path: Path
) -> None:
    """It fails in seconds what it is given, and is idle again for whatever waits."""
    broken = tmp_path / "nnunetv2" / "__init__.py"
    broken.parent.mkdir()
    broken.write_text("raise RuntimeError('the GPU has fallen off the bus')\n")
    lab.cluster(prologue=[f'[ "$SLURMD_NODENAME" != node1 ] || export PYTHONPATH="{tmp_path}:$PYTHONPATH"'])
    done = lab.run("run")  # the image that waits is predicted, too
    assert done.returncode == 0, done.stderr
    assert_equal(lab.weights(), undisturbed)
    failed = sorted(name for name, state in lab.runs() if state == "FAILED")
    assert len(failed) == 2 and failed[1] == "predict-1", lab.runs()
    assert lab.runs_of_folds("FAILED") == 1
    assert lab.runs_of_folds("COMPLETED") == 2
    lab.assert_all_is_well(attempts=2)


@pytest.mark.timeout(900)
def test_datasets_share_a_cluster_and_do_not_mix(
    lab: SlurmLab, prepared: SlurmLab, tmp_path: Path, undisturbed: Weights
) -> None:
    """Four folds of two labs on two GPUs: each waits its turn."""
    other = prepared.copy(tmp_path / "other")
    runs = [lab.start("train"), other.start("train")]
    try:
        assert [run.wait(280) for run in runs] == [0, 0], lab.said() + other.said()
        for one in (lab, other):
            assert_equal(one.weights(), undisturbed)
            one.assert_all_is_well(attempts=2)
    finally:
        other.end()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("command", ["train", "run"])
def test_a_killed_flow_is_fenced_and_its_folds_go_on(
    lab: SlurmLab, undisturbed: Weights, command: str
) -> None:
    run = lab.start(command)
    lab.until_it_trains()
    run.kill()
    run.wait()
    done = lab.run(command)
    assert done.returncode == 0, done.stderr
    # A fold may end in the seconds before its worker notices that the flow is gone.
    lab.assert_all_is_well(attempts=4)
    assert_equal(lab.weights(), undisturbed)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_flow_that_is_told_to_end_leaves_no_job(lab: SlurmLab, number: int) -> None:
    run = lab.start("train")
    lab.until_it_trains()
    run.send_signal(number)
    assert run.wait(60) != 0
    wait_until(lambda: not lab.slurm.jobs(), 20)
    assert {state for _, state in lab.runs()} <= {"CRASHED", "FAILED", "COMPLETED", "CANCELLED"}
    assert not lab.paths.latest.exists()


@pytest.mark.timeout(900)
def test_a_training_that_is_asked_to_clear_a_node_saves_and_goes_on(lab: SlurmLab) -> None:
    """Slurm's signal before the end of a job, and an administrator's."""
    run = lab.start("train")
    lab.until_it_trains()
    for program in lab.folds_that_run().values():  # it began with the job, and not with the fold
        assert Path(program.cmdline()[-1]).stat().st_mtime - program.create_time() > 0.5
    job = lab.slurm.jobs("RUNNING")[0]
    lab.slurm.call("scancel", "--batch", "--signal=USR1", job)
    assert run.wait(200) == 0, lab.said()
    lab.assert_all_is_well(attempts=3, lost=0)
    assert job not in lab.slurm.jobs()


@pytest.mark.timeout(600)
def test_a_training_that_is_longer_than_the_walltime_goes_on_in_the_next_job(
    lab: SlurmLab, trained: SlurmLab
) -> None:
    """Slurm's shortest walltime is a minute, of which a job may train for 50 s."""
    lab.cluster(walltime="00:01:00", stop_before_s=10)
    lab.train_for(round(65 / trained.epoch_s()))
    run = lab.start("train")
    assert run.wait(500) == 0, lab.said()
    # How many jobs it takes depends on how long they take to begin. Each went on from where another ended.
    lab.assert_all_is_well(attempts=24)
    # Slurm's signal comes up to a minute early, and beside other work a job was seen to take 24 s to its
    # first epoch: where it takes the whole minute, or is in its last validation, an attempt is lost.
    assert sum(state == "CRASHED" for _, state in lab.runs()) <= 1
    assert min(len(lab.epochs(fold)) for fold in (0, 1)) > 1
    assert len(lab.epochs(0)) > 1


@pytest.mark.timeout(900)
def test_a_truncated_checkpoint_is_passed_over_for_the_one_before(
    lab: SlurmLab, undisturbed: Weights
) -> None:
    run = lab.start("train")
    wait_until(lambda: len(list(lab.paths.procdata.rglob("checkpoint_previous.pth"))) == 2, 120)
    run.kill()
    run.wait()
    for training in lab.folds_that_run().values():
        training.kill()
    for file in lab.paths.procdata.rglob("checkpoint_latest.pth"):
        file.write_bytes(file.read_bytes()[:1000])
    done = lab.run("train")
    assert done.returncode == 0, done.stderr
    assert_equal(lab.weights(), undisturbed)
    (log,) = lab.paths.logs.glob("*.fold-0.log")
    assert "checkpoint_latest.pth cannot be used" in log.read_text()
    assert lab.epochs(0)[1][0] > 1


@pytest.mark.timeout(900)
def test_a_full_disk_costs_a_checkpoint_and_not_the_training(lab: SlurmLab, undisturbed: Weights) -> None:
    (results,) = lab.paths.procdata.glob("*__D/nnUNet_results")
    with small_disk(results, megabytes=20) as filler:
        run = lab.start("train")
        lab.until_it_trains()
        filler.write()
        logs = list(lab.paths.logs.glob("*.fold-*.log"))
        wait_until(lambda: any("no checkpoint after epoch" in log.read_text() for log in logs), 60)
        filler.file.unlink()
        assert run.wait(200) == 0, lab.said()
        assert_equal(lab.weights(), undisturbed)
        lab.assert_all_is_well(attempts=4)


@pytest.mark.timeout(900)
def test_folds_keep_away_from_a_node_that_kills_every_job(lab: SlurmLab, undisturbed: Weights) -> None:
    lab.cluster(prologue=['[ "$SLURMD_NODENAME" != node1 ] || exit 7'])
    done = lab.run("train")
    assert done.returncode == 0, done.stderr
    assert_equal(lab.weights(), undisturbed)
    lab.assert_all_is_well(attempts=2, lost=0)


@pytest.mark.timeout(900)
def test_folds_keep_away_from_a_node_that_kills_jobs_under_their_workers(
    lab: SlurmLab, undisturbed: Weights
) -> None:
    """It is idle again as soon as it has killed one, and would get the next attempt, to the last."""
    run = lab.start("train")
    killed: set[int] = set()

    def ended() -> bool:
        folds = lab.folds_that_run().values()
        for worker in lab.workers():
            with suppress(psutil.Error, OSError):  # one that ends just now
                trains = [fold for fold in folds if fold in worker.children(recursive=True)]
                bad = node_of(worker) == "node1"
                if trains and (bad or len(killed) < 2):
                    trains[0].suspend()  # else the other node would soon be free, and take what is left
                elif trains:
                    trains[0].resume()
                if trains and bad and lab.runs_of_folds("RUNNING") == 2:  # the UI knows them both
                    worker.kill()
                    killed.add(worker.pid)
        return run.poll() is not None

    wait_until(ended, 400)
    assert run.returncode == 0, lab.said()
    assert len(killed) == 2
    assert_equal(lab.weights(), undisturbed)
    lab.assert_all_is_well(attempts=4, lost=2)


@pytest.mark.timeout(900)
def test_where_every_node_kills_every_job_the_flow_fails_loudly(lab: SlurmLab) -> None:
    lab.cluster(prologue=["echo the prologue failed >&2", "exit 7"])
    done = lab.run("train")
    assert done.returncode == 1
    assert "jobs ended before their worker began" in done.stderr
    assert "FAILED, NonZeroExitCode, on node" in done.stderr
    assert "the prologue failed" in done.stderr
    assert not lab.paths.latest.exists()
    wait_until(lambda: not lab.slurm.jobs(), 20)
    assert {state for _, state in lab.runs()} == {"FAILED"}


@pytest.mark.timeout(400)
def test_the_server_may_go_away_and_come_back(lab: SlurmLab, undisturbed: Weights, tmp_path: Path) -> None:
    (tmp_path / "prefect").mkdir()
    server = PrefectServer(tmp_path / "prefect")
    lab.server = server
    with server:
        run = lab.start("train")
        lab.until_it_trains()
    time.sleep(AWAY_S)
    with server:
        assert run.wait(200) == 0, lab.said()
        assert_equal(lab.weights(), undisturbed)
        lab.assert_all_is_well(attempts=2, lost=0)
