"""Whether the ledger still holds what it held: one that was lost is no fresh start."""

from __future__ import annotations

from tasks.errors import UserDataError
from tasks.ledger.dated import dated_folders
from tasks.ledger.iteration_paths import IterationPaths
from tasks.ledger.iterations import Iteration, load_iteration
from tasks.ledger.journal import Journal
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.snapshots import require_whole


def require_nothing_lost(paths: DatasetPaths) -> None:
    """Raise :class:`UserDataError` for a journal that is not what it was, or a snapshot that is gone.

    Who was withdrawn would be trained on, who is in the test set be drawn anew, and plans be made anew.
    """
    require_whole(paths)
    newest = _newest(paths)
    for name, head in (newest.ledger if newest else {}).items():
        journal = Journal(paths.what_an_iteration_is_of[name])
        if newest and not journal.has_been_at(head):
            raise UserDataError(
                f"{journal.path} has lost what it held when {newest.name} was prepared. Restore the "
                "dataset from the backup, all of it of one moment and into an empty place "
                "(docs/operations.md): what is newer than the backup must not lie beside it"
            )


def _newest(paths: DatasetPaths) -> Iteration | None:
    folders = reversed(dated_folders(paths.procdata, paths.dataset_id).values())
    found = (load_iteration(IterationPaths(folder)) for folder in folders)
    return next((iteration for iteration in found if iteration is not None), None)
