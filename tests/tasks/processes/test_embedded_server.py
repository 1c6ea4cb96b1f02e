"""A server that does not come up is told as what it is, each user with a log of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Timer

import pytest

import tasks.processes.embedded_server
from tasks.errors import ExternalToolError, TransientError
from tasks.processes.embedded_server import _Server, _wait_for


@pytest.fixture
def server(tmp_path: Path) -> Iterator[_Server]:
    server = _Server()
    server.log = tmp_path / "server.log"
    server.log.write_text("loading\nno space left\n")
    yield server
    if server.process is not None:
        server.process.kill()
        server.process.wait()


@pytest.mark.parametrize(
    ("program", "startup_s", "error", "words"),
    [
        ("import time; time.sleep(60)", 0.4, TransientError, "did not answer within 0 s"),
        ("raise SystemExit(3)", 60, ExternalToolError, "failed with exit code 3"),
    ],
)
def test_what_kept_it_from_answering_is_said(
    server: _Server,
    monkeypatch: pytest.MonkeyPatch,
    program: str,
    startup_s: float,
    error: type[Exception],
    words: str,
) -> None:
    monkeypatch.setattr(tasks.processes.embedded_server, "STARTUP_S", startup_s)
    server.process = subprocess.Popen([sys.executable, "-c", program])
    with pytest.raises(error, match=words) as caught:
        server._wait(server.process, "http://127.0.0.1:9/api")
    assert "no space left" in str(caught.value)
    logs = [part for part in str(caught.value).split() if part.endswith("server.log")]
    assert Path(logs[0]).read_text() == "loading\nno space left\n"
    assert Path(logs[0]).parent.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(("answers", "said"), [(True, None), (False, "does not answer \\(timed out\\)")])
def test_a_server_that_listens_and_is_silent_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answers: bool, said: str | None
) -> None:
    """One that nobody hears is given up much sooner."""
    for name, seconds in (("ANSWER_S", 0.2), ("RESTART_S", 0.0), ("BUSY_S", 3.0)):
        monkeypatch.setattr(tasks.processes.embedded_server, name, seconds)
    with HTTPServer(
        ("127.0.0.1", 0), BaseHTTPRequestHandler
    ) as server:  # listens now, and answers from then on
        url = f"http://127.0.0.1:{server.server_port}/api"
        later = Timer(0.8 if answers else 30.0, server.serve_forever)
        later.daemon = True
        later.start()
        try:
            with pytest.raises(TransientError, match=said) if said else nullcontext():
                _wait_for(url)
        finally:
            later.cancel()
            if answers:
                server.shutdown()
    told = capsys.readouterr().err.splitlines()
    assert told.count(f"Prefect's server at {url} is busy; waiting for it") == 1
