"""The command line: each command runs the flow of its name.

torch and Prefect are imported where a flow runs, so that everything else answers at once.
"""

from __future__ import annotations

import atexit
import gc
import os
from importlib.metadata import version
from typing import Annotated

import typer

from flows.cli_doctor import of_doctor
from flows.cli_init import of_init
from flows.cli_models import of_models
from flows.cli_review import of_review
from flows.cli_simulate import of_simulation
from flows.cli_stages import of_stages

app = typer.Typer(
    help="Teach a segmentation model your own anatomy, night after night.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)

for commands in (of_init, of_doctor, of_stages, of_review, of_models, of_simulation):
    app.add_typer(commands)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"iterseg {version('iterseg')}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None: ...


def main() -> None:
    """The entry point of ``iterseg``."""
    # Nothing phones home; Prefect asks for these as soon as it is imported.
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    # The imports of Prefect and the rows of a manifest are hundreds of thousands of objects that stay: the
    # collector's default goes through them again and again, 0.4 s of a command with 1,000 cases.
    gc.set_threshold(100_000, 50, 50)
    # Python goes through all of them once more before it ends, to free what the system frees anyway.
    atexit.register(gc.freeze)
    app()


if __name__ == "__main__":
    main()
