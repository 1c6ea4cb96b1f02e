"""Export and import: models go to plain nnU-Net and come from it.

Inputs: a model of the lineage, or a zip file. Output: a zip file, or the ancestor of a new lineage.
Commands: ``iterseg export DATASET``, ``iterseg import DATASET MODEL.zip``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow
from pydantic import Field, SecretStr

from flows.parameters import DatasetParameters, run_name, show_table
from tasks.exchange import export, take_model
from tasks.ledger.lock import dataset_lock
from tasks.ledger.paths import DatasetPaths
from tasks.settings import load_dataset_settings
from tasks.state import require_dataset


class ExportParameters(DatasetParameters):
    """Which model goes out, and whereto."""

    model: str = Field(default="latest", description="A model's id, or latest.")
    target: SecretStr | None = Field(default=None, description="The zip file; left out: below data/results.")


@flow(name="export", flow_run_name=run_name("export"))
def export_model(parameters: ExportParameters) -> dict[str, Any]:
    """Write a model as a zip file that plain nnU-Net installs."""
    paths = DatasetPaths.of(parameters.dataset_id)
    require_dataset(paths)
    with dataset_lock(paths.procdata):
        target = Path(parameters.target.get_secret_value()) if parameters.target else None
        outcome = export(paths.dataset_id, parameters.model, target)
    row = {key: outcome[key] for key in ("model", "sha256")}
    show_table("export", paths.dataset_id, [row], f"model {outcome['model']}")
    return {"stage": "export", **outcome}


class ImportParameters(DatasetParameters):
    """Which file comes in, and how its structures are called here."""

    archive: SecretStr = Field(description="A zip file, as nnUNetv2_export_model_to_zip writes it.")
    names: dict[str, str] = Field(default={}, description="Their name of a structure → ours.")


@flow(name="import", flow_run_name=run_name("import"))
def import_model(parameters: ImportParameters) -> dict[str, Any]:
    """Make a model of plain nnU-Net the ancestor of a new lineage."""
    paths = DatasetPaths.of(parameters.dataset_id)
    settings = load_dataset_settings(paths.config, paths.dataset_id)
    with dataset_lock(paths.procdata):
        archive = Path(parameters.archive.get_secret_value())
        outcome = take_model(paths.dataset_id, archive, parameters.names, settings)
    show_table("import", paths.dataset_id, [outcome], f"model {outcome['model']}")
    return {"stage": "import", **outcome}
