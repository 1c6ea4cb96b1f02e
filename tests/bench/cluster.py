"""Rows of the cluster: what it costs to be run by flows on Slurm and not by hand."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from demo import ANNOTATED, DATASET, annotate, deliver_images, read_cases
from homes import ITERSEG
from iterations import imports, iterseg
from measure import MB, SAMPLE_EVERY_S, Found, Row, Run, Side, measured
from private_slurm import PrivateSlurm, require_slurm
from slurm_lab import CLUSTER
from tests_support import PrefectServer
from tiny_lab import deliver, new_home

from tasks.ledger.paths import DatasetPaths
from tasks.ledger.snapshots import make_writable

CHECKOUT = Path(__file__).parents[2]
FOLDS = 5
EPOCHS = 20
MANY = 1000
STARTED = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+): *\n?.*?Epoch 0\b", re.MULTILINE)
"""How nnU-Net's log says that the first step is about to be taken."""


def rows(work: Path, server: PrefectServer) -> Iterator[Found]:
    """All rows of this file, each as soon as it is measured."""
    try:
        require_slurm()
    except pytest.skip.Exception as why:
        yield f"On Slurm: not measured, {why}."
        return
    walls: dict[int, float] = {}
    with PrivateSlurm(nodes=FOLDS, cpus=1) as slurm:
        home = five_folds(work / "five", slurm, server)
        environment = {**server.environment, **slurm.environment}
        yield first_step_row(home, slurm, environment)
        row = fan_out_row(home, FOLDS, server, environment)
        walls[FOLDS] = row.median(row.ours, "wall_s")
        yield row
    for nodes in (1, 2):
        with PrivateSlurm(nodes=nodes, cpus=1) as slurm:
            row = fan_out_row(home, nodes, server, {**server.environment, **slurm.environment})
            walls[nodes] = row.median(row.ours, "wall_s")
            yield row
    yield efficiency(walls)


def efficiency(walls: Mapping[int, float]) -> str:
    """What n nodes make of one node's time."""
    shares = ", ".join(f"{walls[1] / (n * walls[n]):.2f} on {n}" for n in sorted(walls) if n > 1)
    return (
        f"Fan-out of {FOLDS} folds, the wall time on one node over n times that on n: {shares} nodes, "
        f"which share {os.cpu_count()} cores: more nodes than cores cannot be efficient on one machine."
    )


def five_folds(home: Path, slurm: PrivateSlurm, server: PrefectServer) -> Path:
    """A home whose first iteration waits for the training of five folds."""
    new_home(home, training={"epochs_first": 20}, folds=FOLDS)
    deliver(home, 20, labelled=FOLDS, unlabelled=0)
    stages = {**CLUSTER["stages"], "train": {"gres": "gpu:1", "workers": "auto"}}
    cluster = {**CLUSTER, "stages": stages}
    (home / "config" / "clusters" / "slurm.yaml").write_text(yaml.safe_dump(cluster))
    iterseg(home, {**server.environment, **slurm.environment}, "prepare", "D")
    shutil.copytree(home / "data", home / "untrained", symlinks=True)
    return home


def first_step_row(home: Path, slurm: PrivateSlurm, environment: Mapping[str, str]) -> Row:
    """From the command to the first step, beside a bare job of the same training."""
    runs: dict[str, list[Run]] = {"iterseg train": [], "sbatch": []}
    for _ in range(3):
        runs["sbatch"].append(_run(bare_job(home, slurm)))
        untrained(home)
        began = time.time()
        iterseg(home, environment, "train", "D", "--cluster", "slurm", "--folds", "0")
        (log,) = DatasetPaths(home, "D").procdata.rglob("training_log_*.txt")
        runs["iterseg train"].append(_run(first_step(log) - began))
    alone = imports_on_the_way()
    runs[alone.name] = [measured(alone) for _ in range(3)]
    name = "submit to first step"
    what = "from the command to the first step of a training, on an idle cluster"
    bound = "the imports of the command, and those of the worker and of torch beside each other"
    return Row(name, what, "within 10 s", bound, "iterseg train", "sbatch", runs, alone.name)


