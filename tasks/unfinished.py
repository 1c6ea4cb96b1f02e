"""A training that was begun and is no model yet: it goes on before what came since is learned from."""

from __future__ import annotations

from tasks.errors import UserDataError
from tasks.inputs import Inputs
from tasks.ledger.iteration_paths import fold_folder
from tasks.ledger.iterations import Iteration, load_iterations
from tasks.ledger.lineages import load_lineages
from tasks.ledger.paths import DatasetPaths
from tasks.settings.dataset import check_choices
from tasks.train import candidate_folder, model_of, require_current


def unfinished_iteration(paths: DatasetPaths) -> Iteration | None:
    """The newest prepared iteration, where a fold of it has a checkpoint and it has become no model.

    Else each night that brings a label would begin anew what the night before did not finish, and no model
    would ever be made. None also where it would not be prepared like this any more: a case of it was
    withdrawn, another model is in use, or the user has chosen otherwise since. Whoever prepares a newer one
    by hand gives it up.
    """
    number = load_lineages(paths)[1]
    iterations = [i for i in load_iterations(paths).values() if i.lineage == number]
    if not iterations or model_of(paths, iterations[-1]) is not None or not _is_begun(paths, iterations[-1]):
        return None
    newest = iterations[-1]
    rois, settings = check_choices(paths.config, paths.dataset_id)
    try:
        require_current(paths, newest)
    except UserDataError:
        return None
    same = Inputs(newest.lineage, newest.cases, settings, rois).are_of(newest)
    return newest if same else None


def _is_begun(paths: DatasetPaths, iteration: Iteration) -> bool:
    folders = [candidate_folder(paths, iteration, control=control) for control in (False, True)]
    return any(
        any(fold_folder(folder, fold).glob("checkpoint_*.pth"))
        for folder in folders
        for fold in range(iteration.folds)
    )
