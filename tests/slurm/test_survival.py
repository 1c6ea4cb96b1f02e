"""Whatever happens to a job, a node or the flow, the same model comes out, and the UI tells the truth."""

from __future__ import annotations

import signal
from collections.abc import Callable

import numpy as np
import pytest
from slurm_lab import SlurmLab
from tests_support import wait_until

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, prepared: SlurmLab) -> dict[str, np.ndarray]:
    """The weights of a training that nothing happened to."""
    lab = prepared.copy(tmp_path_factory.mktemp("undisturbed") / "home")
    done = lab.run("train")
    assert done.returncode == 0, done.stderr
    lab.assert_all_is_well(attempts=2, lost=0)
    return lab.weights()


def scancel(lab: SlurmLab) -> None:
    lab.slurm.call("scancel", lab.slurm.jobs("RUNNING")[0])


def kill_a_worker(lab: SlurmLab) -> None:
    lab.workers()[0].kill()


def kill_a_training(lab: SlurmLab) -> None:
    lab.folds_that_run()[0].kill()


def power_off_a_node(lab: SlurmLab) -> None:
    lab.slurm.kill_node("node1")


def preempt(lab: SlurmLab) -> None:
    """Somebody's urgent job wants a whole node for a few seconds."""
    lab.slurm.call(
        "sbatch", "--partition=urgent", "--cpus-per-task=4", "--output=/dev/null", "--wrap=sleep 5"
    )


@pytest.mark.timeout(300)
@pytest.mark.parametrize("harm", [scancel, kill_a_worker, kill_a_training, power_off_a_node, preempt])
def test_a_fold_goes_on_elsewhere(
    lab: SlurmLab, undisturbed: dict[str, np.ndarray], harm: Callable[[SlurmLab], None]
) -> None:
    run = lab.start("train")
    lab.until_it_trains()
    harm(lab)
    assert run.wait(200) == 0, lab.said()
    lab.assert_all_is_well(attempts=3, lost=0 if harm is kill_a_training else 1)
    found = lab.weights()
    for name, weights in undisturbed.items():
        np.testing.assert_array_equal(found[name], weights, err_msg=name)


@pytest.mark.timeout(300)
def test_a_killed_flow_is_fenced_and_its_folds_go_on(
    lab: SlurmLab, undisturbed: dict[str, np.ndarray]
) -> None:
    run = lab.start("train")
    lab.until_it_trains()
    run.kill()
    run.wait()
    done = lab.run("train")
    assert done.returncode == 0, done.stderr
    lab.assert_all_is_well(attempts=4, lost=3)
    for name, weights in undisturbed.items():
        np.testing.assert_array_equal(lab.weights()[name], weights, err_msg=name)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_flow_that_is_told_to_end_leaves_no_job(lab: SlurmLab, number: int) -> None:
    run = lab.start("train")
    lab.until_it_trains()
    run.send_signal(number)
    assert run.wait(60) != 0
    wait_until(lambda: not lab.slurm.jobs(), 20)
    assert {state for _, state in lab.runs()} <= {"CRASHED", "COMPLETED", "CANCELLED"}
    assert not lab.paths.latest.exists()


@pytest.mark.timeout(300)
def test_a_training_that_is_asked_to_clear_a_node_saves_and_goes_on(lab: SlurmLab) -> None:
    """Slurm's signal before the end of a job, and an administrator's."""
    run = lab.start("train")
    lab.until_it_trains()
    job = lab.slurm.jobs("RUNNING")[0]
    lab.slurm.call("scancel", "--batch", "--signal=USR1", job)
    assert run.wait(200) == 0, lab.said()
    lab.assert_all_is_well(attempts=3, lost=0)
    assert job not in lab.slurm.jobs()


@pytest.mark.timeout(600)
def test_a_training_that_is_longer_than_the_walltime_goes_on_in_the_next_job(lab: SlurmLab) -> None:
    """Slurm's shortest walltime is a minute."""
    lab.cluster(walltime="00:01:00", stop_before_s=10)
    lab.train_for(60)
    run = lab.start("train")
    assert run.wait(500) == 0, lab.said()
    lab.assert_all_is_well(attempts=8, lost=0)
    assert len(lab.epochs(0)) > 1