def imports_on_the_way() -> Side:
    """Nothing but imports: those of the command, then, in a job, a worker's and beside them a training's."""
    command, worker = imports("flows.cli, flows.train"), imports("distributed.cli.dask_worker, tasks.train")
    # nnU-Net's trainer reads its variables as it is imported.
    script = f"{command}; {worker} & {imports('tasks.nnunet.trainer')}; wait"
    folders = {f"nnUNet_{name}": "/nowhere" for name in ("raw", "preprocessed", "results")}
    return Side("imports alone", ["sh", "-ec", script], environment=folders)


def fan_out_row(home: Path, nodes: int, server: PrefectServer, environment: Mapping[str, str]) -> Row:
    """All folds, beside what their own times add up to where no node ever waits."""
    untrained(home)
    began = time.time()
    iterseg(home, environment, "train", "D", "--cluster", "slurm")
    folds = [run for run in task_runs(server, began) if run["name"].startswith("fold-")]
    spans = [span_of(run) for run in folds]
    assert len(spans) == FOLDS
    lengths = [end - start for start, end in spans]
    least = max(*lengths, sum(lengths) / nodes) + min(start for start, _ in spans) - began
    alone = nodes == FOLDS
    bare = "longest fold + worker start" if alone else "the folds' own times / nodes + worker start"
    return Row(
        f"{FOLDS} folds on {nodes} node{'s' if nodes > 1 else ''}",
        "from the command to the end of the last fold, beside the least that its own folds could take "
        "(computed from the same run); the nodes share this machine's cores",
        "ratio of 0.91 or more" if alone else "stated: each job starts a worker of its own",
        "the longest fold" if alone else "the folds",
        "iterseg train",
        bare,
        {"iterseg train": [_run(max(end for _, end in spans) - began)], bare: [_run(least)]},
        alone=bare,
    )


def untrained(home: Path) -> None:
    """As if nothing had been trained yet."""
    make_writable(home / "data", files=False)
    shutil.rmtree(home / "data")
    shutil.copytree(home / "untrained", home / "data", symlinks=True)


def bare_job(home: Path, slurm: PrivateSlurm) -> float:
    """Seconds from ``sbatch`` to the first step of nnU-Net's own command on the same cases."""
    (iteration,) = DatasetPaths(home, "D").procdata.glob("*__D")
    results = home / "bare"
    shutil.rmtree(results, ignore_errors=True)
    folders = {"nnUNet_raw": results, "nnUNet_results": results}
    script = home / "bare.sh"
    lines = ["#!/bin/bash", *(f"export {name}={folder}" for name, folder in folders.items())]
    lines += [f"export nnUNet_preprocessed={iteration / 'nnUNet_preprocessed'} nnUNet_n_proc_DA=0"]
    lines += [f"export OMP_NUM_THREADS=1 nnUNet_def_n_proc=1 PATH={Path(sys.executable).parent}:$PATH"]
    plans = next((iteration / "nnUNet_preprocessed").rglob("*lans*.json"), None)
    assert plans is not None
    dataset = next((iteration / "nnUNet_preprocessed").glob("Dataset*")).name.removeprefix("Dataset")[:3]
    lines += [f"exec nnUNetv2_train {int(dataset)} 3d_fullres 0 -device cpu -p {plans.stem}"]
    script.write_text("\n".join(lines) + "\n")
    began = time.time()
    job = slurm.call("sbatch", "--parsable", "--gres=gpu:1", f"--output={home}/bare.log", str(script)).strip()
    try:
        while time.time() - began < 120:
            for log in results.rglob("training_log_*.txt"):
                if STARTED.search(log.read_text()):
                    return first_step(log) - began
            time.sleep(0.2)
        raise RuntimeError((home / "bare.log").read_text())
    finally:
        slurm.call("scancel", job)
        slurm.settle()


def first_step(log: Path) -> float:
    """When nnU-Net's log says that epoch 0 begins, in seconds since 1970."""
    found = STARTED.search(log.read_text())
    assert found is not None, log.read_text()
    return datetime.fromisoformat(found[1]).timestamp()


