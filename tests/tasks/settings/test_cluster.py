"""A mistake in a cluster's file is named before anything is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.errors import ConfigError
from tasks.settings.cluster import load_cluster

SLURM = "kind: slurm\ncpus: 4\nmemory_gb: 16\nwalltime: '24:00:00'\nworkers: 2\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kind: pbs", "Input should be 'local' or 'slurm'"),
        ("kind: slurm\ncpus: 4\nmemory_gb: 16\nworkers: 2", "stage prepare lacks `walltime`"),
        ("kind: slurm\ncpus: 4\nmemory_gb: 16\nwalltime: 24:00:00", "write it in quotes"),
        *((SLURM.replace("24:00:00", time), "as sbatch takes it") for time in ("one day", "1:2", "1-2:3")),
        (SLURM + "stages: {train: {walltime: soon}}", "stages.train.walltime: write it"),
        (SLURM.replace("workers: 2", ""), "stage prepare lacks `workers`"),
        (SLURM + "stages: {train: {gpus: 1}}", "stages.train.gpus: Extra inputs are not permitted; the keys"),
        (SLURM + "stages: {trian: {cpus: 1}}", "stages.trian"),
        (SLURM + "partition: 'gpu\n#SBATCH --uid=0'", "partition"),
        (SLURM + 'prologue: ["module load cuda\\nrm -r /"]', "prologue.0"),
        ("gres: gpu:1", "`gres` (stage prepare) means something with `kind: slurm` only"),
        ("stop_before_s: 60", "`stop_before_s` means something with `kind: slurm` only"),
        ("logs_url: https://hpc/", "`logs_url` means something with `kind: slurm` only"),
        ("workers: 0", "greater than 0"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "clusters").mkdir()
    (tmp_path / "clusters" / "c.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_cluster(tmp_path, "c")
    assert words in str(caught.value)


def test_a_stage_has_what_all_have_and_what_it_has_instead(tmp_path: Path) -> None:
    (tmp_path / "clusters").mkdir()
    (tmp_path / "clusters" / "c.yaml").write_text(SLURM + "stages: {train: {gres: 'gpu:1', cpus: 12}}")
    settings = load_cluster(tmp_path, "c")
    train, prepare = settings.stage("train"), settings.stage("prepare")
    assert (train.cpus, train.gres, train.walltime) == (12, "gpu:1", "24:00:00")
    assert (prepare.cpus, prepare.gres, prepare.walltime) == (4, None, "24:00:00")


@pytest.mark.parametrize("walltime", ["90", "90:00", "120:00:00", "2-12", "2-12:00", "2-12:00:00"])
def test_a_walltime_is_whatever_sbatch_takes(tmp_path: Path, walltime: str) -> None:
    (tmp_path / "clusters").mkdir()
    (tmp_path / "clusters" / "c.yaml").write_text(SLURM.replace("24:00:00", walltime))
    assert load_cluster(tmp_path, "c").stage("train").walltime == walltime
