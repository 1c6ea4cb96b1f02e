"""Prefect's own server for as long as a command runs, where none is configured.

Prefect's built-in temporary server is left behind when its client is killed, and Dask workers do not
share it. This one serves the same database (``PREFECT_HOME``), on loopback, and dies with the command.
``make server`` shows the history afterwards.
"""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from tasks.errors import ExternalToolError, TransientError
from tasks.processes.lifeline import PARENT, die_with_parent
from tasks.processes.prefect_api import version_of
from tasks.processes.prefect_server import collect_garbage_aside

STARTUP_S = 120.0
RESTART_S, BUSY_S, ANSWER_S = 10.0, 90.0, 5.0
"""One that is away is being started again, or was never started; one that listens and is silent is busy."""
STOP_S = 20.0
_FOR_THIS_PROCESS = ExitStack()
QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_UI_ENABLED": "false",
}


def ensure_prefect_api() -> None:
    """See to it that ``PREFECT_API_URL`` leads to a server, until this process ends.

    Call it before Prefect is imported: the server is then stopped after Prefect has sent its last
    logs (functions given to ``atexit`` run in reverse order); stopped before, it kept the process
    waiting for 80 s.

    Raises
    ------
    ExternalToolError
        Where the server does not start.
    TransientError
        Where one is configured and does not answer.
    ConfigError
        Where what is configured is none, or one that refuses us.
    """
    server = _Server()
    atexit.register(server.stop)
    from prefect.settings import PREFECT_API_URL, temporary_settings

    chosen = PREFECT_API_URL.value()
    if chosen:
        _wait_for(chosen)
    else:
        url = server.start()
        # Dask's workers and other programs read the environment, this process its settings.
        os.environ["PREFECT_API_URL"] = url
        _FOR_THIS_PROCESS.enter_context(temporary_settings({PREFECT_API_URL: url}))


def _wait_for(url: str) -> None:
    """A server that is being started again or busy is waited for; one that stays so is told."""
    since, was_silent, told = time.monotonic(), False, False
    while True:
        try:
            version_of(url, alike=1, timeout_s=ANSWER_S)
            return
        except (OSError, ValueError) as error:
            # As a connection that is not even taken fails, it is an URLError around it.
            silent = isinstance(error, TimeoutError)
            if silent != was_silent:
                since, was_silent = time.monotonic(), silent
            if time.monotonic() > since + (BUSY_S if silent else RESTART_S):
                raise TransientError(
                    f"Prefect's server at {url} does not answer ({error}). Start it (`make server`), or "
                    "`prefect config unset PREFECT_API_URL` (or `unset PREFECT_API_URL`, where the shell has "
                    "it): a command without one starts its own"
                ) from None
            if silent and not told:
                print(f"Prefect's server at {url} is busy; waiting for it", file=sys.stderr, flush=True)
                told = True
            time.sleep(1)


class _Server:
    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> str:
        self.folder = TemporaryDirectory(prefix="iterseg-server-")
        self.log = Path(self.folder.name) / "server.log"
        port = free_port()
        environment = {**os.environ, **QUIET, PARENT: str(os.getpid())}
        command = [sys.executable, "-P", "-m", __name__, str(port)]
        with self.log.open("wb") as stream:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, env=environment
            )
        url = f"http://127.0.0.1:{port}/api"
        self._wait(self.process, url)
        return url

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(timeout=STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.folder.cleanup()

    def _wait(self, process: subprocess.Popen[bytes], url: str) -> None:
        deadline = time.monotonic() + STARTUP_S
        while time.monotonic() < deadline and process.poll() is None:
            try:
                with urllib.request.urlopen(f"{url}/health", timeout=2):  # noqa: S310 - loopback
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        words = "\n".join(self.log.read_text(errors="replace").splitlines()[-8:])
        # This run's own folder goes with it; on a shared machine each user keeps their own.
        kept = Path(tempfile.mkdtemp(prefix="iterseg-prefect-server-")) / "server.log"
        shutil.copyfile(self.log, kept)
        if process.poll() is None:
            raise TransientError(
                f"the Prefect server did not answer within {STARTUP_S:.0f} s; its log is {kept}\n{words}"
            )
        raise ExternalToolError("the Prefect server", process.returncode, kept, words)


def free_port() -> int:
    """A port of the loopback address on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _serve(port: int) -> None:
    die_with_parent()
    collect_garbage_aside()
    import uvicorn

    uvicorn.run(
        "prefect.server.api.server:create_app",
        factory=True,
        host="127.0.0.1",
        port=port,
        log_level="error",
    )


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
