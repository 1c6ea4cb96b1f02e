"""A lab whose flows are deployed: runs are asked for at a server, and a worker starts them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from slurm_lab import SlurmLab
from tests_support import MORTAL, wait_until

CHECKOUT = Path(__file__).parents[2]


class Night:
    """A lab that is deployed: runs are asked for at the server, and a worker starts them."""

    def __init__(self, lab: SlurmLab, elsewhere: Path) -> None:
        self.lab, self.elsewhere = lab, elsewhere
        self.env = {**os.environ, **lab.environment, "ITERSEG_HOME": str(lab.home)}

    def call(self, *command: str) -> str:
        """A command in a shell that stands anywhere."""
        done = subprocess.run(
            [sys.executable, *command],
            env=self.env,
            cwd=self.elsewhere,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def deploy(self) -> str:
        return self.call(str(CHECKOUT / "deployments" / "deploy.py"))

    @contextmanager
    def worker(self) -> Iterator[None]:
        """A worker that starts runs; gone afterwards with what it started, also where it takes its time."""
        with (self.elsewhere / "worker.log").open("ab") as log:
            worker = subprocess.Popen(
                [*MORTAL, sys.executable, "-m", "prefect", "worker", "start", "--pool", "iterseg"],
                env={**self.env, "PREFECT_WORKER_QUERY_SECONDS": "1"},
                cwd=self.elsewhere,
                stdout=log,
                stderr=log,
            )
        try:
            yield
        finally:
            started = psutil.Process(worker.pid).children(recursive=True)
            worker.terminate()
            try:
                worker.wait(30)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()
            # A run that outlived its test would ask for jobs for as long as it waits.
            for process in started:
                with suppress(psutil.NoSuchProcess):
                    process.kill()

    def ask(self, deployment: str, **parameters: Any) -> str:
        """``prefect deployment run``; the id of the flow run."""
        chosen = [part for key, value in parameters.items() for part in ("-p", f"{key}={json.dumps(value)}")]
        said = self.call("-m", "prefect", "deployment", "run", deployment, *chosen)
        return next(line.split(":", 1)[1].strip() for line in said.splitlines() if "UUID" in line)

    def state(self, run: str) -> dict[str, Any]:
        (found,) = self.lab.server.post("/flow_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})
        state: dict[str, Any] = found["state"]
        return state

    def ended(self, run: str, timeout_s: float = 240) -> tuple[str, str]:
        """Wait for the end of a run; the type and the name of its state."""
        final = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
        wait_until(lambda: self.state(run)["type"] in final, timeout_s)
        state = self.state(run)
        return state["type"], state["name"]
