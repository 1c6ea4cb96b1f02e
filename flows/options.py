"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Dataset = Annotated[str, typer.Argument(help="The dataset's id, as in config/roi_<dataset_id>.yaml.")]
Day = Annotated[
    str | None,
    typer.Option(
        "--date", metavar="YYYY-MM-DD", help="A day; left out: today for `ingest`, else the newest."
    ),
]
Cluster = Annotated[str, typer.Option(help="A file in config/clusters/, without .yaml.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show Prefect's own log.")]
