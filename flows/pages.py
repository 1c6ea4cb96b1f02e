"""What a dataset shows of itself: worklist, report, and their tables in the UI."""

from __future__ import annotations

from prefect.logging import get_run_logger

from tasks.errors import IterSegError
from tasks.ledger.models import load_models
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.snapshots import load_snapshots
from tasks.report import effort_by_model, write_report
from tasks.review.report import effort_row
from tasks.settings.dataset import load_dataset_settings
from tasks.shown.artifacts import show_table
from tasks.shown.progress import told
from tasks.worklist import write_worklist


def write_pages(paths: DatasetPaths) -> None:
    """Write worklist and report anew; there is nothing to say of what has only an imported model yet."""
    if not load_snapshots(paths):
        return
    rows = write_worklist(paths.dataset_id)
    write_report(paths.dataset_id)
    strategy = load_dataset_settings(paths.config, paths.dataset_id).review.strategy.replace("_", " ")
    show_table("worklist", paths.dataset_id, rows, f"{len(rows)} images wait, by {strategy}")
    cost = [effort_row(row) for row in effort_by_model(paths, load_models(paths))]
    show_table("effort", paths.dataset_id, cost, "what corrections cost, by the model that predicted")


def write_pages_if_possible(paths: DatasetPaths) -> None:
    """The same behind what is done in any case, such as a withdrawal: settings may be wrong by then."""
    try:
        write_pages(paths)
    except (IterSegError, OSError) as error:
        told(f"worklist and report are as they were: {error}")
        get_run_logger().warning("worklist and report are as they were: %s", error)
