"""`iterseg doctor` asks the services: a real Prefect server, a real Orthanc, and what pretends to be one."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.error
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from dicom_network import Orthanc
from prefect.settings import PREFECT_API_URL, temporary_settings
from tests_support import MORTAL, PrefectServer, iterseg, wait_until

from tasks.doctor.services import examine_services
from tasks.doctor.verdicts import Verdict
from tasks.settings.cluster import ClusterSettings
from tasks.settings.dataset import load_dataset_settings


@pytest.fixture
def lab(home: Path) -> Path:
    (home / "config" / "roi_D.yaml").write_text("GTV: GTV\n")
    return home


def choose(home: Path, **choices: Any) -> None:
    file = home / "config" / "dataset_D.yaml"
    file.write_text(yaml.safe_dump({"arrival_quiet_s": 0, **choices}))
    load_dataset_settings(home / "config", "D")


def asked(home: Path, server: str | None = None) -> Mapping[str, Verdict]:
    """What the services say; without a server that was set, none is asked."""
    settings = {"D": load_dataset_settings(home / "config", "D")}
    with temporary_settings({PREFECT_API_URL: server}):
        return {verdict.what: verdict for verdict in examine_services(ClusterSettings(), settings)}


def test_server_and_worker(lab: Path, prefect_server: PrefectServer) -> None:
    """Without a night nobody needs a worker; with one, nights wait for it."""
    url = prefect_server.api_url
    assert url in asked(lab, url)["Prefect's server"].said
    assert asked(lab, url)["Prefect's worker"].good
    choose(lab, night={"cron": "0 20 * * *"})
    worker = asked(lab, url)["Prefect's worker"]
    assert not worker.good
    assert "there is no work pool iterseg; needed by the nights of D" in worker.said
    prefect_server.post("/work_pools/", {"name": "iterseg", "type": "process"})
    assert "none is online" in asked(lab, url)["Prefect's worker"].said
    command = [*MORTAL, sys.executable, "-m", "prefect", "worker", "start", "--pool", "iterseg"]
    environment = {**os.environ, **prefect_server.environment}
    with (lab / "worker.log").open("wb") as log:
        started = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        wait_until(lambda: asked(lab, url)["Prefect's worker"].said == "1 online", 60)
    finally:
        started.terminate()
        started.wait(timeout=60)


def test_a_server_that_is_protected_from_other_pages_is_asked_too(
    lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `make server` starts it."""
    monkeypatch.setenv("PREFECT_SERVER_CSRF_PROTECTION_ENABLED", "true")
    (tmp_path / "prefect").mkdir()
    with PrefectServer(tmp_path / "prefect") as server:
        with pytest.raises(urllib.error.HTTPError, match="403"):
            server.post("/work_pools/", {"name": "iterseg", "type": "process"})
        environment = {**os.environ, **server.environment}
        command = [sys.executable, "-m", "prefect", "work-pool", "create", "iterseg", "--type", "process"]
        subprocess.run(command, env=environment, check=True, capture_output=True)
        assert asked(lab, server.api_url)["Prefect's worker"].said.startswith("none is online")


class Pretender(BaseHTTPRequestHandler):
    """Answers every question alike."""

    code, content = 200, b'"2.1.0"'

    def do_GET(self) -> None:
        self.send_response(self.code)
        self.end_headers()
        self.wfile.write(self.content)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def pretender() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Pretender)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/api"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("code", "content", "said", "mend"),
    [
        (200, b'"2.1.0"', "is of Prefect 2.1.0, and this is 3", "same environment"),
        (401, b"", "refuses us", "PREFECT_API_AUTH_STRING"),
        (500, b"", "500", "is it running?"),
        (200, b"<html>", "is not Prefect's API", "PREFECT_API_URL"),
    ],
)
def test_a_server_that_is_another(
    lab: Path,
    pretender: str,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    content: bytes,
    said: str,
    mend: str,
) -> None:
    monkeypatch.setattr(Pretender, "code", code)
    monkeypatch.setattr(Pretender, "content", content)
    found = asked(lab, pretender)
    assert not found["Prefect's server"].good
    assert said in found["Prefect's server"].said
    assert mend in found["Prefect's server"].mend
    assert "Prefect's worker" not in found


def test_a_server_that_is_away(lab: Path) -> None:
    found = asked(lab, "http://127.0.0.1:9/api")["Prefect's server"]
    assert "refused" in found.said.lower()


def test_where_predictions_go(lab: Path, orthanc: Orthanc) -> None:
    """A DICOMweb server, a C-STORE SCP that knows us, and one that is not there."""
    places = [
        {"name": "viewer", "dicomweb": orthanc.DICOMWEB},
        {"name": "archive", "host": "127.0.0.1", "port": 4242, "aet": "ORTHANC"},
    ]
    choose(lab, send_to=places)
    report = orthanc.iterseg(lab, "doctor")
    found = {verdict["what"]: verdict for verdict in report["verdicts"]}
    assert "answers" in found["predictions to viewer"]["said"]
    assert "ORTHANC at 127.0.0.1:4242 answers" in found["predictions to archive"]["said"]
    choose(lab, send_to=[{**places[1], "port": 9}, {**places[0], "dicomweb": "http://127.0.0.1:9/x"}])
    answer = iterseg(lab, "doctor")
    assert (answer.returncode, answer.stderr) == (2, "")
    assert "WRONG predictions to archive: ORTHANC cannot be reached at 127.0.0.1:9" in answer.stdout
    assert "WRONG predictions to viewer: the DICOMweb server cannot be reached" in answer.stdout
