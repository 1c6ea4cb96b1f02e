"""The command that plays a lab."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from flows.command import run_flow
from flows.options import AsJson, Cluster, Dataset, Verbose

of_simulation = typer.Typer()


@of_simulation.command(rich_help_panel="Proof")
def simulate(
    dataset: Dataset,
    arm: Annotated[list[str] | None, typer.Option(help="An arm of the file; may repeat.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="A seed of the file; may repeat.")] = None,
    cluster: Cluster = "local",
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Play a lab on a labelled dataset. Example: iterseg simulate PM_IASLC --arm random --seed 1"""

    def run() -> dict[str, Any]:
        from flows.simulate import simulate as flow

        return flow(dataset_id=dataset, arms=arm or None, seeds=seed or None, cluster=cluster)

    run_flow(dataset, run, as_json, verbose, cluster)
