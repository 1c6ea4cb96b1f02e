"""Peers of the network for tests: a sender, and a real Orthanc that nobody outside can reach."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import pydicom
import pytest
from apt_packages import require_packages
from pynetdicom import AE, build_context
from pynetdicom.pdu import A_RELEASE_RQ
from tests_support import PrefectServer
from with_loopback import alone, may_be_alone

PLUGIN = "libOrthancDicomWeb.so"
PACKAGES = ("orthanc", "orthanc-dicomweb")


def send(
    port: int,
    files: Sequence[Path],
    *,
    calling: str = "PACS",
    called: str = "ITERSEG",
    cut_after: int | None = None,
    hang_up: bool = False,
) -> list[int]:
    """C-STORE files in one association; the status of each. ``cut_after``: the line breaks there.

    ``hang_up``: the connection is closed with the request to release, before it is answered.

    Raises
    ------
    ConnectionRefusedError
        Where the association is refused.
    """
    datasets = [pydicom.dcmread(file) for file in files]
    pairs = {(str(ds.SOPClassUID), str(ds.file_meta.TransferSyntaxUID)) for ds in datasets}
    ae = AE(ae_title=calling)
    ae.requested_contexts = [build_context(sop_class, syntax) for sop_class, syntax in sorted(pairs)]
    association = ae.associate("127.0.0.1", port, ae_title=called)
    if not association.is_established:
        raise ConnectionRefusedError
    statuses = []
    for number, ds in enumerate(datasets):
        if number == cut_after:
            association.abort()
            return statuses
        statuses.append(int(association.send_c_store(ds).Status))
    if hang_up:
        line = association.dul.socket.socket
        line.sendall(A_RELEASE_RQ().encode())
        line.close()
        association.kill()
    else:
        association.release()
    return statuses


def require_orthanc() -> None:
    """Install Orthanc where that is allowed, or skip with a visible line."""
    if not _plugin():
        require_packages("Orthanc", PACKAGES)
    if not may_be_alone():
        pytest.skip("Orthanc listens everywhere, and this user may not make a network namespace for it")


def _program() -> str | None:
    return shutil.which("Orthanc", path="/usr/sbin:/usr/bin:/usr/local/bin")


def _plugin() -> Path | None:
    if _program() is None:
        return None
    return next(iter(Path("/usr").rglob(PLUGIN)), None)


ACCESS = {"ITERSEG_DICOMWEB_USER": "lab", "ITERSEG_DICOMWEB_PASSWORD": "made-up"}


class Orthanc:
    """A real Orthanc in a network namespace of its own, with only a loopback; gone when it is left."""

    URL = "http://127.0.0.1:8042"
    DICOMWEB = f"{URL}/dicom-web"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._until_left = ExitStack()

    @cached_property
    def prefect(self) -> PrefectServer:
        """A server of Prefect in its network, as soon as somebody wants it."""
        home = self.folder / "prefect"
        home.mkdir()
        return self._until_left.enter_context(PrefectServer(home, self.inside))

    def __enter__(self) -> Orthanc:
        plugin = _plugin()
        configuration = {
            "Plugins": [str(plugin)],
            "StorageDirectory": str(self.folder / "storage"),
            "IndexDirectory": str(self.folder / "index"),
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": True,
            "RegisteredUsers": {"lab": "made-up"},
            "HttpPort": 8042,
            "DicomPort": 4242,
            "DicomAet": "ORTHANC",
            "UnknownSopClassAccepted": True,
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }
        (self.folder / "orthanc.json").write_text(json.dumps(configuration))
        with (self.folder / "orthanc.log").open("wb") as log:
            command = alone(_program() or "Orthanc", str(self.folder / "orthanc.json"))
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while self.request("GET", "/system") is None:
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise RuntimeError((self.folder / "orthanc.log").read_text())
            time.sleep(0.2)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._until_left.close()
        self._process.terminate()
        self._process.wait(timeout=30)

    def inside(self, *command: str) -> list[str]:
        """A command that runs in Orthanc's network."""
        return ["nsenter", "-t", str(self._process.pid), "-n", *command]

    def request(self, method: str, path: str, body: Path | None = None) -> Any:
        """Ask its REST API; None where it does not answer yet."""
        command = ["curl", "-sf", "-u", "lab:made-up", "-X", method, f"{self.URL}{path}"]
        if body is not None:
            command += ["--data-binary", f"@{body}"]
        done = subprocess.run(self.inside(*command), capture_output=True, check=False, timeout=30)
        return json.loads(done.stdout or b"{}") if done.returncode == 0 else None

    def iterseg(self, home: Path, *arguments: str) -> dict[str, Any]:
        """A command in its network; what it reports."""
        env = {**os.environ, **ACCESS, "ITERSEG_HOME": str(home), **self.prefect.environment}
        command = self.inside(sys.executable, "-m", "flows.cli", *arguments, "--json")
        done = subprocess.run(command, capture_output=True, text=True, env=env, check=False, timeout=580)
        assert done.returncode == 0, done.stdout + done.stderr
        report: dict[str, Any] = json.loads(done.stdout)
        return report

    def upload(self, files: Sequence[Path]) -> None:
        """Put files into it."""
        for file in files:
            assert self.request("POST", "/instances", file) is not None
