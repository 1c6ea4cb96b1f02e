"""Whether there is anything to do since the last complete run, told in seconds from a few small files."""

from __future__ import annotations

from typing import Any

from prefect import task

from tasks.cluster.retries import RETRIED
from tasks.delivery import files_below, signature_of
from tasks.ledger.dated import dated_folders
from tasks.ledger.files import digest_of, read_json, sha256_of_file, write_json
from tasks.ledger.inbox import Inbox
from tasks.ledger.journal import Journal
from tasks.ledger.lineages import load_lineages
from tasks.ledger.models import load_models
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.snapshots import MANIFEST, noted_snapshots, unsealed_folders
from tasks.settings.dataset import dataset_file, roi_file
from tasks.versions import versions

Digests = dict[str, str]


@task(task_run_name="anything-new", **RETRIED)
def nothing_new(dataset_id: str) -> bool:
    """Whether data, choices, code and results are those with which the last complete run ended."""
    paths = DatasetPaths.of(dataset_id)
    inbox = Inbox(paths.inbox)
    if not paths.last_run.is_file() or unsealed_folders(paths) or inbox.ready() or inbox.refused():
        return False
    last: dict[str, Any] = read_json(paths.last_run)
    return bool(last["inputs"] == inputs_of(paths) and last["results"] == results_of(paths))


@task(task_run_name="remember-run", **RETRIED)
def remember_run(dataset_id: str, inputs: Digests) -> None:
    """Note that a run is complete, unless something came in while it worked.

    Parameters
    ----------
    inputs
        What :func:`inputs_of` gave before the run prepared anything.
    """
    paths = DatasetPaths.of(dataset_id)
    if inputs == inputs_of(paths):
        write_json(paths.last_run, {"version": 1, "inputs": inputs, "results": results_of(paths)})


def inputs_of(paths: DatasetPaths) -> Digests:
    """Digests of all that decides what a run does: manifests, configuration, decisions, code."""
    noted = noted_snapshots(paths)
    folders = {str(name): folder for name, folder in dated_folders(paths.rawdata, paths.dataset_id).items()}
    manifests = {name: folder / MANIFEST for name, folder in folders.items()}
    by_hand = {
        # What a user puts into a folder of theirs later is a delivery of its own.
        name: signature_of(files_below(folder))
        for name, folder in folders.items()
        if noted.get(name, {}).get("origin") == "by hand"
    }
    configuration = [of(paths.config, paths.dataset_id) for of in (roi_file, dataset_file)]
    lineage = load_lineages(paths)[1] or 1  # the first run opens the first
    return {
        "snapshots": digest_of({n: sha256_of_file(m) for n, m in manifests.items() if m.is_file()}),
        "by_hand": digest_of(by_hand),
        "configuration": digest_of([file.read_text() if file.is_file() else None for file in configuration]),
        # A prediction that was accepted has become a label without any delivery, and one that was locked
        # waits to be sent.
        "decisions": digest_of(
            [*(Journal(path).head() for path in (paths.withdrawals, paths.refinements, paths.marks)), lineage]
        ),
        "code": digest_of(versions()),
    }


def results_of(paths: DatasetPaths) -> Digests:
    """Digests of what a run leaves: models, which of them is in use, what it predicted."""
    models = load_models(paths)
    in_use = str(paths.latest.readlink()) if paths.latest.is_symlink() else None
    predicted = sorted(p.name for p in paths.predicted.glob("*/*"))
    return {
        "models": digest_of([record.digest for record in models]),
        "latest": digest_of([in_use, paths.latest.exists(), paths.report.is_file()]),
        "predictions": digest_of(predicted),
    }
