"""Preprocess single cases into the store, with nnU-Net's own preprocessor under frozen plans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from tasks.ledger.files import read_json, whole_folder
from tasks.nnunet.dataset import STORED_CASE
from tasks.processes.program import run_program, serve, started_early

ONE_PROCESS = {"nnUNet_def_n_proc": "1"}


def preprocess_cases(
    cases: Sequence[Mapping[str, str]],
    *,
    plans: Path,
    description: Path,
    configuration: str,
    log: Path,
) -> None:
    """Preprocess cases one after another, in a program of its own.

    ``DefaultPreprocessor.run`` empties the whole folder first and keeps its own pool; this runs
    ``run_case_save`` for what is new, which gives equal arrays (a test holds both against each other).

    Parameters
    ----------
    cases
        ``image``, ``label`` and ``folder`` (in the store) of each; folders that exist are kept.
    plans, description
        The plans and ``dataset.json``.
    configuration
        Such as ``3d_fullres``.
    """
    missing = [dict(case) for case in cases if not Path(case["folder"]).is_dir()]
    if not missing:
        return
    job = {
        "cases": missing,
        "plans": str(plans),
        "description": str(description),
        "configuration": configuration,
    }
    run_program(__name__, job, log, ONE_PROCESS)


def imported_early() -> AbstractContextManager[None]:
    """Let the program import torch while other work goes on.

    See :func:`tasks.processes.program.started_early`.
    """
    return started_early(__name__, ONE_PROCESS)


def _warm_up() -> None:
    import nnunetv2.preprocessing.preprocessors.default_preprocessor
    import nnunetv2.utilities.plans_handling.plans_handler  # noqa: F401


def _work(job: dict[str, Any]) -> None:
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    plans = PlansManager(read_json(Path(job["plans"])))
    configuration = plans.get_configuration(job["configuration"])
    description = read_json(Path(job["description"]))
    preprocessor = configuration.preprocessor_class(verbose=False)
    for case in job["cases"]:
        with whole_folder(Path(case["folder"])) as folder:
            preprocessor.run_case_save(
                str(folder / STORED_CASE),
                [case["image"]],
                case["label"],
                plans,
                configuration,
                description,
            )


if __name__ == "__main__":
    serve(_work, _warm_up)
