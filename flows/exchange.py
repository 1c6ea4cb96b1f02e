"""Export and import: models go to plain nnU-Net and come from it.

Inputs: a model of the lineage, or a zip file. Output: a zip file, or the ancestor of a new lineage.
Commands: ``iterseg export DATASET``, ``iterseg import DATASET MODEL.zip``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from flows.parameters import DatasetId, Hidden, run_name
from tasks.exchange import export, take_model
from tasks.ledger.paths import DatasetPaths
from tasks.settings.dataset import load_dataset_settings
from tasks.shown.artifacts import show_table
from tasks.shown.progress import waiting
from tasks.state import require_known
from tasks.turn import turn_of


@flow(name="export", flow_run_name=run_name("export"))
def export_model(
    dataset_id: DatasetId,
    model: Annotated[str, Field(description="A model's id, or latest.")] = "latest",
    target: Annotated[Hidden | None, Field(description="The zip file; left out: below data/results.")] = None,
) -> dict[str, Any]:
    """Write a model as a zip file that plain nnU-Net installs."""
    paths = DatasetPaths.of(dataset_id)
    require_known(paths)
    with turn_of(paths), waiting("packing the model"):
        file = Path(target.get_secret_value()) if target else None
        outcome = export(paths.dataset_id, model, file)
    row = {key: outcome[key] for key in ("model", "sha256")}
    show_table("export", paths.dataset_id, [row], f"model {outcome['model']}")
    return {"stage": "export", **outcome}


@flow(name="import", flow_run_name=run_name("import"))
def import_model(
    dataset_id: DatasetId,
    archive: Annotated[Hidden, Field(description="A zip file, as nnUNetv2_export_model_to_zip writes it.")],
    names: Annotated[dict[str, str], Field(description="Their name of a structure → ours.")] = {},  # noqa: B006
) -> dict[str, Any]:
    """Make a model of plain nnU-Net the ancestor of a new lineage."""
    paths = DatasetPaths.of(dataset_id)
    settings = load_dataset_settings(paths.config, paths.dataset_id)
    with turn_of(paths), waiting("vetting the weights"):
        outcome = take_model(paths.dataset_id, Path(archive.get_secret_value()), names, settings)
    show_table("import", paths.dataset_id, [outcome], f"model {outcome['model']}")
    return {"stage": "import", **outcome}
