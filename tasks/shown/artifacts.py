"""What the UI shows besides runs: tables by key, and what broke without anybody's name."""

from __future__ import annotations

import re
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote
from uuid import UUID

import httpx
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.exceptions import MissingContextError
from prefect.logging import get_logger, get_run_logger

from tasks.ledger.home import is_a_lab

PATHS_ARE_FOR_SCRIPTS = ("image", "label")
RESTS = 10
"""Times as long as a server was waited for in vain: of a training no more than a tenth is lost to that."""


def artifact_key(*parts: str) -> str:
    """Keys of artifacts are lower case, digits and dashes; names of models have dots, too."""
    return re.sub(r"[^a-z0-9-]", "-", "-".join(parts).lower())


def show_table(stage: str, dataset_id: str, rows: Sequence[dict[str, Any]], summary: str) -> None:
    """Show a table in the UI; one of the same stage and dataset becomes its newest version.

    A simulated lab shows none: its tables would stand where the dataset's own are looked for. A server that
    is away for a while ends nothing.
    """
    if is_a_lab():
        return
    table = [
        {k: "" if v is None else str(v) for k, v in row.items() if k not in PATHS_ARE_FOR_SCRIPTS}
        for row in rows
    ]
    key = artifact_key(stage, dataset_id)
    try:
        create_table_artifact(table=table or [{"": "nothing"}], key=key, description=summary)
    except Exception as error:  # whatever the client raises
        _logger().warning("the table %s could not be shown: %s", key, type(error).__name__)


def progress_artifact(key: str) -> Callable[[float, str], None]:
    """What shows in the UI how far something is, in percent and in words.

    A server that is away for a while does not end what is shown, and one that is silent holds it up once. A
    simulated lab shows none, as of tables.
    """
    made: list[UUID] = []
    server = _Server()
    if is_a_lab():
        return lambda *_: None

    def show(percent: float, words: str) -> None:
        def tell() -> None:
            if made:
                update_progress_artifact(made[0], progress=percent, description=words)
            else:
                made.append(cast(UUID, create_progress_artifact(percent, key=key, description=words)))

        server.tell("progress", tell)

    return show


class _Server:
    """Prefect's, which is told something that may be lost."""

    def __init__(self) -> None:
        self._not_before_s = 0.0

    def tell(self, what: str, how: Callable[[], object]) -> None:
        """As Prefect does it, with its own tries; not at all for a while where it was silent for all of them.

        One that refuses is waited for each time: a task that ends while it is away is told to nobody.
        """
        began_s = time.monotonic()
        if began_s < self._not_before_s:
            return
        try:
            how()
        except Exception as error:  # whatever the client raises
            if isinstance(error, httpx.TimeoutException):
                self._not_before_s = time.monotonic() + RESTS * (time.monotonic() - began_s)
            _logger().warning("%s could not be shown: %s", what, type(error).__name__)


_JOBS = _Server()


def _logger() -> Any:
    try:
        return get_run_logger()
    except MissingContextError:  # called by itself, as a function
        return get_logger(__name__)


def log_broken(case_id: str, what: str, error: Exception) -> str:
    """Log that a case broke a step, and where; the kind of error.

    Its message may quote a patient's name, and the log goes to Prefect's database.
    """
    kind, place = type(error).__name__, traceback.extract_tb(error.__traceback__)[-1]
    _logger().error("case %s broke %s: %s in %s:%s", case_id, what, kind, place.name, place.lineno)
    return kind


def show_jobs(dataset_id: str, jobs: Sequence[Mapping[str, str]], logs_url: str | None) -> None:
    """Show the jobs of a run, each with its log as a link."""
    lines = ["| job | state | reason | node | log |", "| --- | --- | --- | --- | --- |"]
    for job in jobs:
        link = f"[{Path(job['log']).name}]({url_of(Path(job['log']), logs_url)})"
        lines.append(f"| {job['job']} | {job['state']} | {job['reason']} | {job['node']} | {link} |")
    page, key = "\n".join(lines), artifact_key("jobs", dataset_id)
    _JOBS.tell("the jobs", lambda: create_markdown_artifact(page, key=key, description="jobs of this run"))


def url_of(file: Path, logs_url: str | None) -> str:
    """Where a browser finds a file: where the cluster's files are served, or on a disk that it shares."""
    if logs_url is None:
        return file.as_uri()
    path = quote(str(file))
    return logs_url.replace("{path}", path) if "{path}" in logs_url else logs_url.rstrip("/") + path