def task_runs(server: PrefectServer, since: float) -> list[dict[str, Any]]:
    """What ran since then, with its start and its end."""
    after = datetime.fromtimestamp(since).astimezone().isoformat()
    found: list[dict[str, Any]] = []
    while True:
        chosen = {"task_runs": {"start_time": {"after_": after}}, "limit": 200, "offset": len(found)}
        page = server.post("/task_runs/filter", chosen)
        found += page
        if len(page) < 200:
            return [run for run in found if run["end_time"]]


def span_of(run: Mapping[str, Any]) -> tuple[float, float]:
    """Start and end in seconds since 1970."""
    start, end = (datetime.fromisoformat(run[key]).timestamp() for key in ("start_time", "end_time"))
    return start, end


def covered_s(spans: list[tuple[float, float]]) -> float:
    """The length of the union of some times."""
    total, reached = 0.0, 0.0
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def orchestration_row(work: Path, server: PrefectServer) -> Row:
    """The demo's first iteration, trained for minutes: how much of it no step was at work.

    What is not a step is a constant, the start of a command and of each stage's workers: of the demo's own
    86 s it is 12 s, and of an hour as much.
    """
    home = work / "home"
    (home / "config").mkdir(parents=True)
    for kind in ("roi", "dataset"):
        file = f"{kind}_{DATASET}.yaml"
        text = (CHECKOUT / "config" / file).read_text()
        (home / "config" / file).write_text(text.replace("epochs_first: 3", f"epochs_first: {EPOCHS}"))
    cases = read_cases()
    series = deliver_images(work, cases)
    annotate(cases[ANNOTATED], series, work / "day-1")
    iterseg(home, server.environment, "ingest", DATASET, "--from", str(work / "day-1"))
    began = time.time()
    iterseg(home, server.environment, "run", DATASET)
    whole = time.time() - began
    at_work = covered_s([span_of(run) for run in task_runs(server, began)])
    ours, theirs = "iterseg run", "its steps alone"
    return Row(
        "orchestration",
        f"an iteration of eight scans and {EPOCHS} epochs, whole command, beside the time in which a step of "
        "it was at work, in the same run; the rest is imports and workers",
        "ratio of 0.95 or more",
        "training",
        ours,
        theirs,
        {ours: [_run(whole)], theirs: [_run(at_work)]},
        alone=theirs,
    )


def many_cases(home: Path, server: PrefectServer) -> str:
    """Predict many small cases with four workers, and watch the flow's own process."""
    new_home(home)
    deliver(home, 20, labelled=2, unlabelled=0)
    (home / "config" / "clusters" / "local.yaml").write_text("workers: 4\n")
    iterseg(home, server.environment, "run", "D")
    deliver(home, 21, labelled=0, unlabelled=MANY)
    environment = {**os.environ, **server.environment, "ITERSEG_HOME": str(home)}
    began = time.time()
    process = subprocess.Popen(
        [*ITERSEG, "predict", "D", "--json"], env=environment, stdout=subprocess.DEVNULL
    )
    watched, peak = psutil.Process(process.pid), 0.0
    while process.poll() is None:
        try:
            peak = max(peak, watched.memory_info().rss / MB)
        except psutil.Error:
            break
        time.sleep(SAMPLE_EVERY_S)
    assert process.wait() == 0
    wall = time.time() - began
    runs = task_runs(server, began)
    idle = wall - covered_s([span_of(run) for run in runs])
    spans = [span_of(run) for run in runs if run["name"].startswith("predict-")]
    busy = sum(end - start for start, end in spans)
    window = max(end for _, end in spans) - min(start for start, _ in spans)
    return (
        f"{MANY:,} cases through predict over 4 workers: {wall:.0f} s in {len(spans)} chunks, of which the "
        f"workers were busy for {busy / (4 * window):.1%} from the first chunk to the last (target: 95 %); "
        f"in {idle:.1f} s no step was at work (target, where nothing is trained: under 30 s); "
        f"the flow's own process took {peak:.0f} MB at most (target: under 1,000 MB)."
    )


def _run(seconds: float) -> Run:
    return Run(seconds, 0.0, 0.0, seconds)
