"""What several tests need to run IterSeg as its users do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from tasks.processes.embedded_server import free_port
from tasks.processes.lifeline import PARENT

MORTAL = ("setpriv", "--pdeathsig", "KILL")
"""Before a command: it goes with the tests, also when they are killed (prctl(2), PR_SET_PDEATHSIG)."""


@dataclass
class Answer:
    """What a command printed and how it ended."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def report(self) -> dict[str, Any]:
        """The one JSON object on standard output."""
        content: dict[str, Any] = json.loads(self.stdout)
        return content


def iterseg(home: Path, *arguments: str, **environment: str) -> Answer:
    """Run the command line in a process of its own."""
    env = {**os.environ, "ITERSEG_HOME": str(home), "COLUMNS": "200", **environment}
    env.setdefault("PREFECT_HOME", str(home / "prefect"))
    done = subprocess.run(
        [*MORTAL, sys.executable, "-m", "flows.cli", *arguments],
        capture_output=True,
        text=True,
        env=env,
        check=False,
        timeout=580,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def processes_of(home: Path) -> list[int]:
    """Every process that works for a home: its environment says so."""
    needle = f"ITERSEG_HOME={home}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and needle in (entry / "environ").read_bytes():
                found.append(int(entry.name))
    return found


def wait_until(condition: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


class PrefectServer:
    """``prefect``'s server as a process; gone afterwards, also when the tests are killed.

    ``inside`` wraps a command so that it runs in another network, where only such commands reach the server.
    """

    def __init__(self, home: Path, inside: Callable[..., list[str]] | None = None) -> None:
        self.home = home
        self.inside = inside
        self.port = free_port()
        self.api_url = f"http://127.0.0.1:{self.port}/api"

    @property
    def environment(self) -> dict[str, str]:
        """What a client of this server needs."""
        return {"PREFECT_HOME": str(self.home), "PREFECT_API_URL": self.api_url}

    def __enter__(self) -> PrefectServer:
        env = {
            **os.environ,
            "PREFECT_HOME": str(self.home),
            PARENT: str(os.getpid()),
            "PREFECT_UI_API_URL": "/api",
        }
        command = [sys.executable, "-m", "tasks.processes.embedded_server", str(self.port)]
        with (self.home / "server.log").open("wb") as log:
            command = self.inside(*command) if self.inside else command
            self.process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        deadline = time.monotonic() + 120
        while not self._answers():
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError((self.home / "server.log").read_text())
            time.sleep(0.2)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.terminate()
        self.process.wait(timeout=30)

    def _answers(self) -> bool:
        url = f"{self.api_url}/health"
        if self.inside:
            ask = self.inside("curl", "-sf", "-m", "2", "-o", os.devnull, url)
            return subprocess.run(ask, check=False).returncode == 0
        with suppress(OSError), urllib.request.urlopen(url, timeout=2):
            return True
        return False

    def get(self, path: str) -> Any:
        """Read from the server's API."""
        with urllib.request.urlopen(f"{self.api_url}{path}", timeout=30) as answer:
            return json.loads(answer.read())

    def post(self, path: str, content: dict[str, Any]) -> Any:
        """Ask the server's API."""
        request = urllib.request.Request(
            f"{self.api_url}{path}",
            data=json.dumps(content).encode(),
            headers={"content-type": "application/json"},
        )
        for _ in range(20):
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return json.loads(answer.read())
            except urllib.error.HTTPError as error:
                if error.code != 503:  # its database is busy; Prefect's own client tries again too
                    raise
                time.sleep(0.5)
        raise TimeoutError(f"{path}: the server stays busy")
