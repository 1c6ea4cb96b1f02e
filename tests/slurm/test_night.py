"""Nights on a cluster, as a lab has them: deployments, a worker, a schedule, jobs that die."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from night_lab import Night
from private_slurm import PrivateSlurm
from slurm_lab import new_lab
from tests_support import PrefectServer, wait_until
from tiny_lab import deliver
from web_hook import web_hook

from tasks.ledger.models import load_models

pytestmark = pytest.mark.slurm
NIGHT = {"cron": "* * * * *", "timezone": "Europe/Berlin", "cluster": "slurm", "late_after_h": 1}


@pytest.fixture(scope="module")
def night(
    tmp_path_factory: pytest.TempPathFactory, slurm: PrivateSlurm, server_of_nights: PrefectServer
) -> Iterator[Night]:
    lab = new_lab(tmp_path_factory.mktemp("night") / "home", slurm, server_of_nights)
    slurm.settle()
    night = Night(lab, tmp_path_factory.mktemp("elsewhere"))
    night.deploy()
    with night.worker():
        yield night


@pytest.mark.timeout(600)
def test_two_nights_with_a_kill_in_each(night: Night) -> None:
    lab = night.lab
    for day in (20, 21):
        if day == 21:
            deliver(lab.home, day)
        run = night.ask("iterate/nightly", dataset_id="D", cluster="slurm")
        wait_until(lambda: len(lab.folds_that_run()) == 2, 180)
        # One that is killed before it could tell the server that it runs is in no UI.
        wait_until(lambda: lab.runs_of_folds("RUNNING") == 2, 30)
        lab.workers()[0].kill()
        assert night.ended(run) == ("COMPLETED", "Completed"), night.state(run)
        wait_until(lambda: not lab.slurm.jobs(), 30)
    first, second = load_models(lab.paths)
    assert second.parent == first.model_id
    assert second.promoted
    assert {state for _, state in lab.runs()} == {"COMPLETED", "CRASHED"}


@pytest.mark.timeout(900)
def test_a_night_with_nothing_new_ends_in_seconds_and_says_so(night: Night) -> None:
    began = time.monotonic()
    run = night.ask("iterate/nightly", dataset_id="D", cluster="slurm")
    assert night.ended(run, 60) == ("COMPLETED", "Nothing new")
    assert time.monotonic() - began < 60


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"dataset_id": "../x"}, "does not match"),
        ({"dataset_id": "D", "cluster": "a b"}, "does not match"),
        ({"dataset_id": "D", "gpu_hours": -1}, "minimum"),
        ({}, "required"),
    ],
)
def test_parameters_are_checked_before_anything_starts(
    night: Night, parameters: dict[str, Any], words: str
) -> None:
    with pytest.raises(AssertionError, match=words):
        night.ask("iterate/nightly", **parameters)


def test_a_folders_name_may_be_a_patients_and_is_refused(night: Night) -> None:
    run = night.ask("ingest/on-demand", dataset_id="D", source="/incoming/DOE^JANE")
    assert night.ended(run, 60)[0] == "FAILED"
    assert "a folder's name may be a patient's" in night.state(run)["message"]


@pytest.mark.timeout(900)
def test_a_run_that_is_cancelled_in_the_ui_leaves_no_job(night: Night) -> None:
    lab = night.lab
    deliver(lab.home, 22)
    run = night.ask("iterate/nightly", dataset_id="D", cluster="slurm")
    wait_until(lambda: len(lab.folds_that_run()) == 2, 180)
    cancelling = {"type": "CANCELLING", "name": "Cancelling"}
    lab.server.post(f"/flow_runs/{run}/set_state", {"state": cancelling})
    assert night.ended(run, 60)[0] == "CANCELLED"
    wait_until(lambda: not lab.slurm.jobs() and not lab.folds_that_run(), 30)
    assert {state for _, state in lab.runs()} <= {"COMPLETED", "CRASHED", "CANCELLED", "FAILED"}


@pytest.mark.timeout(900)
def test_the_budget_of_a_night_is_kept_and_the_next_goes_on(night: Night) -> None:
    """Each fold has its share also where they come one after another: a job that is done makes room."""
    lab = night.lab
    lab.cluster(stages={"train": {"gres": "gpu:1", "workers": 1}})
    try:
        run = night.ask("iterate/nightly", dataset_id="D", cluster="slurm", gpu_hours=0.001)
        assert night.ended(run) == ("COMPLETED", "Budget spent")
    finally:
        lab.cluster()
    assert "2 trainings are unfinished" in night.state(run)["message"]
    before = len(load_models(lab.paths))
    run = night.ask("iterate/nightly", dataset_id="D", cluster="slurm", jobs=2)
    assert night.ended(run) == ("COMPLETED", "Completed")
    assert len(load_models(lab.paths)) == before + 1


@pytest.mark.timeout(900)
def test_a_schedule_makes_runs_and_a_busy_dataset_skips_them(night: Night) -> None:
    """With SQLAlchemy 2.1 a cron schedule makes no run, in silence."""
    lab = night.lab
    file = lab.home / "config" / "dataset_D.yaml"
    chosen = yaml.safe_load(file.read_text())
    # It waits for its turn as long as it is not late.
    file.write_text(yaml.safe_dump({**chosen, "night": {**NIGHT, "late_after_h": 0.01}}))
    try:
        assert "D at '* * * * *' (Europe/Berlin) on slurm" in night.deploy()
        lock = lab.paths.procdata / "lock.json"
        since = datetime.now().isoformat(timespec="seconds")
        lock.write_text(json.dumps({"host": "another", "pid": 1, "since": since}))

        def skipped() -> bool:
            chosen = {"flow_runs": {"state": {"name": {"any_": ["Skipped"]}}}}
            runs = [run for run in lab.server.post("/flow_runs/filter", chosen) if run["auto_scheduled"]]
            return any("another run works on this dataset" in run["state"]["message"] for run in runs)

        wait_until(skipped, 150)
    finally:
        lock.unlink(missing_ok=True)
        file.write_text(yaml.safe_dump(chosen))
        night.deploy()


@pytest.mark.timeout(900)
def test_a_delivery_that_is_complete_starts_a_run(night: Night, tmp_path: Path) -> None:
    """In its own budget, which the file says, and where nights run."""
    file = night.lab.home / "config" / "dataset_D.yaml"
    before = file.read_text()
    file.write_text(yaml.safe_dump({**yaml.safe_load(before), "night": {**NIGHT, "on_arrival": {"jobs": 3}}}))
    deliver(tmp_path / "pacs", 23, labelled=0)
    night.call("-m", "flows.cli", "ingest", "D", "--from", str(tmp_path / "pacs"), "--date", "2026-11-23")

    def arrived() -> list[dict[str, Any]]:
        deployment = night.lab.server.get("/deployments/name/iterate/on-arrival")["id"]
        chosen = {"flow_runs": {"deployment_id": {"any_": [deployment]}}}
        runs: list[dict[str, Any]] = night.lab.server.post("/flow_runs/filter", chosen)
        return [run for run in runs if run["state_type"] == "COMPLETED"]

    try:
        wait_until(lambda: bool(arrived()), 400)
    finally:
        file.write_text(before)
    (run,) = arrived()
    given = {name: run["parameters"].get(name) for name in ("cluster", "gpu_hours", "jobs")}
    assert given == {"cluster": "slurm", "gpu_hours": None, "jobs": 3}


TELL = "from tasks.shown.events import tell_event; tell_event({event!r}, 'D', {payload})"


@pytest.mark.timeout(900)
def test_people_hear_of_failures_promotions_and_a_full_queue(night: Night) -> None:
    lab = night.lab
    settings = lab.home / "config" / "notifications.yaml"
    rois = lab.home / "config" / "roi_D.yaml"
    try:
        with web_hook() as (address, heard):
            settings.write_text(f"webhook: {address}\n")
            night.deploy()
            rois.write_text("GTV: '['\n")
            run = night.ask("iterate/nightly", dataset_id="D", cluster="slurm")
            assert night.ended(run)[0] == "FAILED"
            night.call(
                "-c", TELL.format(event="iterseg.model.promoted", payload="model='m7', why='not worse'")
            )
            night.call("-c", TELL.format(event="iterseg.queue.full", payload="waiting=3, reason='Resources'"))
            expected = ["ended as Failed", "D uses model m7: not worse", "D waits for the cluster: 3 jobs"]
            wait_until(lambda: all(any(words in text for text in heard) for words in expected), 60)
            assert len(heard) == len(expected)
    finally:
        rois.write_text("GTV: GTV\n")
        settings.unlink()
        night.deploy()
    assert not [a for a in lab.server.post("/automations/filter", {}) if a["name"].startswith("iterseg: ")]
