"""The commands about models: what they are, whether they still fit, which is in use, in and out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import SecretStr

from flows.command import checked, hidden, run_flow, show
from flows.options import AsJson, Dataset, Verbose
from tasks.errors import ConfigError
from tasks.ledger.lineages import LONGEST_REASON

of_models = typer.Typer()


@of_models.command(rich_help_panel="Models")
def plan(
    dataset: Dataset,
    new_lineage: Annotated[
        bool, typer.Option("--new-lineage", help="Plan anew and train from scratch, from now on.")
    ] = False,
    why: Annotated[str, typer.Option(help="The reason, for the record.")] = "the user's decision",
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Whether the frozen plans still fit the grown data. Example: iterseg plan PM_IASLC"""
    reason = checked(_short, why, as_json)

    def run() -> dict[str, Any]:
        from flows.plan import plan as flow

        return flow(dataset_id=dataset, new_lineage=new_lineage, why=reason)

    run_flow(dataset, run, as_json, verbose)


@of_models.command(rich_help_panel="Models")
def models(dataset: Dataset, as_json: AsJson = False) -> None:
    """The lineage of models, and how each was judged. Example: iterseg models PM_IASLC"""
    from flows.status import models_of

    show(checked(models_of, dataset, as_json), as_json)


@of_models.command(rich_help_panel="Models")
def rollback(
    dataset: Dataset,
    model: Annotated[str, typer.Argument(help="A model's id, as `iterseg models` lists it.")],
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Put a former model into use. Example: iterseg rollback PM_IASLC 2026-11-22"""

    def run() -> dict[str, Any]:
        from flows.rollback import rollback as flow

        return flow(dataset_id=dataset, model=model)

    run_flow(dataset, run, as_json, verbose)


@of_models.command(rich_help_panel="Models")
def export(
    dataset: Dataset,
    model: Annotated[str, typer.Option(help="A model's id, or latest.")] = "latest",
    target: Annotated[Path | None, typer.Option("--to", help="The zip file to write.")] = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Write a model as a zip file for plain nnU-Net. Example: iterseg export PM_IASLC --to liver.zip"""
    file = checked(_new_zip, target, as_json)

    def run() -> dict[str, Any]:
        from flows.exchange import export_model

        return export_model(dataset_id=dataset, model=model, target=hidden(file))

    run_flow(dataset, run, as_json, verbose)


@of_models.command("import", rich_help_panel="Models")
def import_(
    dataset: Dataset,
    archive: Annotated[Path, typer.Argument(help="A zip file, as nnUNetv2_export_model_to_zip writes it.")],
    names: Annotated[
        list[str] | None, typer.Option("--map", metavar="THEIRS=OURS", help="A structure; may repeat.")
    ] = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Begin with a model of plain nnU-Net. Example: iterseg import PM_IASLC liver.zip --map tumor=GTV"""
    file = checked(_zip, archive, as_json)
    pairs = checked(_names, names or [], as_json)

    def run() -> dict[str, Any]:
        from flows.exchange import import_model

        return import_model(dataset_id=dataset, archive=SecretStr(file), names=pairs)

    run_flow(dataset, run, as_json, verbose, needs_data=False)


def _new_zip(file: Path) -> str:
    if file.suffix != ".zip" or not file.resolve().parent.is_dir():
        raise ConfigError(f"--to {file}: give the name of a .zip file in a folder that exists")
    return str(file.resolve())


def _zip(file: Path) -> str:
    if not file.is_file():
        raise ConfigError(f"{file}: there is no such file")
    return str(file.resolve())


def _names(pairs: list[str]) -> dict[str, str]:
    """``THEIRS=OURS``, each name once."""
    names: dict[str, str] = {}
    for pair in pairs:
        theirs, _, ours = pair.partition("=")
        if not (theirs and ours) or theirs in names or ours in names.values():
            raise ConfigError(f"--map {pair}: write THEIRS=OURS, each name once")
        names[theirs] = ours
    return names


def _short(reason: str) -> str:
    if len(reason) > LONGEST_REASON:
        raise ConfigError(f"--why: write a reason of at most {LONGEST_REASON} characters")
    return reason
