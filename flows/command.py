"""How a command runs: checked first, against a Prefect server, ending in an answer or one line of error."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import typer
from pydantic import SecretStr

from tasks.errors import ConfigError, IterSegError, TransientError


def run_flow(
    dataset: str,
    flow: Callable[[], dict[str, Any]],
    as_json: bool,
    verbose: bool,
    cluster: str | None = None,
    *,
    needs_data: bool = True,
    takes_data: bool = False,
) -> None:
    """Run a flow against a Prefect server and print what came out.

    Parameters
    ----------
    needs_data
        Whether the dataset must have some already.
    takes_data
        Whether it may get its first now, for which it must have been begun: a name that was mistyped would
        be another dataset, with another key.
    """
    try:
        _check(dataset, cluster, needs_data, takes_data)
        _quiet(verbose)
        report = _on_prefect(flow)
    except IterSegError as error:
        fail(error, as_json)
    except OSError as error:
        fail(_of_the_machine(error), as_json)
    except KeyboardInterrupt:
        fail(IterSegError("interrupted; run the command again to carry on"), as_json)
    except Exception as error:
        import httpx  # late: Prefect has it by now

        if not isinstance(error, httpx.HTTPError):
            raise
        fail(_of_the_server(error), as_json)
    show(report, as_json)


def _quiet(verbose: bool) -> None:
    """Logs do not stand between the user and the answer."""
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "INFO" if verbose else "CRITICAL")
    os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "info" if verbose else "critical")
    if not verbose:
        # Prefect's say that their queues are not empty yet; what a peer did, our own errors say.
        for name in ("EventsWorker", "APILogWorker", "pynetdicom"):
            logging.getLogger(name).setLevel(logging.CRITICAL)


def _on_prefect(flow: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    from tasks.processes.embedded_server import ensure_prefect_api
    from tasks.shown.progress import waiting

    with waiting("starting Prefect"):
        ensure_prefect_api()
        from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    # Nobody watches the heartbeat of a command: the next run marks one that was killed. Its end would
    # be waited for up to a second, for each flow.
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        return flow()


def _of_the_server(error: Exception) -> IterSegError:
    from prefect.settings import PREFECT_API_URL

    from tasks.processes.prefect_api import REFUSED, refused

    answer = getattr(error, "response", None)
    if answer is not None and answer.status_code in REFUSED:
        return refused(str(PREFECT_API_URL.value()))
    what = "does not answer any more" if answer is None else f"answers {answer.status_code} now"
    return TransientError(
        f"Prefect's server {what} ({type(error).__name__}). Run the command again when it does as it should: "
        "what is finished is kept"
    )


def _of_the_machine(error: OSError) -> IterSegError:
    return IterSegError(f"{error}. Mend it and run the command again: what is finished is kept")


def _check(dataset: str, cluster: str | None, needs_data: bool, takes_data: bool) -> None:
    """Say what is wrong in the configuration at once, before a server is started for it."""
    from tasks.ledger.paths import DatasetPaths
    from tasks.settings.cluster import load_cluster
    from tasks.settings.dataset import check_choices, load_dataset_settings
    from tasks.state import require_begun, require_known

    paths = DatasetPaths.of(dataset)
    load_dataset_settings(paths.config, dataset)
    if takes_data:
        require_begun(paths)
    if needs_data:
        require_known(paths)
    if cluster is not None:
        check_choices(paths.config, dataset)
        load_cluster(paths.config, cluster)


def checked(check: Callable[[Any], Any], value: Any, as_json: bool) -> Any:
    """An option as its check returns it; what is wrong with it ends the command."""
    try:
        return None if value is None else check(value)
    except IterSegError as error:
        fail(error, as_json)
    except OSError as error:
        fail(_of_the_machine(error), as_json)


def hidden(value: str | None) -> SecretStr | None:
    """An argument that Prefect's database shall not hold."""
    return None if value is None else SecretStr(value)


def existing_folder(folder: Path, option: str) -> str:
    """The absolute path of a folder that an option names."""
    if not folder.is_dir():
        raise ConfigError(f"{option} {folder}: there is no such folder")
    return str(folder.resolve())


def show(report: dict[str, Any], as_json: bool) -> None:
    """Print what came out: one JSON object, or sentences."""
    if as_json:
        typer.echo(json.dumps(report, default=str))
        return
    from flows.words import in_words

    typer.echo(in_words(report))


def fail(error: IterSegError, as_json: bool) -> NoReturn:
    """End with one line that says what is wrong, and the error's exit code."""
    if as_json:
        said = {"error": type(error).__name__, "message": str(error), **error.report}
        typer.echo(json.dumps(said, default=str))
    elif error.report.get("cases"):
        from flows.words import of_cases

        typer.echo("\n".join(of_cases(error.report)), err=True)
    typer.echo(f"error: {error}", err=True)
    sys.exit(error.exit_code)
