"""What `pip install .` gives works outside the checkout, in a home of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from dicom_factory import ball, grid_for, write_rois, write_series
from tests_support import MORTAL, PrefectServer

CHECKOUT = Path(__file__).parents[1]
SHAPE = (5, 16, 18)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from what git knows, so that nothing gets in that merely lies about."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=CHECKOUT, check=True, capture_output=True).stdout
    for name in filter(None, tracked.decode().split("\0")):
        if name.split("/")[0] in ("flows", "tasks", "config", "pyproject.toml", "README.md", "LICENSE"):
            target = source / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((CHECKOUT / name).read_bytes())
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(built)]
    command = [sys.executable, "-m", "pip", "wheel", *options, "."]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (found,) = built.glob("iterseg-*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as pip installs it, scripts and all; the libraries are those of this environment."""
    target = tmp_path_factory.mktemp("site")
    options = ["--quiet", "--no-deps", "--no-index", "--target", str(target)]
    command = [sys.executable, "-m", "pip", "install", *options, str(wheel)]
    subprocess.run(command, check=True, capture_output=True)
    return target


def python(site: Path, at: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The interpreter of the tests with the wheel before everything else, in another folder."""
    env = {**os.environ, "PYTHONPATH": str(site)}
    env.pop("ITERSEG_HOME", None)
    return subprocess.run(
        [*MORTAL, sys.executable, *arguments],
        cwd=at,
        env={**env, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def iterseg(site: Path, home: Path, server: PrefectServer, *arguments: str) -> dict[str, Any]:
    environment = {"ITERSEG_HOME": str(home), **server.environment}
    done = python(site, home, str(site / "bin" / "iterseg"), *arguments, "--json", **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_everything_that_is_read_at_run_time_is_in_it(wheel: Path) -> None:
    inside = set(ZipFile(wheel).namelist())
    for part in ("flows/py.typed", "tasks/py.typed", "tasks/review/report.html.j2"):
        assert part in inside
    for name in ("deidentification.yaml", "clusters/local.yaml", "clusters/slurm.yaml"):
        assert f"tasks/shipped_config/{name}" in inside
    assert not [name for name in inside if "hippocampus" in name or name.startswith("tests")]
    for room in ("flows", "tasks"):
        code = {str(path.relative_to(CHECKOUT)) for path in (CHECKOUT / room).rglob("*.py")}
        assert code <= inside, "pyproject.toml lists the packages by name; a new room must be added"


def test_a_dataset_begins_without_a_checkout(
    installed: Path, tmp_path: Path, prefect_server: PrefectServer
) -> None:
    home, incoming = tmp_path / "home", tmp_path / "incoming"
    home.mkdir()
    ct = write_series(incoming / "ct", grid=grid_for(SHAPE))
    write_rois(incoming / "rt.dcm", ct, {"GTV": ball(SHAPE, (2, 8, 8), 3)})
    place = python(installed, home, "-c", "import tasks; print(tasks.__file__)")
    assert place.stdout.startswith(str(installed))
    iterseg(installed, home, prefect_server, "init", "D", "--look", str(incoming), "--yes")
    iterseg(installed, home, prefect_server, "doctor")
    assert (
        iterseg(installed, home, prefect_server, "ingest", "D", "--from", str(incoming))["files"]["taken"]
        == 6
    )
    report = iterseg(installed, home, prefect_server, "prepare", "D", "--convert-only")
    assert report["totals"] == {"done": 1, "rejected": 0, "ignored": 0}
    assert sorted(path.name for path in home.iterdir()) == ["config", "data"]


def test_without_a_home_it_is_said_what_to_set(installed: Path, tmp_path: Path) -> None:
    done = python(installed, tmp_path, "-m", "flows.cli", "status", "D")
    assert (done.returncode, done.stdout) == (2, "")
    assert "set ITERSEG_HOME to the folder that holds config/ and data/" in done.stderr
