from __future__ import annotations

import pytest
from sarcoma_lab import PLANTED_NAME, SETTINGS, Lab, deliver
from tests_support import PrefectServer


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory, prefect_server: PrefectServer) -> Lab:
    """Two iterations: two patients are annotated, and the third one's annotation arrives later."""
    home, work = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("work")
    (home / "config").mkdir()
    (home / "config" / "roi_STS.yaml").write_text("GTV: GTV.*\n")
    (home / "config" / "dataset_STS.yaml").write_text(SETTINGS)
    lab = Lab(home, prefect_server, {}, work / PLANTED_NAME)
    for patient in ("STS_002", "STS_019"):
        deliver(work, patient, "image", "mask")
    deliver(work, "STS_025", "image")
    commands = {
        "ingest 1": ["ingest", "STS", "--from", str(work / PLANTED_NAME), "--date", "2026-11-22", "--json"],
        "run 1": ["run", "STS", "--json"],
        "run again": ["run", "STS", "--json"],
    }
    for name, command in commands.items():
        lab.said[name] = lab.run(*command)
        assert lab.said[name].returncode == 0, lab.said[name].stderr
    second = deliver(tmp_path_factory.mktemp("second"), "STS_025", "mask").parent
    for name, command in {
        "ingest 2": ["ingest", "STS", "--from", str(second), "--date", "2026-11-23", "--json"],
        "run 2": ["run", "STS", "--json"],
    }.items():
        lab.said[name] = lab.run(*command)
        assert lab.said[name].returncode == 0, lab.said[name].stderr
    return lab
