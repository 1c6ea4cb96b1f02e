from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from dicom_network import Orthanc, require_orthanc
from hypothesis import settings
from tests_support import PrefectServer
from xdist.scheduler import LoadScopeScheduling

# An example that takes a machine in use longer than 0.2 s is no failure of what is tested.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

TESTS = Path(__file__).parent
SARCOMA = TESTS / "data" / "sarcoma"
SHARED = {
    **dict.fromkeys(
        ("flows/test_exchange.py", "flows/test_loop.py", "flows/test_survival.py"), "sarcoma lab"
    ),
    **dict.fromkeys(("browser/test_pages.py", "browser/test_viewer.py"), "browser"),
}
"""Files that share a lab which takes a minute to make, or a browser and what it shows."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty ITERSEG_HOME."""
    root = tmp_path / "home"
    (root / "config" / "clusters").mkdir(parents=True)
    (root / "data").mkdir()
    # Deliveries of tests are whole before they are ingested; nobody need wait for more.
    (root / "config" / "dataset_D.yaml").write_text("arrival_quiet_s: 0\n")
    monkeypatch.setenv("ITERSEG_HOME", str(root))
    return root


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """A real Prefect server on a free port of loopback, with a home of its own."""
    with PrefectServer(tmp_path_factory.mktemp("prefect")) as server:
        yield server


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    """An empty PACS in a network of its own."""
    require_orthanc()
    (tmp_path / "orthanc").mkdir()
    with Orthanc(tmp_path / "orthanc") as server:
        yield server


@pytest.fixture
def sarcoma() -> Path:
    """Three real CTs and two real MRs with RTSTRUCT and reference masks."""
    return SARCOMA


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Where tests run side by side, those of a file stay together, and so do files that share a lab."""
    return ByWhatTheyShare(config, log)


class ByWhatTheyShare(LoadScopeScheduling):  # type: ignore[misc]
    """Divides files, and not tests: each sets up what its tests share."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::", maxsplit=1)[0]
        return SHARED.get(file.removeprefix("tests/"), file)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where the time is limited, another file comes first each day, so that none is left out for long."""
    files = list(dict.fromkeys(item.path for item in items))
    if "TESTS_BEGIN_BEFORE" in os.environ and files:
        first = date.today().toordinal() % len(files)
        order = files[first:] + files[:first]
        items.sort(key=lambda item: order.index(item.path))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Where the time is limited, what would not be finished is not begun, and says so."""
    limit = os.environ.get("TESTS_BEGIN_BEFORE")
    if limit is not None and time.time() > float(limit):
        pytest.skip(f"{item.name}: not begun, the time is up")


def pytest_configure() -> None:
    # Nothing that a test starts may call home, and no test sees the user's own Prefect.
    os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
    os.environ["DO_NOT_TRACK"] = "1"
    os.environ.pop("PREFECT_API_URL", None)
    # Where it is set each of a thousand programs compiles this project's modules anew.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    assert sys.version_info >= (3, 11)
