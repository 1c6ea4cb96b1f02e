"""A server that does not come up is told as what it is, each user with a log of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version
from pathlib import Path
from threading import Thread, Timer

import pytest

import tasks.processes.embedded_server
from tasks.errors import ConfigError, ExternalToolError, TransientError
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


class Prefect(BaseHTTPRequestHandler):
    """Answers as Prefect's server does, or as something else would."""

    code, content = 200, json.dumps(version("prefect"))

    def do_GET(self) -> None:
        self.send_response(self.code)
        self.end_headers()
        self.wfile.write(self.content.encode())

    def log_message(self, *_: object) -> None: ...


@pytest.mark.parametrize(
    ("code", "content", "error", "words"),
    [
        (200, json.dumps(version("prefect")), None, ""),
        (401, "", ConfigError, "refuses us; set PREFECT_API_AUTH_STRING"),
        (404, "", ConfigError, "is not Prefect's API; set PREFECT_API_URL"),
        (200, "<html>the UI, where /api was forgotten</html>", ConfigError, "4200/api"),
        (200, '"2.1.0"', ConfigError, "is of Prefect 2.1.0, and this is"),
        (502, "", TransientError, "does not answer .HTTP Error 502"),
    ],
)
def test_what_answers_must_be_a_server_that_takes_us(
    monkeypatch: pytest.MonkeyPatch, code: int, content: str, error: type[Exception] | None, words: str
) -> None:
    """Prefect's client says of none what is to be done. What a proxy says of one that starts may pass."""
    monkeypatch.setattr(tasks.processes.embedded_server, "RESTART_S", 0.0)
    monkeypatch.setattr(Prefect, "code", code)
    monkeypatch.setattr(Prefect, "content", content)
    with HTTPServer(("127.0.0.1", 0), Prefect) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            with pytest.raises(error, match=words) if error else nullcontext():
                _wait_for(f"http://127.0.0.1:{server.server_port}/api")
        finally:
            server.shutdown()


@pytest.mark.parametrize(("answers", "said"), [(True, None), (False, "does not answer \\(timed out\\)")])
def test_a_server_that_listens_and_is_silent_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answers: bool, said: str | None
) -> None:
    """One that nobody hears is given up much sooner."""
    for name, seconds in (("ANSWER_S", 0.2), ("RESTART_S", 0.0), ("BUSY_S", 3.0)):
        monkeypatch.setattr(tasks.processes.embedded_server, name, seconds)
    with HTTPServer(("127.0.0.1", 0), Prefect) as server:  # listens now, and answers from then on
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
