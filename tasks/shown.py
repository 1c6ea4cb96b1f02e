"""What the UI shows besides runs: tables and progress, by key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefect.artifacts import create_table_artifact

PATHS_ARE_FOR_SCRIPTS = ("image", "label")


def artifact_key(*parts: str) -> str:
    """Keys of artifacts are lower case, digits and dashes."""
    return "-".join(parts).lower().replace("_", "-")


def show_table(stage: str, dataset_id: str, rows: Sequence[dict[str, Any]], summary: str) -> None:
    """Show a table in the UI; one of the same stage and dataset becomes its newest version."""
    table = [
        {k: "" if v is None else str(v) for k, v in row.items() if k not in PATHS_ARE_FOR_SCRIPTS}
        for row in rows
    ]
    create_table_artifact(
        table=table or [{"": "nothing"}], key=artifact_key(stage, dataset_id), description=summary
    )
