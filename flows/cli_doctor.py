"""The command that looks before a run does."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from flows.command import checked, fail, show
from flows.options import AsJson, Cluster
from flows.words_at_the_start import verdict_in_words
from tasks.errors import ConfigError
from tasks.ledger.home import config_folder
from tasks.ledger.paths import DatasetPaths
from tasks.settings.cluster import ClusterSettings, load_cluster
from tasks.settings.dataset import check_dataset_id

of_doctor = typer.Typer()


@of_doctor.command(rich_help_panel="To begin with")
def doctor(
    cluster: Cluster = "local",
    dataset: Annotated[str | None, typer.Option(help="Look at this dataset only.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the job scripts and nothing else.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """What is missing, each with how to mend it. Example: iterseg doctor --cluster slurm"""
    settings: ClusterSettings = checked(lambda name: load_cluster(config_folder(), name), cluster, as_json)
    name = checked(check_dataset_id, dataset, as_json)
    paths = DatasetPaths.of(name or "DATASET")

    if dry_run and settings.kind != "slurm":
        fail(
            ConfigError(f"--dry-run prints the scripts of Slurm jobs; {cluster} is no Slurm cluster"), as_json
        )
    if dry_run:
        from tasks.doctor.jobs import scripts

        drawn_up = scripts(settings, paths)
        if as_json:
            typer.echo(json.dumps({"stage": "doctor", "cluster": cluster, "scripts": drawn_up}))
        else:
            typer.echo("\n".join(f"# stage {stage}\n{text}" for stage, text in drawn_up.items()))
        return
    from tasks.doctor.examine import examine

    verdicts = []
    for verdict in examine(settings, cluster, paths, name):
        verdicts.append(verdict)
        if not as_json:  # each as soon as it is known: some take seconds
            typer.echo(verdict_in_words(vars(verdict)))
    report: dict[str, Any] = {
        "stage": "doctor",
        "cluster": cluster,
        "verdicts": [vars(verdict) for verdict in verdicts],
    }
    if as_json:
        show(report, as_json)
    if not all(verdict.good for verdict in verdicts):
        raise typer.Exit(ConfigError.exit_code)
