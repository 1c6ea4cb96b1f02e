"""A server that does not come up is told as what it is, each user with a log of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tasks.embedded_server
from tasks.embedded_server import _Server
from tasks.errors import ExternalToolError, TransientError


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
    ("program", "error", "words"),
    [
        ("import time; time.sleep(60)", TransientError, "did not answer within 0 s"),
        ("raise SystemExit(3)", ExternalToolError, "failed with exit code 3"),
    ],
)
def test_what_kept_it_from_answering_is_said(
    server: _Server, monkeypatch: pytest.MonkeyPatch, program: str, error: type[Exception], words: str
) -> None:
    monkeypatch.setattr(tasks.embedded_server, "STARTUP_S", 0.4)
    server.process = subprocess.Popen([sys.executable, "-c", program])
    with pytest.raises(error, match=words) as caught:
        server._wait(server.process, "http://127.0.0.1:9/api")
    assert "no space left" in str(caught.value)
    logs = [part for part in str(caught.value).split() if part.endswith("server.log")]
    assert Path(logs[0]).read_text() == "loading\nno space left\n"
    assert Path(logs[0]).parent.stat().st_mode & 0o077 == 0
