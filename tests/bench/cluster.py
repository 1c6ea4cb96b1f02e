"""Rows of the cluster: what Slurm, Dask and Prefect add to a training, on a real Slurm of this host."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from measure import Row, Run
from private_slurm import PrivateSlurm
from slurm_lab import SlurmLab
from tests_support import PrefectServer, wait_until
from tiny_lab import deliver, new_home

from tasks.ledger.iterations import newest_iteration
from tasks.ledger.paths import IterationPaths
from tasks.settings import load_dataset_settings
from tasks.train import fold_job

FOLDS = 5
EPOCHS = 20
REPEATS = 3


def rows(work: Path, server: PrefectServer, notes: list[str], *, quick: bool) -> Iterator[Row]:
    """All rows of this file."""
    with PrivateSlurm(nodes=FOLDS, cpus=2) as slurm:
        lab = _lab(work / "cluster", slurm, server)
        yield first_epoch_row(lab, 1 if quick else REPEATS)
        for nodes in (2,) if quick else (1, 2, FOLDS):
            yield fan_out_row(lab, nodes)


def _lab(home: Path, slurm: PrivateSlurm, server: PrefectServer) -> SlurmLab:
    new_home(home, training={"epochs_first": EPOCHS, "checkpoint_every_s": 60.0}, folds=FOLDS)
    deliver(home, 20, labelled=FOLDS, unlabelled=0)
    lab = SlurmLab(home, slurm, server)
    lab.cluster()
    done = lab.run("prepare")
    assert done.returncode == 0, done.stderr
    return lab


def first_epoch_row(lab: SlurmLab, repeats: int) -> Row:
    """From the submission to the end of the first epoch: `iterseg train` against a bare sbatch."""
    ours, theirs = "iterseg train --folds 0 --cluster slurm", "sbatch of the same training"
    runs: dict[str, list[Run]] = {ours: [], theirs: []}
    for _ in range(repeats):
        for name, start in ((ours, _by_flow), (theirs, _by_sbatch)):
            _untrained(lab)
            began = time.perf_counter()
            log = start(lab)
            wait_until(lambda log=log: log.is_file() and '"epoch": 1' in log.read_text(), 120)
            runs[name].append(Run(time.perf_counter() - began, 0, 0))
            lab.end()
            lab.slurm.settle()
    return Row(
        "submit to first epoch",
        "an idle cluster; the command, Prefect, Dask and the job, to the end of the first epoch",
        "within 10 s",
        "the start of Python, Prefect and a Dask worker",
        ours,
        theirs,
        runs,
    )


def _by_flow(lab: SlurmLab) -> Path:
    lab.start("train", "--folds", "0")
    return next(lab.paths.procdata.glob("*__D")).parent / "logs" / "2026-11-20__D.fold-0.log"


def _by_sbatch(lab: SlurmLab) -> Path:
    iteration = newest_iteration(lab.paths)
    at = IterationPaths(lab.paths.procdata / iteration.name)
    job = fold_job(lab.paths, iteration, 0, load_dataset_settings(lab.paths.config, "D"))
    file, log = lab.home / "job.json", lab.home / "bare.log"
    file.write_text(json.dumps(vars(job)))
    environment = {**at.environment(), "OMP_NUM_THREADS": "1", "nnUNet_n_proc_DA": "0"}
    exports = " ".join(f"{key}={shlex.quote(value)}" for key, value in environment.items())
    command = f"{exports} exec {sys.executable} -u -m tasks.nnunet.fold {file}"
    directives = ["--gres=gpu:1", "--cpus-per-task=1", "--mem=2G", "--time=10", f"--output={log}"]
    lab.slurm.call("sbatch", *directives, f"--wrap={command}")
    return log


def _untrained(lab: SlurmLab) -> None:
    for folder in lab.paths.procdata.glob("*__D/nnUNet_results"):
        shutil.rmtree(folder)
    for log in (*lab.paths.logs.glob("*.fold-*.log"), lab.home / "bare.log"):
        log.unlink(missing_ok=True)


def fan_out_row(lab: SlurmLab, nodes: int) -> Row:
    """Five folds on so many nodes: from the flow's start to the last fold's end, against the folds alone."""
    _untrained(lab)
    lab.cluster(workers=nodes)
    began = datetime.now().astimezone()
    folds = ",".join(str(fold) for fold in range(FOLDS - 1))
    done = lab.run("train", "--folds", folds) if nodes < FOLDS else lab.run("train")
    assert done.returncode == 0, done.stderr
    tasks = _tasks_since(lab, began)
    count = len(tasks)
    longest = max(task["total_run_time"] for task in tasks)
    whole = max(_time(task["end_time"]) for task in tasks) - began.timestamp()
    alone = longest if nodes >= count else sum(task["total_run_time"] for task in tasks) / nodes
    start = min(_time(task["start_time"]) for task in tasks) - began.timestamp()
    return Row(
        f"fan-out, {count} folds on {nodes} nodes",
        f"{EPOCHS} epochs each on {os.cpu_count()} cores; from the command to the end of the last fold; "
        f"the first one began after {start:.1f} s",
        "1.1 × the folds alone, and the start of a worker",
        "the folds",
        "iterseg train --cluster slurm",
        "the folds alone",
        {"iterseg train --cluster slurm": [Run(whole, 0, 0)], "the folds alone": [Run(alone, 0, 0)]},
    )


def _tasks_since(lab: SlurmLab, began: datetime) -> list[dict[str, Any]]:
    since = {"flow_runs": {"expected_start_time": {"after_": began.isoformat()}}, "limit": 200}
    found = lab.server.post("/task_runs/filter", since)
    return [task for task in found if task["name"].startswith("fold-")]


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
