"""A delivery is told, with what is odd about it; it starts a run only where the dataset asks for that."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from dicom_factory import edit, write_series
from pydantic import SecretStr
from tests_support import PrefectServer, iterseg

from flows import ingest
from tasks.errors import ConfigError
from tasks.ledger.paths import DatasetPaths
from tasks.shown.events import RUN_ON_ARRIVAL

PREFECT = Path(__file__).parents[2] / "deployments" / "prefect.yaml"
NIGHT = {"cron": "0 20 * * *", "cluster": "slurm", "gpu_hours": 40}


@pytest.mark.parametrize(
    ("night", "run", "given"),
    [
        (None, "no", {"cluster": "local", "gpu_hours": None, "jobs": None}),
        (NIGHT, "no", {"cluster": "slurm", "gpu_hours": None, "jobs": None}),
        ({**NIGHT, "on_arrival": {}}, "yes", {"cluster": "slurm", "gpu_hours": None, "jobs": None}),
        ({**NIGHT, "on_arrival": {"jobs": 3}}, "yes", {"cluster": "slurm", "gpu_hours": None, "jobs": 3}),
    ],
)
def test_a_run_is_asked_for_by_the_night_alone(
    home: Path, monkeypatch: pytest.MonkeyPatch, night: dict[str, Any] | None, run: str, given: dict[str, Any]
) -> None:
    """Else the first delivery would train for days on the machine of the worker."""
    (home / "config").mkdir(exist_ok=True)
    (home / "config" / "dataset_D.yaml").write_text(yaml.safe_dump({"night": night}))
    told: list[tuple[str, str, dict[str, str], dict[str, Any]]] = []
    monkeypatch.setattr(
        "flows.ingest.tell_event",
        lambda event, dataset, labels, **payload: told.append((event, dataset, labels, payload)),
    )
    ingest._tell_of_arrival(DatasetPaths.of("D"))
    assert told == [("iterseg.delivery.complete", "D", {RUN_ON_ARRIVAL: run}, given)]


def test_the_trigger_waits_for_that() -> None:
    """The real server is asked in `tests/slurm/test_night.py`."""
    deployments = yaml.safe_load(PREFECT.read_text())["deployments"]
    (trigger,) = [trigger for one in deployments for trigger in one.get("triggers", [])]
    assert trigger["match"][RUN_ON_ARRIVAL] == "yes"


def test_that_scans_name_no_patient_is_said_when_they_come(
    home: Path, tmp_path: Path, prefect_server: PrefectServer
) -> None:
    (home / "config" / "roi_D.yaml").write_text("GTV: GTV\n")
    (home / "config" / "dataset_D.yaml").write_text("arrival_quiet_s: 0\n")
    for name in ("one", "other"):
        for file in write_series(tmp_path / "in" / name, (3, 8, 8), name=name).files:
            edit(file, lambda ds: setattr(ds, "PatientID", ""))
    command = ("ingest", "D", "--from", str(tmp_path / "in"))
    said = "2 studies have no PatientID: each counts as a patient of its own"
    assert said in iterseg(home, *command, **prefect_server.environment).stdout
    assert said not in iterseg(home, *command, **prefect_server.environment).stdout, "nothing new has come"


@pytest.mark.parametrize("run_id", ["a-deployment", None])
def test_studies_are_named_by_a_command_and_not_in_the_ui(
    monkeypatch: pytest.MonkeyPatch, run_id: str | None
) -> None:
    """The server keeps what was typed there, beside a dataset whose scans have no identity."""
    monkeypatch.setattr(ingest, "deployment", SimpleNamespace(id=run_id))
    monkeypatch.setattr(ingest, "retrieve_series", lambda *given, **_: {"asked": given[2]})
    server, study = SecretStr("http://127.0.0.1:9"), SecretStr("1.2.3")
    assert ingest._retrieved("D", server, [], None) == {"asked": []}
    refused = pytest.raises(ConfigError, match="Leave them out")
    with refused if run_id else nullcontext():
        assert ingest._retrieved("D", server, [study], None) == {"asked": ["1.2.3"]}
