"""`iterseg doctor` on a machine: what is wrong is named with its mend, and what is well is said to be."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.doctor import examine as doctor
from tasks.doctor.examine import examine
from tasks.doctor.verdicts import Verdict
from tasks.ledger.paths import DatasetPaths
from tasks.settings.cluster import ClusterSettings

SLURM = ClusterSettings(
    kind="slurm",
    walltime="1:00:00",
    cpus=1,
    memory_gb=1,
    workers=1,
    stages={"train": {"gres": "gpu:1"}},
)


LOCAL = ClusterSettings()


def verdicts(home: Path, chosen: str | None = None, cluster: ClusterSettings = LOCAL) -> dict[str, Verdict]:
    found = list(examine(cluster, "local", DatasetPaths(home, "D"), chosen))
    return {verdict.what: verdict for verdict in found}


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch takes seconds to import: once is enough."""
    if request.node.name != "test_a_machine_that_is_well":
        monkeypatch.setattr(doctor, "LOOK_AT_TORCH", """print('["2.13.0+cpu", null, []]')""")


def test_a_machine_that_is_well(home: Path) -> None:
    (home / "config" / "roi_D.yaml").write_text("GTV: GTV\n")
    found = verdicts(home)
    assert all(verdict.good for verdict in found.values()), found
    assert found["dataset D"].said == "GTV on CT, 5 folds"
    assert "each command starts one" in found["Prefect's server"].said


def torch_says(monkeypatch: pytest.MonkeyPatch, gpus: list[str], answer: str | Exception) -> None:
    def run(*_: Any, **__: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(stdout=answer)

    monkeypatch.setattr(doctor, "gpus", lambda: gpus)
    monkeypatch.setattr(doctor.subprocess, "run", run)
    monkeypatch.setattr(doctor, "code_version", lambda: "0")


@pytest.mark.parametrize(
    ("gpus", "answer", "good", "words"),
    [
        ([], '["2.13.0+cpu", null, []]', True, "there is no GPU here"),
        (["0", "1"], '["2.13.0+cu130", "13.0", ["A100", "A100"]]', True, "on 2 × A100"),
        (["0"], '["2.13.0+cpu", null, []]', False, "it is a build for CPUs"),
        (["0"], '["2.13.0+cu130", "13.0", []]', False, "which the driver may be too old for"),
        ([], subprocess.TimeoutExpired("python", 1), False, "takes more than"),
        (
            [],
            subprocess.CalledProcessError(1, "python", "", "x\nlibcublas.so: none"),
            False,
            "libcublas.so: none",
        ),
    ],
)
def test_a_torch_that_cannot_use_the_gpus_is_told_apart(
    home: Path, monkeypatch: pytest.MonkeyPatch, gpus: list[str], answer: Any, good: bool, words: str
) -> None:
    torch_says(monkeypatch, gpus, answer)
    found = verdicts(home)["torch"]
    assert (found.good, bool(found.mend)) == (good, not good)
    assert words in found.said


def test_packages_that_are_not_what_was_asked_for(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "requires", lambda _: ["numpy<1", "no-such-package>=2", "scipy"])
    found = verdicts(home)["packages"]
    assert not found.good
    assert "numpy is" in found.said
    assert "<1 is asked for" in found.said
    assert "no-such-package is missing" in found.said
    assert "scipy" not in found.said


def test_a_full_disk_and_a_folder_that_is_not_ours(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=2e9))
    assert verdicts(home)["ITERSEG_HOME"].said.endswith("2 GB free")
    assert not verdicts(home)["ITERSEG_HOME"].good
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    assert "cannot be written to" in verdicts(home)["ITERSEG_HOME"].said


def test_variables_of_nnunet_that_mean_nothing_here_are_named(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("nnUNet_raw", "/elsewhere")
    assert "nnUNet_raw are set here, and IterSeg takes its own" in verdicts(home)["nnU-Net"].said


def test_every_dataset_is_looked_at_or_the_one_that_is_asked_for(home: Path) -> None:
    (home / "config" / "roi_D.yaml").write_text("GTV: GTV\n")
    (home / "config" / "roi_E.yaml").write_text("GTV: (\n")
    assert [verdicts(home)[f"dataset {name}"].good for name in "DE"] == [True, False]
    assert "is no pattern" in verdicts(home)["dataset E"].said
    assert "dataset E" not in verdicts(home, "D")
    assert "does not exist" in verdicts(home, "F")["dataset F"].said


@pytest.mark.parametrize(
    ("build", "device", "good"),
    [
        ('["2.13.0+cpu", null, []]', "auto", False),
        ('["2.13.0+cpu", null, []]', "cpu", True),
        ('["2.13.0+cu130", "13.0", []]', "auto", True),
    ],
)
def test_a_build_for_cpus_is_none_for_jobs_with_gpus(
    home: Path, monkeypatch: pytest.MonkeyPatch, build: str, device: str, good: bool
) -> None:
    """On a login node without a GPU nothing else would tell."""
    (home / "config" / "roi_D.yaml").write_text("GTV: GTV\n")
    (home / "config" / "dataset_D.yaml").write_text(f"training: {{device: {device}}}\n")
    monkeypatch.setattr("tasks.doctor.examine.examine_jobs", lambda *_: [])
    torch_says(monkeypatch, [], build)
    assert verdicts(home, cluster=SLURM)["torch"].good == good


def test_a_thousand_epochs_on_a_cpu_are_not_left_unsaid(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "config" / "roi_D.yaml").write_text("GTV: GTV\n")
    torch_says(monkeypatch, [], '["2.13.0+cpu", null, []]')
    assert "1,000 epochs a fold take it weeks" in verdicts(home)["torch"].said
    assert "docs/tutorial.md" in verdicts(home)["torch"].mend


def test_a_night_that_no_clock_knows_is_told(home: Path) -> None:
    (home / "config" / "roi_D.yaml").write_text("GTV: GTV\n")
    (home / "config" / "dataset_D.yaml").write_text('night: {cron: "0 25 * * *"}\n')
    found = verdicts(home)["dataset D"]
    assert not found.good
    assert "night.cron" in found.said


@pytest.mark.parametrize(
    ("file", "words"),
    [("clusters/gone.yaml", "there is no cluster|gone"), ("notifications.yaml", "notifications")],
)
def test_a_night_that_lacks_what_it_names_is_told(home: Path, file: str, words: str) -> None:
    """A file that was renamed since `make deploy` shows as a failed night else."""
    (home / "config" / "roi_D.yaml").write_text("GTV: GTV\n")
    cluster = "gone" if file.startswith("clusters") else "local"
    (home / "config" / "dataset_D.yaml").write_text(f'night: {{cron: "0 20 * * *", cluster: {cluster}}}\n')
    (home / "config" / "clusters" / "local.yaml").write_text("workers: 1\n")
    (home / "config" / "notifications.yaml").write_text("nonsense: 1\n" if cluster == "local" else "{}\n")
    found = verdicts(home)["dataset D"]
    assert not found.good
    assert re.search(words, found.said)
