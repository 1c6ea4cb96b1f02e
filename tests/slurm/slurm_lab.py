"""A small lab whose folds train on a real Slurm, and the questions that every disturbance must answer."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
import yaml
from private_slurm import PrivateSlurm
from tests_support import MORTAL, Answer, PrefectServer, iterseg, wait_until
from tiny_lab import deliver, new_home

from tasks.ledger.paths import DatasetPaths
from tasks.processes.program import MARK

EPOCHS = 12
CLUSTER: dict[str, Any] = {
    "kind": "slurm",
    "interface": "lo",
    "walltime": "00:10:00",
    "stop_before_s": 30,
    "cpus": 1,
    "memory_gb": 2,
    "workers": 2,
    "stages": {"train": {"gres": "gpu:1"}, "predict": {"gres": "gpu:1"}},
}


@dataclass
class SlurmLab:
    """A home with a dataset, and the cluster and the server that it uses."""

    home: Path
    slurm: PrivateSlurm
    server: PrefectServer
    dataset: str = "D"
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    epochs_wanted: int = EPOCHS
    _started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def paths(self) -> DatasetPaths:
        return DatasetPaths(self.home, self.dataset)

    @property
    def environment(self) -> dict[str, str]:
        return {**self.server.environment, **self.slurm.environment}

    def copy(self, home: Path) -> SlurmLab:
        """The same lab elsewhere."""
        shutil.copytree(self.home, home, symlinks=True)
        return SlurmLab(home, self.slurm, self.server)

    def cluster(self, **changes: Any) -> None:
        """Write the cluster's file, with changes."""
        file = self.home / "config" / "clusters" / "slurm.yaml"
        file.write_text(yaml.safe_dump({**CLUSTER, **changes}))

    def run(self, *command: str) -> Answer:
        """A command on the cluster, to its end."""
        return iterseg(self.home, *command, self.dataset, "--cluster", "slurm", "--json", **self.environment)

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """A command on the cluster that goes on while the test does its harm."""
        env = {**os.environ, **self.environment, "ITERSEG_HOME": str(self.home)}
        log = (self.home / "command.log").open("ab")
        with log:
            process = subprocess.Popen(
                [*MORTAL, sys.executable, "-m", "flows.cli", *command, self.dataset, "--cluster", "slurm"],
                env=env,
                stdout=log,
                stderr=log,
            )
        self._started.append(process)
        return process

    def train_for(self, epochs: int) -> None:
        """Another length of training makes another iteration of the same cases."""
        new_home(self.home, training={"epochs_first": epochs})
        self.epochs_wanted = epochs
        done = self.run("prepare")
        assert done.returncode == 0, done.stderr

    def end(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.kill()
                process.wait()

    def said(self) -> str:
        """What commands printed that were started."""
        return (self.home / "command.log").read_text()

    def until_it_trains(self) -> None:
        """Wait until each fold has a checkpoint to go on from."""
        results = self.paths.procdata
        wait_until(lambda: len(list(results.rglob("checkpoint_latest.pth"))) == 2, 120)

    def training_programs(self) -> list[psutil.Process]:
        """The training programs of this home, with those that wait for their job."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):  # one that begins or ends just now
                ours = process.environ().get("ITERSEG_HOME") == str(self.home)
                if ours and "tasks.nnunet.fold" in process.cmdline():
                    found.append(process)
        return found

    def folds_that_run(self) -> dict[int, psutil.Process]:
        """Fold → the program that trains it."""
        found = {}
        for process in self.training_programs():
            with suppress(psutil.Error, FileNotFoundError):  # one that has no job yet, or ends just now
                given = json.loads(Path(process.cmdline()[-1]).read_text())
                found[int(given["job"]["fold"])] = process
        return found

    def workers(self) -> list[psutil.Process]:
        """The Dask workers of this home's jobs."""
        return [
            process
            for process in self.slurm.processes_of_jobs()
            if "distributed.cli.dask_worker" in process.cmdline()
        ]

    def told(self, fold: int) -> list[dict[str, Any]]:
        """What the program that trains a fold has told, in its attempts one after another."""
        (log,) = self.paths.logs.glob(f"*.fold-{fold}.log")
        lines = log.read_text().splitlines()
        return [json.loads(line[len(MARK) :]) for line in lines if line.startswith(MARK)]

    def epochs(self, fold: int) -> list[list[int]]:
        """The epochs that each attempt at a fold went through, in the order in which they ended."""
        attempts: list[list[int]] = []
        for message in self.told(fold):
            if "resumed_at" in message or not attempts:
                attempts.append([])
            if "epoch" in message:
                attempts[-1].append(message["epoch"])
        return attempts

    def epoch_s(self) -> float:
        """How long an epoch takes on this machine."""
        return median(message["seconds"] for message in self.told(0) if "epoch" in message)

    def weights(self) -> dict[str, np.ndarray[Any, Any]]:
        from tasks.nnunet.checkpoints import read_checkpoint

        return {
            f"{file.parent.name} {name}": value.numpy()
            for file in sorted(self.paths.procdata.rglob("checkpoint_final.pth"))
            for name, value in read_checkpoint(file)["network_weights"].items()
        }

    def runs(self) -> list[tuple[str, str]]:
        """Name and state of every flow and task run in the UI since this lab began."""
        since = {"after_": self.began.isoformat()}
        flows = self.server.post("/flow_runs/filter", {"flow_runs": {"expected_start_time": since}})
        chosen = {"flow_runs": {"id": {"any_": [run["id"] for run in flows]}}, "limit": 200}
        tasks = self.server.post("/task_runs/filter", chosen)
        return [(run["name"], run["state_type"]) for run in [*flows, *tasks]]

    def runs_of_folds(self, state: str) -> int:
        """How many task runs of folds are in a state, as the UI has it."""
        return sum(name.startswith("fold-") and known == state for name, known in self.runs())

    def assert_all_is_well(self, *, attempts: int, lost: int | None = None) -> None:
        """The right model, no fold trained twice, nothing left behind, and the truth in the UI.

        Parameters
        ----------
        attempts
            How many attempts all folds took together, at most.
        lost
            How many task runs crashed; None: as many as were needed.
        """
        for fold in (0, 1):
            epochs = self.epochs(fold)
            assert epochs[-1][-1] == self.epochs_wanted
            done = 0
            for attempt in epochs:
                # A checkpoint is written with every epoch: the one that was cut off is done again.
                assert attempt == list(range(attempt[0], attempt[-1] + 1)) if attempt else True
                assert attempt == [] or attempt[0] in (done, done + 1)
                done = attempt[-1] if attempt else done
        assert sum(len(self.epochs(fold)) for fold in (0, 1)) <= attempts
        # Of a node whose power is off Slurm says so after its timeout, asked every third of it.
        gone_s = 2 * self.slurm.slurmd_timeout_s + 30
        wait_until(lambda: not self.slurm.jobs() and not self.slurm.processes_of_jobs(), gone_s)
        assert not self.training_programs()
        states = [state for _, state in self.runs()]
        assert set(states) <= {"COMPLETED", "CRASHED", "CANCELLED", "FAILED"}, self.runs()
        if lost is not None:
            assert states.count("CRASHED") + states.count("FAILED") == lost, self.runs()
        assert (self.paths.latest / "fold_0" / "checkpoint_final.pth").is_file()


def new_lab(home: Path, slurm: PrivateSlurm, server: PrefectServer, epochs: int = EPOCHS) -> SlurmLab:
    """Two labelled patients and one without a label."""
    new_home(home, training={"epochs_first": epochs})
    deliver(home, 20)
    lab = SlurmLab(home, slurm, server)
    lab.cluster()
    return lab
