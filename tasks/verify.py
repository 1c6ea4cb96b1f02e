"""Verify: whether what the ledger says of a dataset's files is still so."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tasks.delivery import not_accounted
from tasks.errors import UserDataError
from tasks.ledger.dataset_key import pseudonyms_of
from tasks.ledger.files import digest_of, json_files, read_json, sha256_of_file
from tasks.ledger.iterations import load_iterations
from tasks.ledger.journal import Journal
from tasks.ledger.lineages import load_lineages, plans_of
from tasks.ledger.models import load_models, load_promotions, noted_models
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.predictions import object_file
from tasks.ledger.snapshots import MANIFEST, load_snapshots, noted_snapshots
from tasks.nnunet.dataset import DESCRIPTION, preparation_digest
from tasks.shown.progress import progress

FILES_TOO_MANY = (
    "files that its manifest does not name, and that count for nothing. What somebody has put there belongs "
    "into a folder of today; what a restore has brought back of who is withdrawn `iterseg withdraw --delete` "
    "deletes again"
)


def verify_dataset(paths: DatasetPaths) -> dict[str, Any]:
    """Hash every file of the snapshots and every checkpoint again, and look at plans, links and journals.

    Returns
    -------
    ``checked`` (counts) and ``findings``: sentences that name snapshot and instance, model and fold,
    but no path of a delivery.
    """
    findings: list[str] = []
    checked = {"files": 0, "checkpoints": 0, "iterations": 0, "records": 0}
    kinds = (_key(paths), _snapshots(paths), _models(paths), _iterations(paths), _records(paths))
    hashed = sum(len(snapshot.taken) for snapshot in load_snapshots(paths))  # the others are few beside them
    for kind, finding in progress(itertools.chain(*map(_to_its_end, kinds)), "verify", hashed):
        checked[kind] += 1
        if finding:
            findings.append(finding)
    return {"checked": checked, "findings": findings}


def _to_its_end(looks: Iterator[tuple[str, str | None]]) -> Iterator[tuple[str, str | None]]:
    """What cannot even be read is what this looks for."""
    try:
        yield from looks
    except UserDataError as error:
        yield "records", str(error)


def _key(paths: DatasetPaths) -> Iterator[tuple[str, str | None]]:
    """Without it, or under another one, nobody would be known again."""
    if load_snapshots(paths):
        yield "records", _finding(partial(pseudonyms_of, paths))


def _records(paths: DatasetPaths) -> Iterator[tuple[str, str | None]]:
    """Journals whose chain is whole and has only grown; manifests, plans and models that are as noted."""
    others = (paths.promotions, paths.model_digests, paths.iterations)
    files = {**paths.what_an_iteration_is_of, **{path.stem: path for path in others}}
    journals = {name: Journal(path) for name, path in files.items()}
    broken = {name: _finding(journal.entries) for name, journal in journals.items()}
    for finding in broken.values():
        yield "records", finding
    if any(broken.values()):
        return  # what follows is read from them
    for name, iteration in load_iterations(paths).items():
        for journal, head in iteration.ledger.items():
            lost = f"the ledger's {journal}.json has lost entries since iteration {name}"
            yield "records", None if journals[journal].has_been_at(head) else lost
    for snapshot, noted in noted_snapshots(paths).items():
        fate = _compare(paths.snapshot(snapshot) / MANIFEST, noted["manifest_sha256"])
        yield "records", fate and f"the manifest of {snapshot} {fate}"
    for lineage in load_lineages(paths)[0].values():
        if lineage.plans is not None:
            yield "records", _finding(partial(plans_of, paths, lineage))
    yield from _ancestry(paths)


def _ancestry(paths: DatasetPaths) -> Iterator[tuple[str, str | None]]:
    """Each model names its parent by digest, and so does the history of what was in use."""
    digests = {record.model_id: record.digest for record in load_models(paths)}
    noted = {e["iteration"]: e["digest"] for e in Journal(paths.iterations).entries()}
    for model, digest in noted_models(paths).items():
        same = digests.get(model) == digest
        yield "records", None if same else f"the record of model {model} is not what was written"
    for name, digest in noted.items():
        record_file = paths.iteration_named(name).record
        same = record_file.is_file() and digest_of(read_json(record_file)) == digest
        yield "records", None if same else f"the record of iteration {name} is not what was written"
    for file in json_files(paths.sent):
        yield "records", _prediction(paths, read_json(file))
    for record in load_models(paths):
        if record.parent_digest is not None and record.parent is not None:
            same = digests.get(record.parent) == record.parent_digest
            yield (
                "records",
                None if same else f"model {record.parent} is not what {record.model_id} came from",
            )
    for entry in load_promotions(paths):
        same = digests.get(entry["model"]) == entry["digest"]
        yield "records", None if same else f"model {entry['model']} is not what was put into use"


def _prediction(paths: DatasetPaths, sent: dict[str, Any]) -> str | None:
    """A prediction that lies where it was written is what was written; it may be deleted."""
    file = object_file(paths.predictions(sent["model"]), sent["case_id"], sent.get("kind", "SEG"))
    same = not file.is_file() or sha256_of_file(file) == sent["sha256"]
    return None if same else f"the prediction of {sent['case_id']} by {sent['model']} was changed"


def _finding(check: Callable[[], object]) -> str | None:
    try:
        check()
    except UserDataError as error:
        return str(error)
    return None


def _snapshots(paths: DatasetPaths) -> Iterator[tuple[str, str | None]]:
    for snapshot in load_snapshots(paths):
        for number, row in enumerate(snapshot.files, start=1):
            if row.state != "taken":
                continue
            fate = _compare(snapshot.folder / row.path, row.sha256)
            uid = (row.header or {}).get("sop_instance_uid", "?")
            yield "files", fate and f"{snapshot.name}, file {number} of its manifest ({uid}) {fate}"
        if snapshot.origin != "by hand" and (strangers := len(not_accounted(snapshot))):
            yield "files", f"{snapshot.name} has {strangers} {FILES_TOO_MANY}"


def _models(paths: DatasetPaths) -> Iterator[tuple[str, str | None]]:
    for record in load_models(paths):
        for fold, digest in record.checkpoints.items():
            fate = _compare(record.checkpoint(paths, fold), digest)
            yield "checkpoints", fate and f"model {record.model_id}, fold {fold} {fate}"


def _iterations(paths: DatasetPaths) -> Iterator[tuple[str, str | None]]:
    for name, iteration in load_iterations(paths).items():
        at = paths.iteration(name)
        broken = sum(link.is_symlink() and not link.exists() for link in at.root.rglob("*"))
        plans, description = (
            at.preprocessed / f"{iteration.plans_name}.json",
            at.preprocessed / DESCRIPTION,
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
