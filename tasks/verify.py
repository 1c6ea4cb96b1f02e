"""Verify: whether what the ledger says of a dataset's files is still so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks.ledger.files import read_json, sha256_of_file
from tasks.ledger.iterations import load_iteration
from tasks.ledger.models import load_models
from tasks.ledger.paths import DatasetPaths, IterationPaths, dated_folders
from tasks.ledger.snapshots import load_snapshots
from tasks.nnunet.dataset import preparation_digest


def verify_dataset(paths: DatasetPaths) -> dict[str, Any]:
    """Hash every file of the snapshots and every checkpoint again, and look at plans and links.

    Returns
    -------
    ``checked`` (counts) and ``findings``: sentences that name snapshot and instance, model and fold,
    but no path of a delivery.
    """
    findings: list[str] = []
    checked = {"files": 0, "checkpoints": 0, "iterations": 0}
    for kind, finding in (*_snapshots(paths), *_models(paths), *_iterations(paths)):
        checked[kind] += 1
        if finding:
            findings.append(finding)
    return {"checked": checked, "findings": findings}


def _snapshots(paths: DatasetPaths) -> Iterator[tuple[str, str | None]]:
    for snapshot in load_snapshots(paths):
        for number, row in enumerate(snapshot.files, start=1):
            if row.state != "taken":
                continue
            fate = _compare(snapshot.folder / row.path, row.sha256)
            uid = (row.header or {}).get("sop_instance_uid", "?")
            yield "files", fate and f"{snapshot.name}, file {number} of its manifest ({uid}) {fate}"


def _models(paths: DatasetPaths) -> Iterator[tuple[str, str | None]]:
    for record in load_models(paths):
        for fold, digest in record.checkpoints.items():
            fate = _compare(paths.home / record.folder / f"fold_{fold}" / "checkpoint_final.pth", digest)
            yield "checkpoints", fate and f"model {record.model_id}, fold {fold} {fate}"


def _iterations(paths: DatasetPaths) -> Iterator[tuple[str, str | None]]:
    for name, folder in dated_folders(paths.procdata, paths.dataset_id).items():
        at = IterationPaths(folder)
        iteration = load_iteration(at)
        if iteration is None:
            continue
        broken = sum(link.is_symlink() and not link.exists() for link in folder.rglob("*"))
        plans, description = (
            at.preprocessed / f"{iteration.plans_name}.json",
            at.preprocessed / "dataset.json",
        )
        fate = f"has {broken} links to cases that are gone" if broken else None
        if not (plans.is_file() and description.is_file()):
            fate = "has lost its plans"
        elif (
            preparation_digest(read_json(plans), iteration.configuration, read_json(description))
            != iteration.preparation
        ):
            fate = "has other plans or labels than it was prepared with"
        yield "iterations", fate and f"iteration {name} {fate}"


def _compare(file: Path, digest: str) -> str | None:
    if not file.is_file():
        return "is gone"
    return None if sha256_of_file(file) == digest else "has another content than was recorded"
