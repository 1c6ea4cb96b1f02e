"""`iterseg receive` as a process: it takes what comes, survives being killed, and stops when told."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType

import pytest
from dicom_factory import ball, write_rois, write_series
from dicom_network import send
from tests_support import PrefectServer

from tasks.ledger.paths import DatasetPaths
from tasks.ledger.snapshots import load_snapshots

SHAPE = (6, 20, 24)
RECIPE = Path(__file__).parents[2] / "config" / "deidentification.yaml"


class Receiving:
    """The command, running."""

    def __init__(self, home: Path, server: PrefectServer) -> None:
        env = {**os.environ, "ITERSEG_HOME": str(home), **server.environment}
        command = ["receive", "D", "--allow", "PACS", "--port", "0", "--quiet-s", "1"]
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-m", "flows.cli", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=env,
        )
        self.said: list[str] = []
        self.port = int(self.wait_for(r"listening on 127\.0\.0\.1:(\d+) as ITERSEG, for PACS")[1])

    def __enter__(self) -> Receiving:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def wait_for(self, pattern: str) -> re.Match[str]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line)
            if match := re.search(pattern, line):
                return match
        raise AssertionError("".join(self.said))


@pytest.fixture
def lab(home: Path) -> Path:
    shutil.copy(RECIPE, home / "config")
    return home


def test_what_is_sent_is_ingested_when_it_is_quiet(
    lab: Path, prefect_server: PrefectServer, tmp_path: Path
) -> None:
    series = write_series(tmp_path / "ct", SHAPE, patient="XYZZY-0815")
    drawn = write_rois(tmp_path / "rt", series, {"GTV": ball(SHAPE, (3, 8, 8), 3)})
    with Receiving(lab, prefect_server) as receiving:
        # A modality may open an association for each image.
        for file in [*series.files, drawn]:
            assert send(receiving.port, [file]) == [0]
        assert "7 taken" in receiving.wait_for(r"ingested .*__D: (.*)")[1]
        receiving.process.send_signal(signal.SIGTERM)
        receiving.wait_for("receive: stopped")
        assert receiving.process.wait(timeout=60) == 0
    assert not any("XYZZY" in line for line in receiving.said)


def test_a_killed_receiver_loses_no_instance_and_takes_no_half_series(
    lab: Path, prefect_server: PrefectServer, tmp_path: Path
) -> None:
    series = write_series(tmp_path / "ct", SHAPE)
    with Receiving(lab, prefect_server) as receiving:
        send(receiving.port, series.files, cut_after=3)
        receiving.process.kill()
    with Receiving(lab, prefect_server) as receiving:
        assert "after 3 instances" in receiving.wait_for(r"held case\w+: the transfer was cut off (.*)")[1]
        assert load_snapshots(DatasetPaths.of("D")) == []
        send(receiving.port, series.files[3:])
        assert "6 taken" in receiving.wait_for(r"ingested .*__D: (.*)")[1]
