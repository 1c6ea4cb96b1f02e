"""The commands about where work runs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from flows.command import checked, fail, show
from flows.options import AsJson, Cluster
from tasks.cluster_settings import ClusterSettings, load_cluster
from tasks.errors import ConfigError
from tasks.ledger.paths import DatasetPaths, home

of_clusters = typer.Typer()


@of_clusters.command()
def doctor(
    cluster: Cluster = "local",
    dataset: Annotated[str, typer.Option(help="Whose jobs; any dataset's are alike.")] = "DATASET",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the job scripts and nothing else.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """What a cluster lacks before a job is queued. Example: iterseg doctor --cluster slurm"""
    settings: ClusterSettings = checked(lambda name: load_cluster(home() / "config", name), cluster, as_json)
    paths = DatasetPaths.of(dataset)
    from tasks.doctor import examine, scripts

    if dry_run and settings.kind != "slurm":
        fail(
            ConfigError(f"--dry-run prints the scripts of Slurm jobs; {cluster} is no Slurm cluster"), as_json
        )
    if dry_run:
        typer.echo("\n".join(f"# stage {stage}\n{text}" for stage, text in scripts(settings, paths).items()))
        return
    verdicts = examine(settings, cluster, paths)
    report: dict[str, Any] = {
        "stage": "doctor",
        "cluster": cluster,
        "verdicts": [vars(verdict) for verdict in verdicts],
    }
    show(report, as_json)
    if not all(verdict.good for verdict in verdicts):
        raise typer.Exit(ConfigError.exit_code)
