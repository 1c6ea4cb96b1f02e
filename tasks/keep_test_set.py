"""Who is in the test set, for ever, before anything is predicted that a person may draw over."""

from __future__ import annotations

from collections.abc import Collection

from prefect import task

from tasks.cluster.retries import RETRIED
from tasks.ledger.paths import DatasetPaths
from tasks.ledger.patients import extend_patients
from tasks.ledger.whole import require_nothing_lost
from tasks.ledger.withdrawals import load_withdrawals
from tasks.settings.dataset import DatasetSettings


@task(task_run_name="keep-test-set", **RETRIED)
def patients_of_test_set(
    dataset_id: str, patients: Collection[str], settings: DatasetSettings, *, from_outside: bool
) -> set[str]:
    """Which patients (keyed hash) are in the test set; those that are new to the ledger get their place.

    Whoever is predicted from outside the dataset can never be in it: a correction may come back.

    A test case must be drawn by hand, and never over a prediction, or the test would ask the model
    whether it agrees with itself.

    Raises
    ------
    UserDataError
        Where the ledger has lost what it held: everybody's place would be drawn anew.
    """
    paths = DatasetPaths.of(dataset_id)
    require_nothing_lost(paths)
    withdrawn = load_withdrawals(paths.withdrawals).patients
    table = extend_patients(
        paths.patients,
        (),
        settings.folds,
        settings.test_share,
        withdrawn,
        unlabelled=patients,
        every_fold=False,
        shown=from_outside,
    )
    return table.test
