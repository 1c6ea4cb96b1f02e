"""What is missing is said before a job is queued, and the job script is what was recorded."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import dask
import pytest

from tasks.doctor.examine import examine
from tasks.doctor.jobs import examine_jobs, scripts
from tasks.ledger.paths import DatasetPaths
from tasks.processes.embedded_server import free_port
from tasks.settings.cluster import STAGES, ClusterSettings, load_cluster

CHECKOUT = Path(__file__).parents[3]
RECORDED = CHECKOUT / "tests" / "data" / "slurm_jobs.txt"


def test_the_job_scripts_are_those_that_were_recorded(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change of a script is a change of what runs on somebody's cluster: look at it, then record it."""
    monkeypatch.setenv("PREFECT_API_URL", "http://login1:4200/api")
    settings = load_cluster(CHECKOUT / "config", "slurm")
    drawn_up = "\n".join(scripts(settings, DatasetPaths(home, "PM_IASLC")).values())
    plain = drawn_up.replace(str(home), "HOME").replace(sys.executable, "PYTHON")
    assert re.sub(r"iterseg-[0-9a-f]{8}-", "iterseg-DIGEST-", plain) == RECORDED.read_text()
    assert not (home / "data" / "procdata").exists()


def test_a_choice_ends_up_in_the_script_of_its_stage_alone(home: Path) -> None:
    settings = ClusterSettings(
        kind="slurm",
        walltime="2-12:00:00",
        cpus=4,
        memory_gb=16,
        workers=1,
        account="radiology",
        stages={"train": {"partition": "gpu", "gres": "gpu:a100:1", "prologue": ["module load cuda"]}},
    )
    found = scripts(settings, DatasetPaths(home, "D"))
    for line in ("#SBATCH -p gpu", "#SBATCH --gres=gpu:a100:1", "module load cuda"):
        assert [line in found[stage].splitlines() for stage in STAGES] == [False, True, False]
    for line in ("#SBATCH -A radiology", "#SBATCH -t 2-12:00:00", "#SBATCH --mem=16G"):
        assert all(line in script.splitlines() for script in found.values())


def test_what_dask_is_told_for_other_work_changes_no_script(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dask's configuration goes before what it is called with: a job of 64 GB asked for one."""
    settings = load_cluster(CHECKOUT / "config", "slurm")
    before = scripts(settings, DatasetPaths(home, "D"))
    for name, value in (("JOB_MEM", "1G"), ("JOB_CPU", "1"), ("JOB_SCRIPT_EPILOGUE", "['rm -r /scratch']")):
        monkeypatch.setenv(f"DASK_JOBQUEUE__SLURM__{name}", value)
    dask.config.refresh()
    assert dask.config.get("jobqueue.slurm.job-mem") == "1G"
    assert scripts(settings, DatasetPaths(home, "D")) == before


def test_a_worker_that_finds_no_flow_says_so_in_the_log_of_its_job(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command keeps Dask quiet, and its environment is that of its jobs: an empty log helps nobody."""
    monkeypatch.setenv("DASK_LOGGING__DISTRIBUTED", "critical")
    script = scripts(load_cluster(CHECKOUT / "config", "slurm"), DatasetPaths(home, "D"))["train"]
    nobody = f"tcp://127.0.0.1:{free_port()}"
    words = {"tls://SCHEDULER": nobody, "--death-timeout 60": "--death-timeout 1"}
    for old, new in words.items():
        assert old in script
        script = script.replace(old, new)
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=CHECKOUT, check=False)
    assert done.returncode
    assert "Timed out" in done.stderr


def test_a_machine_without_slurm_is_told_so(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    settings = load_cluster(CHECKOUT / "config", "slurm")
    found = {verdict.what: verdict for verdict in examine(settings, "slurm", DatasetPaths(home, "D"), None)}
    assert not found["Slurm"].good
    assert "there is no sbatch" in found["Slurm"].said
    assert "jobs of stage train" not in found
    assert not found["Prefect's server"].good


@pytest.mark.parametrize(
    ("sinfo", "good", "words"),
    [
        (
            "echo 'gpu* 2 nodes, gpu:1, 1-00:00:00'; echo 'cpu 4 nodes, (null), 2:00:00'",
            True,
            "; cpu 4 nodes",
        ),
        ("exit 1", False, "sinfo: "),  # it says nothing at all
        (None, False, "there is no sinfo"),
    ],
)
def test_what_sinfo_says_is_the_verdict(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sinfo: str | None, good: bool, words: str
) -> None:
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    programs = dict.fromkeys(("sbatch", "squeue", "scancel", "scontrol"), "exit 0")
    for name, script in {**programs, **({"sinfo": sinfo} if sinfo else {})}.items():
        (bin_dir / name).write_text(f"#!/bin/sh\n{script}\n")
        (bin_dir / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(bin_dir))
    settings = load_cluster(CHECKOUT / "config", "slurm")
    verdict = examine_jobs(settings, "slurm", DatasetPaths(home, "D"))[0]
    assert (verdict.what, verdict.good) == ("Slurm", good)
    assert words in verdict.said
